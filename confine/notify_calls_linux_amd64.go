package confine

import "golang.org/x/sys/unix"

// olderCalls are those of the supervised calls that newer architectures are without:
// they take no directory.
var olderCalls = [...]supervisedCall{
	{nr: unix.SYS_OPEN, kind: callOpen, dir: none, path: 0, flags: 1, mode: 2},
	{nr: unix.SYS_CREAT, kind: callOpen, dir: none, path: 0, flags: none, mode: 1},
	{nr: unix.SYS_MKDIR, kind: callMkdir, dir: none, path: 0, flags: none, mode: 1},
	{nr: unix.SYS_MKNOD, kind: callMknod, dir: none, path: 0, flags: 2, mode: 1},
	{nr: unix.SYS_UNLINK, kind: callUnlink, dir: none, path: 0, flags: none},
	{nr: unix.SYS_RMDIR, kind: callRmdir, dir: none, path: 0, flags: none},
	{nr: unix.SYS_RENAME, kind: callRename, dir: none, path: 0, dir2: none, path2: 1, flags: none},
	{nr: unix.SYS_LINK, kind: callLink, dir: none, path: 0, dir2: none, path2: 1, flags: none},
	{nr: unix.SYS_SYMLINK, kind: callSymlink, path: 0, dir2: none, path2: 1, flags: none},
	{nr: unix.SYS_CHMOD, kind: callChmod, dir: none, path: 0, flags: none, mode: 1},
}
