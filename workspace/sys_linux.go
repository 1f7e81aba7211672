package workspace

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"
)

// openDirFlags open a directory to walk through. O_PATH asks for no read
// permission, so a directory with only the search bit can be crossed, and it
// starts no device and waits for no FIFO.
const openDirFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// openInodeFlags hold on to whatever a name is, without opening it for anything.
const openInodeFlags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC

// renameNew moves a name where nothing may exist yet (renameat2(2),
// RENAME_NOREPLACE).
func renameNew(fromDir int, from string, toDir int, to string) error {
	return unix.Renameat2(fromDir, from, toDir, to, unix.RENAME_NOREPLACE)
}

// renameSwap exchanges two existing names in one step (RENAME_EXCHANGE).
func renameSwap(fromDir int, from string, toDir int, to string) error {
	return unix.Renameat2(fromDir, from, toDir, to, unix.RENAME_EXCHANGE)
}

// beingWritten tells whether some process has the file open for writing: a read
// lease is refused then (fcntl(2), F_SETLEASE). It is false where that cannot be
// told: a file of somebody else, a file system without leases.
func beingWritten(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return err == unix.EAGAIN
}

// announceWait tells other servers that this one waits for the lock of a
// directory, or that it does no longer. The announcement is a shared record lock
// (fcntl(2), F_OFD_SETLK), which is independent of flock(2), can be taken on a
// directory and goes with the descriptor. A file system without such locks has
// no order between servers.
func announceWait(fd int, on bool) {
	l := unix.Flock_t{Type: unix.F_UNLCK, Len: 1}
	if on {
		l.Type = unix.F_RDLCK
	}
	_ = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &l)
}

// anotherWaits tells whether somebody else has announced it.
func anotherWaits(fd int) bool {
	l := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l) == nil && l.Type != unix.F_UNLCK
}

// openUnnamed makes a file without a name in dir (open(2), O_TMPFILE): a killed
// server leaves nothing of it. Not every file system can.
func openUnnamed(dir int, perm uint32) (int, error) {
	return unix.Openat(dir, ".", unix.O_RDWR|unix.O_TMPFILE|unix.O_CLOEXEC, perm)
}

// linkUnnamed gives such a file a name. The detour over /proc is the documented
// one for callers without CAP_DAC_READ_SEARCH.
func linkUnnamed(fd, dir int, name string) error {
	return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), dir, name, unix.AT_SYMLINK_FOLLOW)
}

// statTimes is the access and the modification time of st.
func statTimes(st *unix.Stat_t) (atime, mtime unix.Timespec) { return st.Atim, st.Mtim }

// rawEntries decodes struct linux_dirent64 records (getdents64(2)): ino 8
// bytes, offset 8, record length 2, type 1, name NUL-terminated. The type comes
// for free here; asking for it by name would be another race.
func rawEntries(buf []byte, add func(name string, kind Kind)) {
	for len(buf) >= 19 {
		n := int(binary.NativeEndian.Uint16(buf[16:]))
		if n < 19 || n > len(buf) {
			return
		}
		name := buf[19:n]
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		kind := KindUnknown
		switch buf[18] {
		case unix.DT_REG:
			kind = KindFile
		case unix.DT_DIR:
			kind = KindDirectory
		case unix.DT_LNK:
			kind = KindSymlink
		case unix.DT_FIFO:
			kind = KindFIFO
		case unix.DT_SOCK:
			kind = KindSocket
		case unix.DT_CHR, unix.DT_BLK:
			kind = KindDevice
		}
		if s := string(name); s != "." && s != ".." {
			add(s, kind)
		}
		buf = buf[n:]
	}
}
