// Package treecopy copies, removes and measures trees below descriptors, and
// renames directories where the kernel will not: an overlay refuses to rename a
// directory of its lower layer (EXDEV), and many programs know no way around
// that, so the directory is copied, and the copy takes the name.
//
// Nothing follows a link. What is copied keeps its mode, times, links, user attributes
// and access lists.
package treecopy

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Copier copies with the rights of the calling thread. The zero value keeps
// everything but owners.
type Copier struct {
	// Owner, if set, gives the owner of the copy of what st describes; -1 leaves it.
	Owner func(st *unix.Stat_t) (uid, gid int)
	// MaxFile is the most bytes a copied file may have, 0 for any; a larger one
	// fails with EFBIG.
	MaxFile int64
	// Sync has each file written to the disk before it is done.
	Sync bool
	// NoSetID leaves out the bits that run a program as another user.
	NoSetID bool

	links map[inode]string // of files with several names, below top
	top   int
}

// maxDepth bounds the recursion; the kernel's own paths end earlier.
const maxDepth = 1024

const (
	openFile = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	openDir  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// Tree copies what from names in fromDir, with all that lies in it, to a name that
// does not exist yet. Files with several names in the tree share one copy.
func (c *Copier) Tree(fromDir int, from string, toDir int, to string) error {
	c.links, c.top = map[inode]string{}, toDir
	defer func() { c.links = nil }()
	return c.tree(fromDir, from, toDir, to, to, 0)
}

func (c *Copier) tree(fromDir int, from string, toDir int, to, path string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(fromDir, from, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		id := inode{uint64(st.Dev), st.Ino}
		if first, ok := c.links[id]; ok && st.Nlink > 1 {
			return unix.Linkat(c.top, first, toDir, to, 0)
		}
		if err := c.One(fromDir, from, toDir, to); err != nil {
			return err
		}
		if st.Nlink > 1 {
			c.links[id] = path
		}
		return nil
	}
	if depth > maxDepth {
		return unix.ELOOP
	}
	return c.directory(fromDir, from, toDir, to, func(src, dst int) error {
		names, err := Names(src)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := c.tree(src, n, dst, n, path+"/"+n, depth+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// directory makes one as it is at from, with what fill puts into it.
func (c *Copier) directory(fromDir int, from string, toDir int, to string, fill func(src, dst int) error) error {
	src, err := unix.Openat(fromDir, from, openDir, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	if err := unix.Mkdirat(toDir, to, 0o700); err != nil {
		return err
	}
	dst, err := unix.Openat(toDir, to, openDir, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if err := fill(src, dst); err != nil {
		return err
	}
	return c.Attributes(src, dst)
}

// One copies a single file, link, pipe, socket or directory without its content to
// a name that does not exist yet.
func (c *Copier) One(fromDir int, from string, toDir int, to string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(fromDir, from, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.file(fromDir, from, toDir, to)
	case unix.S_IFDIR:
		return c.directory(fromDir, from, toDir, to, func(int, int) error { return nil })
	case unix.S_IFLNK:
		target, err := Readlink(fromDir, from)
		if err == nil {
			err = unix.Symlinkat(target, toDir, to)
		}
		if err != nil {
			return err
		}
	case unix.S_IFIFO, unix.S_IFSOCK:
		if err := unix.Mknodat(toDir, to, st.Mode&unix.S_IFMT|0o600, 0); err != nil {
			return err
		}
		if err := Chmod(toDir, to, st.Mode&unix.S_IFMT, st.Mode&0o7777); err != nil {
			return err
		}
	default:
		return unix.EPERM
	}
	if err := c.chown(toDir, to, &st); err != nil {
		return err
	}
	return unix.UtimesNanoAt(toDir, to, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func (c *Copier) chown(dir int, name string, st *unix.Stat_t) error {
	if c.Owner == nil {
		return nil
	}
	uid, gid := c.Owner(st)
	if uid < 0 && gid < 0 {
		return nil
	}
	return unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

func (c *Copier) file(fromDir int, from string, toDir int, to string) error {
	src, err := unix.Openat(fromDir, from, openFile, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.ESTALE
	}
	if c.MaxFile > 0 && st.Size > c.MaxFile {
		return unix.EFBIG
	}
	dst, err := unix.Openat(toDir, to, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if err := copyData(dst, src, st.Size); err != nil {
		return err
	}
	if err := c.Attributes(src, dst); err != nil {
		return err
	}
	if c.Sync {
		return unix.Fsync(dst)
	}
	return nil
}

// copyData copies size bytes and keeps holes.
func copyData(dst, src int, size int64) error {
	if err := unix.Ftruncate(dst, size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := unix.Seek(src, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil // a hole up to the end
		}
		end := size
		if err != nil {
			data = at
		} else if hole, err := unix.Seek(src, data, unix.SEEK_HOLE); err == nil {
			end = min(end, hole)
		}
		if err := copyRange(dst, src, data, end); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func copyRange(dst, src int, at, end int64) error {
	var buf []byte
	for at < end {
		if buf == nil {
			from, to := at, at
			n, err := unix.CopyFileRange(src, &from, dst, &to, int(min(end-at, 1<<30)), 0)
			if err == nil && n > 0 {
				at += int64(n)
				continue
			}
			if err == unix.EINTR {
				continue
			}
			buf = make([]byte, 256<<10)
		}
		n, err := unix.Pread(src, buf[:min(int64(len(buf)), end-at)], at)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err // it has become shorter
		}
		for b, to := buf[:n], at; len(b) > 0; {
			m, err := unix.Pwrite(dst, b, to)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			b, to = b[m:], to+int64(m)
		}
		at += int64(n)
	}
	return nil
}

// Attributes gives an open file or directory the owner, user attributes, access lists,
// mode and times of another, and takes what attributes it has otherwise.
func (c *Copier) Attributes(src, dst int) error {
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	attrs, err := Xattrs(src)
	if err != nil {
		return err
	}
	return c.Set(dst, &st, attrs)
}

// Set is Attributes for what was read already.
func (c *Copier) Set(dst int, st *unix.Stat_t, attrs map[string][]byte) error {
	if c.Owner != nil {
		if uid, gid := c.Owner(st); uid >= 0 || gid >= 0 {
			if err := unix.Fchown(dst, uid, gid); err != nil {
				return err
			}
		}
	}
	had, err := Xattrs(dst)
	if err != nil {
		return err
	}
	for name := range had {
		if _, ok := attrs[name]; ok {
			continue
		}
		if err := unix.Fremovexattr(dst, name); err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return err
		}
	}
	mode := st.Mode & 0o7777
	for name, value := range attrs {
		err := unix.Fsetxattr(dst, name, value, 0)
		if err == unix.ENOTSUP && name == AccessList {
			mode &^= 0o070 // the mask, which is for the list and not for the group
		} else if err != nil && err != unix.ENOTSUP {
			return err
		}
	}
	if c.NoSetID && st.Mode&unix.S_IFMT == unix.S_IFREG {
		mode &= 0o777
	}
	if err := unix.Fchmod(dst, mode); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(dst), []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// overlayXattr is where an overlay mounted by an ordinary user keeps its own marks
// in the upper layer (Documentation/filesystems/overlayfs.rst, userxattr).
const overlayXattr = "user.overlay."

// Access lists beyond the mode (acl(5)). Without them the mode alone would give the
// group what their mask lets others have.
var accessLists = []string{AccessList, DefaultList}

// The attributes that hold the access list of a thing, and of what is made in a
// directory.
const (
	AccessList  = "system.posix_acl_access"
	DefaultList = "system.posix_acl_default"
)

// Xattrs are the user attributes of an open file, without an overlay's own, and its
// access lists.
func Xattrs(fd int) (map[string][]byte, error) {
	size, err := unix.Flistxattr(fd, nil)
	if err == unix.ENOTSUP || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, size+1024)
	n, err := unix.Flistxattr(fd, list)
	if err != nil {
		return nil, err
	}
	var out map[string][]byte
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if (!strings.HasPrefix(name, "user.") || strings.HasPrefix(name, overlayXattr)) && !slices.Contains(accessLists, name) {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Fgetxattr(fd, name, value)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = map[string][]byte{}
		}
		out[name] = value[:n]
	}
	return out, nil
}

// Chmod gives a name of a directory another mode if it is of that type (S_IFMT), and
// fails with ESTALE otherwise: fchmodat(2) would follow a link out of the tree.
func Chmod(dir int, name string, kind, mode uint32) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != kind {
		return unix.ESTALE
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

// Readlink reads a symbolic link.
func Readlink(dir int, name string) (string, error) {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(dir, name, b[:])
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// Names lists an open directory, which may be read only once.
func Names(dir int) ([]string, error) {
	var names []string
	b := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(dir, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(b[:n], -1, names)
	}
}

// Open opens a directory by its path below dir, "." for dir itself. No component
// may be a link.
func Open(dir int, path string) (int, error) {
	for {
		fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: openDir, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}
