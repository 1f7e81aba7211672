package confine

import "golang.org/x/sys/unix"

// guardedCalls are the calls that make a name, on this architecture.
var supervisedCalls = [...]supervisedCall{
	{nr: unix.SYS_OPENAT, dir: 0, path: 1, flags: 2},
	{nr: unix.SYS_OPEN, dir: -1, path: 0, flags: 1},
	{nr: unix.SYS_CREAT, dir: -1, path: 0, flags: -1},
	{nr: unix.SYS_OPENAT2, dir: 0, path: 1, flags: howFlags},
	{nr: unix.SYS_MKDIR, dir: -1, path: 0, flags: -1},
	{nr: unix.SYS_MKDIRAT, dir: 0, path: 1, flags: -1},
	{nr: unix.SYS_MKNOD, dir: -1, path: 0, flags: -1},
	{nr: unix.SYS_MKNODAT, dir: 0, path: 1, flags: -1},
	{nr: unix.SYS_RENAME, dir: -1, path: 1, flags: -1, whole: true},
	{nr: unix.SYS_RENAMEAT, dir: 2, path: 3, flags: -1, whole: true},
	{nr: unix.SYS_RENAMEAT2, dir: 2, path: 3, flags: -1, whole: true},
	{nr: unix.SYS_LINK, dir: -1, path: 1, flags: -1, whole: true},
	{nr: unix.SYS_LINKAT, dir: 2, path: 3, flags: -1, whole: true},
	{nr: unix.SYS_SYMLINK, dir: -1, path: 1, flags: -1, whole: true},
	{nr: unix.SYS_SYMLINKAT, dir: 1, path: 2, flags: -1, whole: true},
}
