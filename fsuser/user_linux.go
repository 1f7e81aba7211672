package fsuser

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// New gives the user uid of group gid, nil in a server that is not root: it has no
// other rights than its user's. uid 0 is root without its power over the files of
// others (capabilities(7)), which is what an id-mapped mount makes of it for a
// session.
func New(uid, gid int) (*User, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if uid < 0 || gid < 0 || os.Getegid() != 0 {
		return nil, unix.EINVAL
	}
	groups, err := unix.Getgroups()
	if err != nil {
		return nil, err
	}
	u := &User{uid: uid, gid: gid}
	for _, g := range groups {
		u.groups = append(u.groups, uint32(g))
	}
	return u, nil
}

// Enter gives the calling goroutine the user's rights over files until leave is
// called (setfsuid(2), setfsgid(2), capset(2), and setgroups(2) by its raw call,
// which all act on one thread only).
func (u *User) Enter() (leave func(), err error) {
	if u == nil {
		return func() {}, nil
	}
	runtime.LockOSThread()
	var had capabilities
	leave = func() {
		// Back to root first: the groups need its capability.
		if u.others() && !setIDs(0, 0) || u.uid == 0 && had.set() != nil || setGroups(u.groups) != nil {
			// The thread must not serve anybody else. A goroutine that ends
			// while locked takes its thread along.
			panic("fsuser: the file system identity of a thread cannot be restored")
		}
		runtime.UnlockOSThread()
	}
	if err := had.get(); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	err = setGroups(nil)
	if err == nil && u.uid == 0 {
		without := had
		for i := range without {
			without[i].Effective &^= overFiles[i]
		}
		err = without.set()
	}
	if err == nil && u.others() && !setIDs(u.uid, u.gid) {
		err = unix.EPERM
	}
	if err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// others says whether the ids are others than the server's. Where they are not, Enter
// needs eight system calls fewer.
func (u *User) others() bool { return u.uid != 0 || u.gid != 0 }

// overFiles are the capabilities that the kernel takes from a thread whose fsuid
// stops being 0 (CAP_FS_SET, linux/capability.h).
var overFiles = [2]uint32{
	1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER |
		1<<unix.CAP_FSETID | 1<<unix.CAP_LINUX_IMMUTABLE | 1<<unix.CAP_MKNOD,
	1 << (unix.CAP_MAC_OVERRIDE - 32),
}

// capabilities are those of the calling thread (capget(2)).
type capabilities [2]unix.CapUserData

func (c *capabilities) get() error {
	return unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &c[0])
}

func (c *capabilities) set() error {
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &c[0])
}

// setIDs reports whether it worked; the calls themselves only return what was
// before.
func setIDs(uid, gid int) bool {
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

// setGroups sets the supplementary groups of this thread alone. The wrapper of
// package syscall would set those of the whole process.
func setGroups(groups []uint32) error {
	var p unsafe.Pointer
	if len(groups) > 0 {
		p = unsafe.Pointer(&groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(p), 0); errno != 0 {
		return errno
	}
	return nil
}
