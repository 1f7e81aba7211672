package workspace

import "golang.org/x/sys/unix"

// openDirFlags open a directory to walk through. Darwin has no O_PATH; a
// directory must be readable to be crossed.
const openDirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK

// openInodeFlags hold on to a file or directory. O_NONBLOCK keeps a FIFO from
// stopping the open.
const openInodeFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK

// renameNew moves a name where nothing may exist yet (renameatx_np(2),
// RENAME_EXCL).
func renameNew(fromDir int, from string, toDir int, to string) error {
	return unix.RenameatxNp(fromDir, from, toDir, to, unix.RENAME_EXCL)
}

// renameSwap exchanges two existing names in one step (RENAME_SWAP).
func renameSwap(fromDir int, from string, toDir int, to string) error {
	return unix.RenameatxNp(fromDir, from, toDir, to, unix.RENAME_SWAP)
}

// beingWritten cannot be told here.
func beingWritten(int) bool { return false }

// Whether another server waits cannot be told here: locks of open files are no
// part of Darwin's interface.
func announceWait(int, bool) {}
func anotherWaits(int) bool  { return false }

// openUnnamed is not possible on Darwin.
func openUnnamed(dir int, perm uint32) (int, error) { return -1, unix.ENOTSUP }

func linkUnnamed(fd, dir int, name string) error { return unix.ENOTSUP }

// statTimes is the access and the modification time of st.
func statTimes(st *unix.Stat_t) (atime, mtime unix.Timespec) { return st.Atim, st.Mtim }

// rawEntries decodes the names of a getdirentries block; their kinds are left
// to an fstatat relative to the same descriptor.
func rawEntries(buf []byte, add func(name string, kind Kind)) {
	_, _, names := unix.ParseDirent(buf, -1, nil)
	for _, n := range names {
		add(n, KindUnknown)
	}
}
