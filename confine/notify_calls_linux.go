package confine

import (
	"slices"

	"golang.org/x/sys/unix"
)

// supervisedCalls are the calls that make, open for writing, move or remove a name,
// those that change a mode or an extended attribute, and those that reach for the
// network, on this architecture.
var supervisedCalls = slices.Concat([]supervisedCall{
	{nr: unix.SYS_OPENAT, kind: callOpen, dir: 0, path: 1, flags: 2, mode: 3},
	{nr: unix.SYS_MKDIRAT, kind: callMkdir, dir: 0, path: 1, flags: none, mode: 2},
	{nr: unix.SYS_MKNODAT, kind: callMknod, dir: 0, path: 1, flags: 3, mode: 2},
	{nr: unix.SYS_UNLINKAT, kind: callUnlink, dir: 0, path: 1, flags: 2},
	{nr: unix.SYS_RENAMEAT, kind: callRename, dir: 0, path: 1, dir2: 2, path2: 3, flags: none},
	{nr: unix.SYS_RENAMEAT2, kind: callRename, dir: 0, path: 1, dir2: 2, path2: 3, flags: 4},
	{nr: unix.SYS_LINKAT, kind: callLink, dir: 0, path: 1, dir2: 2, path2: 3, flags: 4},
	{nr: unix.SYS_SYMLINKAT, kind: callSymlink, path: 0, dir2: 1, path2: 2, flags: none},
	{nr: unix.SYS_TRUNCATE, kind: callTruncate, dir: none, path: 0, flags: none, mode: 1},
	{nr: unix.SYS_FCHMOD, kind: callChmod, dir: 0, path: none, flags: none, mode: 1},
	{nr: unix.SYS_FCHMODAT, kind: callChmod, dir: 0, path: 1, flags: none, mode: 2},
	{nr: unix.SYS_FCHMODAT2, kind: callChmod, dir: 0, path: 1, flags: 3, mode: 2},
	{nr: unix.SYS_SETXATTR, kind: callSetxattr, dir: none, path: 0, flags: none},
	{nr: unix.SYS_LSETXATTR, kind: callLsetxattr, dir: none, path: 0, flags: none},
	{nr: unix.SYS_FSETXATTR, kind: callSetxattr, dir: 0, path: none, flags: none},
	{nr: unix.SYS_REMOVEXATTR, kind: callRemovexattr, dir: none, path: 0, flags: none},
	{nr: unix.SYS_LREMOVEXATTR, kind: callLremovexattr, dir: none, path: 0, flags: none},
	{nr: unix.SYS_FREMOVEXATTR, kind: callRemovexattr, dir: 0, path: none, flags: none},
	{nr: setxattrat, kind: callXattrat, dir: none, path: none, flags: none},
	{nr: removexattrat, kind: callXattrat, dir: none, path: none, flags: none},
	{nr: unix.SYS_BIND, kind: callBind, dir: 0, path: 1, flags: 2},
	{nr: unix.SYS_CONNECT, kind: callConnect, dir: 0, path: 1, flags: 2},
	{nr: unix.SYS_SOCKET, kind: callSocket, dir: none, path: none, flags: none},
}, olderCalls[:])
