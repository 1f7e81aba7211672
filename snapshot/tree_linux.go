package snapshot

import (
	"errors"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// openBeneath resolves rel in one step with openat2(2), Linux 5.6.
// RESOLVE_NO_XDEV also refuses bind mounts of the same file system, which
// device numbers would not show.
func openBeneath(dir int, rel string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for range 64 {
		fd, err := unix.Openat2(dir, rel, &how)
		// EAGAIN: a rename raced with the walk, openat2(2).
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// chmodAt changes the mode of name itself, never of what a link put in its
// place points to. Before Linux 6.6 (fchmodat2) the way is an O_PATH
// descriptor and its name in /proc.
func chmodAt(dir int, name string, mode uint32) error {
	err := unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, perr := openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if perr != nil {
		return perr
	}
	defer unix.Close(fd)
	st, perr := fstat(fd)
	if perr != nil {
		return perr
	}
	if st.mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.ELOOP
	}
	return os.Chmod("/proc/self/fd/"+strconv.Itoa(fd), os.FileMode(mode&0o777)|sticky(mode))
}

func sticky(mode uint32) os.FileMode {
	var m os.FileMode
	if mode&unix.S_ISVTX != 0 {
		m |= os.ModeSticky
	}
	if mode&unix.S_ISGID != 0 {
		m |= os.ModeSetgid
	}
	return m
}

// exchange swaps two names in one step.
func exchange(adir int, a string, bdir int, b string) error {
	err := unix.Renameat2(adir, a, bdir, b, unix.RENAME_EXCHANGE)
	if err == unix.EXDEV && (treecopy.Refused(adir, a, bdir) || treecopy.Refused(bdir, b, adir)) {
		return unix.ENOTSUP // in two steps, see moveName
	}
	return err
}

// moveName is rename(2), also for a directory of the lower layer of an overlay.
func moveName(adir int, a string, bdir int, b string) error {
	return new(treecopy.Copier).Rename(adir, a, bdir, b, 0)
}

// renameNew renames, failing with EEXIST if the new name is there.
func renameNew(adir int, a string, bdir int, b string) error {
	err := unix.Renameat2(adir, a, bdir, b, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return renameChecked(adir, a, bdir, b)
	}
	return err
}

// storedXattr: the only namespace an ordinary user owns. "security" and
// "trusted" carry rights (file capabilities), "system" holds ACLs that name
// other users.
func storedXattr(name string) bool { return len(name) > 5 && name[:5] == "user." }

// accessTime leaves the atime as it is.
func accessTime() unix.Timespec { return unix.Timespec{Nsec: unix.UTIME_OMIT} }

// spread asks ext4 to put directories made in fd anywhere on the disk and not near
// it (FS_TOPDIR_FL, chattr(1) +T). Near it lie the inodes of what was removed
// in the workspace, and ext4 steps over each one removed in the last seconds
// again and again: undoing an rm -rf at once would take several times as long.
// Other file systems refuse, which is fine.
func spread(fd int) {
	if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil {
		unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|fsTopdir))
	}
}

const fsTopdir = 0x00020000 // linux/fs.h FS_TOPDIR_FL

// mayWriteDir asks by the rights of the calling thread (faccessat2(2), Linux 5.8).
// Earlier kernels say ENOSYS: a root server restores nothing into directories of others
// there.
func mayWriteDir(fd int) error {
	empty := [1]byte{}
	_, _, e := unix.Syscall6(unix.SYS_FACCESSAT2, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		unix.W_OK|unix.X_OK, unix.AT_EACCESS|unix.AT_EMPTY_PATH, 0, 0)
	if e == unix.ENOSYS {
		e = unix.EACCES
	}
	if e != 0 {
		return e
	}
	return nil
}
