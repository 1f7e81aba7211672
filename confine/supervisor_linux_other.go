//go:build linux && !amd64

package confine

import "golang.org/x/sys/unix"

// guardedCalls are the calls that make a name. The newer architectures have
// only those that take a directory.
var supervisedCalls = [...]supervisedCall{
	{nr: unix.SYS_OPENAT, dir: 0, path: 1, flags: 2},
	{nr: unix.SYS_OPENAT2, dir: 0, path: 1, flags: howFlags},
	{nr: unix.SYS_MKDIRAT, dir: 0, path: 1, flags: -1},
	{nr: unix.SYS_MKNODAT, dir: 0, path: 1, flags: -1},
	{nr: unix.SYS_RENAMEAT, dir: 2, path: 3, flags: -1, whole: true},
	{nr: unix.SYS_RENAMEAT2, dir: 2, path: 3, flags: -1, whole: true},
	{nr: unix.SYS_LINKAT, dir: 2, path: 3, flags: -1, whole: true},
	{nr: unix.SYS_SYMLINKAT, dir: 1, path: 2, flags: -1, whole: true},
}
