package treecopy

import (
	"crypto/rand"
	"encoding/hex"
	"errors"

	"golang.org/x/sys/unix"
)

// TempPrefix begins the names that this package makes for a moment.
const TempPrefix = ".mcp-sandbox-copy-"

// TempName is a new name of that kind.
func TempName() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return TempPrefix + hex.EncodeToString(b[:])
}

// Rename is renameat2(2), also for directories of an overlay's lower layer: their
// copy takes the new name, and the old tree is then removed. A failure leaves the
// old name whole.
func (c *Copier) Rename(fromDir int, from string, toDir int, to string, flags uint) error {
	err := unix.Renameat2(fromDir, from, toDir, to, flags)
	if err != unix.EXDEV || !Refused(fromDir, from, toDir) {
		return err
	}
	return c.RenameByCopy(fromDir, from, toDir, to, flags)
}

// RenameByCopy is what Rename does where Refused says that it must.
func (c *Copier) RenameByCopy(fromDir int, from string, toDir int, to string, flags uint) error {
	if flags&unix.RENAME_EXCHANGE != 0 {
		return c.exchange(fromDir, from, toDir, to)
	}
	if err := mayTake(toDir, to, flags); err != nil {
		return err
	}
	if stuck(fromDir, from, 0) {
		return unix.EACCES
	}
	tmp := TempName()
	if err := c.Tree(fromDir, from, toDir, tmp); err != nil {
		Remove(toDir, tmp)
		if err == unix.EFBIG {
			return unix.EXDEV
		}
		return err
	}
	if err := unix.Renameat2(toDir, tmp, toDir, to, flags); err != nil {
		Remove(toDir, tmp)
		return err
	}
	return Remove(fromDir, from)
}

// exchange swaps two names of which one at least is such a directory.
func (c *Copier) exchange(aDir int, a string, bDir int, b string) error {
	if stuck(aDir, a, 0) || stuck(bDir, b, 0) {
		return unix.EACCES
	}
	x, y := TempName(), TempName()
	err := c.Tree(aDir, a, bDir, x)
	if err == nil {
		err = c.Tree(bDir, b, aDir, y)
	}
	if err == nil {
		// Both copies are of the upper layer: from here on every step is a rename.
		err = c.replace(bDir, x, b)
	}
	if err == nil {
		err = c.replace(aDir, y, a)
	}
	if err != nil {
		Remove(bDir, x)
		Remove(aDir, y)
		if err == unix.EFBIG {
			return unix.EXDEV
		}
	}
	return err
}

// stuck says whether a tree holds a directory that cannot be emptied: it is somebody
// else's, closed to this process, and has something in it. The old tree would stay next to
// its copy.
func stuck(dir int, name string, depth int) bool {
	fd, err := unix.Openat(dir, name, openDir, 0)
	if err != nil || depth > maxDepth {
		return false // not a directory, or the copy tells
	}
	defer unix.Close(fd)
	names, err := Names(fd)
	if err != nil || len(names) == 0 {
		return false
	}
	var st unix.Stat_t
	if unix.Faccessat(fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil && (unix.Fstat(fd, &st) != nil || int(st.Uid) != unix.Geteuid()) {
		return true
	}
	for _, n := range names {
		if stuck(fd, n, depth+1) {
			return true
		}
	}
	return false
}

// replace puts tmp in the place of name, which may be a directory with content: that
// has to go first, as nothing can be renamed over it.
func (c *Copier) replace(dir int, tmp, name string) error {
	if err := Remove(dir, name); err != nil {
		return err
	}
	return unix.Renameat(dir, tmp, dir, name)
}

// mayTake says early what rename(2) would say of the new name, as the copy is
// dear.
func mayTake(dir int, name string, flags uint) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return err
	case flags&unix.RENAME_NOREPLACE != 0:
		return unix.EEXIST
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return unix.ENOTDIR
	}
	fd, err := unix.Openat(dir, name, openDir, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := Names(fd)
	if err == nil && len(names) > 0 {
		err = unix.ENOTEMPTY
	}
	return err
}

// Refused says whether EXDEV came from an overlay that renames no directory of its
// lower layer, and not from two file systems.
func Refused(fromDir int, from string, toDir int) bool {
	var st unix.Stat_t
	if unix.Fstatat(fromDir, from, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(fromDir, &fs) != nil || fs.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return false
	}
	a, err := mountOf(fromDir)
	if err != nil {
		return false
	}
	b, err := mountOf(toDir)
	return err == nil && a == b
}

func mountOf(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, err
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, errors.ErrUnsupported
	}
	return st.Mnt_id, nil
}
