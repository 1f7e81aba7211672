package snapshot

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"mcp-sandbox/fsuser"
)

// maxPath is the longest workspace path that is stored, in bytes: PATH_MAX
// less its final NUL. Deeper trees can be made through relative steps, but no
// program can name what is in them, and following them costs square time.
const maxPath = 4095

// tree reaches the workspace through the descriptor of its root only. Names
// are resolved by the kernel beneath it (openat2(2)) or one component at a time
// with O_NOFOLLOW, so a link put in the way in mid-walk, a "..", or a mount is
// refused instead of followed (path_resolution(7), open(2)).
type tree struct {
	root *os.File
	fd   int
	dev  uint64
	user *fsuser.User // whose rights count; nil is the server itself
	// stepwise is set once the kernel has no openat2, or a filter denies it.
	stepwise atomic.Bool
}

func newTree(root *os.File) (*tree, error) {
	var st unix.Stat_t
	fd := int(root.Fd())
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	return &tree{root: root, fd: fd, dev: uint64(st.Dev)}, nil
}

const (
	openDirFlags  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	openFileFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
)

// openDir opens the directory rel ("" is the root) for reading; the caller closes
// the descriptor. EXDEV means that a mount lies on the way.
func (t *tree) openDir(rel string) (int, error) {
	return t.open(rel, openDirFlags)
}

// openFile opens a file that lstat said is regular. O_NONBLOCK: should it have
// been swapped for a FIFO since, the open returns at once (fifo(7)); the caller
// checks the type again on the descriptor.
func (t *tree) openFile(rel string) (int, error) { return t.open(rel, openFileFlags) }

func (t *tree) open(rel string, flags int) (int, error) {
	if len(rel) > maxPath {
		return -1, unix.ENAMETOOLONG
	}
	leave, err := t.user.Enter()
	if err != nil {
		return -1, err
	}
	defer leave()
	if rel == "" {
		return openat(t.fd, ".", flags)
	}
	if !t.stepwise.Load() {
		fd, err := openBeneath(t.fd, rel, flags)
		if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
			return fd, err
		}
		t.stepwise.Store(true)
	}
	dir := t.fd
	for {
		name, rest, more := strings.Cut(rel, "/")
		f := flags
		if more {
			f = openDirFlags
		}
		var fd int
		err := error(unix.EINVAL)
		if name != "" && name != "." && name != ".." {
			fd, err = openat(dir, name, f)
		}
		if dir != t.fd {
			unix.Close(dir)
		}
		if err != nil {
			return -1, err
		}
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil && uint64(st.Dev) != t.dev {
			err = unix.EXDEV
		}
		if err != nil {
			unix.Close(fd)
			return -1, err
		}
		if !more {
			return fd, nil
		}
		dir, rel = fd, rest
	}
}

func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// renameChecked is renameNew for file systems without it: a name made between
// the look and the rename would be lost.
func renameChecked(adir int, a string, bdir int, b string) error {
	if _, err := lstatAt(bdir, b); err == nil {
		return unix.EEXIST
	}
	return unix.Renameat(adir, a, bdir, b)
}

func splitPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

func joinPath(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// comparePaths orders paths as a walk meets them: a directory, then all below it,
// then its next sibling. That is byte order with "/" below every other byte.
func comparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := 0; i < n; i++ {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x == '/' {
			return -1
		}
		if y == '/' {
			return 1
		}
		if x < y {
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

// compareJoined is comparePaths with joinPath(dir, name).
func compareJoined(path, dir, name string) int {
	if dir == "" {
		return comparePaths(path, name)
	}
	n := len(dir)
	if len(path) > n && path[n] == '/' && path[:n] == dir {
		return comparePaths(path[n+1:], name)
	}
	if c := comparePaths(path[:min(n, len(path))], dir); c != 0 {
		return c
	}
	// The directory itself comes first, then what is in it, then longer names.
	if len(path) == n {
		return -1
	}
	return 1
}

// within tells whether path is dir or below it; "" holds everything.
func within(path, dir string) bool {
	return dir == "" || path == dir || len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir
}

// stat is what the walk keeps of an inode. Times are nanoseconds since 1970.
type stat struct {
	mode         uint32 // type and permission bits, as st_mode
	nlink        uint64
	size         int64
	mtime, ctime int64
	dev, ino     uint64
}

func statOf(st *unix.Stat_t) stat {
	return stat{
		mode: uint32(st.Mode), nlink: uint64(st.Nlink), size: st.Size,
		mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(),
		dev: uint64(st.Dev), ino: st.Ino,
	}
}

func fstat(fd int) (stat, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return stat{}, err
	}
	return statOf(&st), nil
}

func lstatAt(dir int, name string) (stat, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return stat{}, err
	}
	return statOf(&st), nil
}

func readlinkAt(dir int, name string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}
