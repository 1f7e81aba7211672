package workspace

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// enter gives the calling goroutine the file system identity of the session's
// owner until leave is called (setfsuid(2), setfsgid(2), and setgroups(2) by
// its raw call, which all act on one thread only). A server that runs as root
// can then do to files exactly what the session's commands can. It does nothing
// unless Options.ActAsOwner asked for it.
func (f *FS) enter() (leave func(), err error) {
	if !f.actAs {
		return func() {}, nil
	}
	runtime.LockOSThread()
	leave = func() {
		// Back to root first: the groups need its capability.
		if !setFSIdentity(0, 0) || setThreadGroups(f.groups) != nil {
			// The thread must not serve anybody else. A goroutine that ends
			// while locked takes its thread along.
			panic("workspace: the file system identity of a thread cannot be restored")
		}
		runtime.UnlockOSThread()
	}
	if err := setThreadGroups(nil); err != nil || !setFSIdentity(f.opts.OwnerUID, f.opts.OwnerGID) {
		leave()
		return nil, failCause(err, codeInternal, "the server cannot take the identity of the session's user, ask its operator to check it")
	}
	return leave, nil
}

// setFSIdentity reports whether it worked; the calls themselves only return
// what was before.
func setFSIdentity(uid, gid int) bool {
	if uid != 0 {
		unix.SetfsgidRetGid(gid)
		unix.SetfsuidRetUid(uid)
	} else {
		unix.SetfsuidRetUid(uid)
		unix.SetfsgidRetGid(gid)
	}
	u, _ := unix.SetfsuidRetUid(-1)
	g, _ := unix.SetfsgidRetGid(-1)
	return u == uid && g == gid
}

// checkIdentity prepares enter.
func (f *FS) checkIdentity() error {
	if !f.opts.ActAsOwner || os.Geteuid() != 0 {
		return nil // an ordinary user acts as itself
	}
	if f.opts.OwnerUID <= 0 || f.opts.OwnerGID <= 0 || os.Getegid() != 0 {
		return fail(codeInvalid, "acting as the owner needs the user and group of an ordinary user; set both")
	}
	groups, err := unix.Getgroups()
	if err != nil {
		return fromErrno(err, "")
	}
	f.groups = make([]uint32, len(groups))
	for i, g := range groups {
		f.groups[i] = uint32(g)
	}
	f.actAs = true
	return nil
}

// setThreadGroups sets the supplementary groups of this thread alone. The
// wrapper of package syscall would set those of the whole process.
func setThreadGroups(groups []uint32) error {
	var p unsafe.Pointer
	if len(groups) > 0 {
		p = unsafe.Pointer(&groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(p), 0); errno != 0 {
		return errno
	}
	return nil
}
