package gitstage

import (
	"cmp"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// tree is a directory reached by its descriptor. Names are relative, and no
// component of one is followed if it is a link.
type tree struct{ fd int }

const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

func (t tree) open(name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat2(t.fd, name, &unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Mode: uint64(mode), Resolve: beneath})
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

func (t tree) sub(name string) (tree, error) {
	fd, err := t.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return tree{fd}, err
}

func (t tree) close() { unix.Close(t.fd) }

// in runs f in the directory of name.
func (t tree) in(name string, f func(dir tree, base string) error) error {
	dir, base := path.Split(name)
	if dir == "" {
		return f(t, base)
	}
	d, err := t.sub(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return err
	}
	defer d.close()
	return f(d, base)
}

// entry is what one name is.
type entry struct {
	kind byte // see below
	sig  sig
	size int64
}

// sig changes when the file does.
type sig struct {
	ino          uint64
	size         int64
	mtime, ctime int64
}

const (
	kindFile  = 'f'
	kindDir   = 'd'
	kindGone  = 'x' // a whiteout: removed by the session
	kindOther = '?'
)

func (t tree) stat(name string) (entry, error) {
	var st unix.Stat_t
	err := t.in(name, func(dir tree, base string) error {
		return unix.Fstatat(dir.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return entry{}, err
	}
	e := entry{kind: kindOther, sig: sig{st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}, size: st.Size}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.kind = kindFile
	case unix.S_IFDIR:
		e.kind = kindDir
		e.sig.size = 0
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			e.kind = kindGone
		}
	}
	return e, nil
}

// maxNames bounds the names of one directory that are looked at.
const maxNames = 1 << 20

func (t tree) names(name string) ([]string, error) {
	fd, err := t.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(maxNames)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

// dirs are the directories below one, by what it lists them as.
func (t tree) dirs(name string, depth int) (all []string) {
	fd, err := t.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil || depth > 64 {
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	entries, _ := f.ReadDir(maxNames)
	f.Close()
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if e.IsDir() {
			p := path.Join(name, e.Name())
			all = append(append(all, p), t.dirs(p, depth+1)...)
		}
	}
	return all
}

// opaque says that an upper directory hides the one below it.
func (t tree) opaque(name string) bool {
	fd, err := t.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var b [4]byte
	n, err := unix.Fgetxattr(fd, "user.overlay.opaque", b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

// file opens a regular file to read.
func (t tree) file(name string) (*os.File, error) {
	fd, err := t.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, unix.EINVAL
	}
	return os.NewFile(uintptr(fd), name), nil
}

// read gives a file of at most max bytes, nil for one that is not there.
func (t tree) read(name string, max int64) ([]byte, error) {
	f, err := t.file(name)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(b)) > max {
		err = unix.EFBIG
	}
	if b == nil {
		b = []byte{}
	}
	return b, err
}

// mkdirs makes the directories of name with the mode of the top.
func (t tree) mkdirs(name string) error {
	if name == "." || name == "" {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(t.fd, &st); err != nil {
		return err
	}
	at := ""
	for part := range strings.SplitSeq(name, "/") {
		at = path.Join(at, part)
		err := t.in(at, func(dir tree, base string) error { return unix.Mkdirat(dir.fd, base, st.Mode&0o777) })
		if err != nil && err != unix.EEXIST {
			return err
		}
	}
	return nil
}

const tempPrefix = "tmp_obj_mcp-"

var tempNumber atomic.Uint64

// tempName is a name git takes for no object, ref or setting.
func tempName() string {
	return tempPrefix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(tempNumber.Add(1), 10)
}

// create makes a file below dir with what fill writes, whole or not at all.
// replace says whether it may take the place of another.
func (t tree) create(name string, mode uint32, replace bool, fill func(io.Writer) error) error {
	if err := t.mkdirs(path.Dir(name)); err != nil {
		return err
	}
	return t.in(name, func(dir tree, base string) error {
		tmp := tempName()
		fd, err := unix.Openat(dir.fd, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), base)
		err = fill(f)
		if err == nil {
			err = unix.Fchmod(fd, mode)
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		switch {
		case err != nil:
		case replace:
			err = unix.Renameat(dir.fd, tmp, dir.fd, base)
		default:
			err = dir.renameNew(tmp, base)
		}
		if err != nil {
			unix.Unlinkat(dir.fd, tmp, 0)
		}
		return err
	})
}

// renameat2 is replaced in tests by that of a file system without flags.
var renameat2 = unix.Renameat2

// renameNew fails with EEXIST if the new name is there. NFS, 9p and some file systems
// in user space take no flags (EINVAL), and not all of them have hard links.
func (t tree) renameNew(from, to string) error {
	err := renameat2(t.fd, from, t.fd, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	switch err := unix.Linkat(t.fd, from, t.fd, to, 0); err {
	case nil:
		return unix.Unlinkat(t.fd, from, 0)
	case unix.EEXIST:
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(t.fd, to, &st, unix.AT_SYMLINK_NOFOLLOW); err != unix.ENOENT {
		return cmp.Or[error](err, unix.EEXIST)
	}
	return unix.Renameat(t.fd, from, t.fd, to)
}

// rewrite gives a file of the stage another content. Its owner stays, who is the
// session's user, and it is not read meanwhile.
func (t tree) rewrite(name, text string) error {
	fd, err := t.open(name, unix.O_WRONLY|unix.O_TRUNC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

func (t tree) remove(name string) error {
	return t.in(name, func(dir tree, base string) error { return unix.Unlinkat(dir.fd, base, 0) })
}

// removeAll removes a tree of the stage.
func (t tree) removeAll(name string, depth int) error {
	err := t.remove(name)
	if err != unix.EISDIR && err != unix.EPERM || depth > 100 {
		return err
	}
	names, err := t.names(name)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := t.removeAll(name+"/"+n, depth+1); err != nil {
			return err
		}
	}
	return t.in(name, func(dir tree, base string) error { return unix.Unlinkat(dir.fd, base, unix.AT_REMOVEDIR) })
}
