package snapshot

import (
	"errors"
	"math/bits"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	blockNames = 256
	// Lists have room for 32, 64, 128 or 256 items: used again by whoever needs so
	// many, they stay near what is in them.
	leastItems = 32
	listSizes  = 4
)

type directory struct {
	path   string
	st     stat
	xattrs []xattr
	err    error
	// ignoring: something in it was left out by skip
	ignoring bool
	first    block   // with it the directory's names are read
	more     []block // there are if first is done
}

// block is some names of a directory, in order. Whoever sets started lists or drops it.
// Each opens the directory again: a descriptor kept until the last is listed would be
// one for every level of a deep tree.
type block struct {
	dir     *directory
	names   []dirent
	items   []item
	err     error // of the first of names, or of opening dir; they were not looked at
	started atomic.Bool
	done    chan struct{}
}

// item is one name of a directory. Of a directory st is not filled in: its own
// descriptor tells, once it is open.
type item struct {
	name      string
	st        stat
	target    string     // of a symbolic link
	directory *directory // of a directory
}

// dirent is a name as a directory lists it.
type dirent struct {
	name string
	dir  bool // it is a directory; false also when the file system does not tell
}

func newDirectory(path string) *directory {
	f := &directory{path: path}
	f.first.dir, f.first.done = f, make(chan struct{})
	return f
}

// lister is what one goroutine needs to list directories, used again for each.
type lister struct {
	buf   [32 << 10]byte
	names []dirent
}

// read opens f, takes its names and looks at those of its first block. An error is
// one of the whole directory.
func (w *walker) read(f *directory, l *lister) error {
	fd, err := w.tree.openDir(f.path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if f.st, err = fstat(fd); err != nil {
		return err
	}
	f.xattrs = readXattrs(fd)
	if l.names, err = readDir(fd, l.buf[:], l.names[:0]); err != nil {
		return err
	}
	if w.skip != nil {
		had := len(l.names)
		l.names = slices.DeleteFunc(l.names, func(d dirent) bool { return w.skip(joinPath(f.path, d.name)) })
		f.ignoring = len(l.names) < had
	}
	slices.SortFunc(l.names, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	f.first.names = l.names
	if len(l.names) > blockNames {
		f.split(l.names)
		l.names = nil
	}
	if err := w.look(&f.first, fd); err != nil {
		return err
	}
	return f.probe(fd)
}

// again lists a block of an open directory's names that is not the first.
func (w *walker) again(b *block) error {
	fd, err := w.tree.openDir(b.dir.path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := fstat(fd)
	if err != nil {
		return err
	}
	if st.dev != b.dir.st.dev || st.ino != b.dir.st.ino {
		return unix.ENOENT // another is in its place
	}
	return w.look(b, fd)
}

// split makes blocks of names.
func (f *directory) split(names []dirent) {
	f.first.names, names = names[:blockNames], names[blockNames:]
	f.more = make([]block, (len(names)+blockNames-1)/blockNames)
	for i := range f.more {
		n := min(len(names), blockNames)
		f.more[i] = block{dir: f, names: names[:n], done: make(chan struct{})}
		names = names[n:]
	}
}

// probe looks at one name of f if the first block did not. Without the right to
// search a directory (path_resolution(7)) that fails for each, and is told of the
// directory.
func (f *directory) probe(fd int) error {
	if len(f.more) == 0 || len(f.first.items) > 0 && slices.ContainsFunc(f.first.items, func(it item) bool { return it.directory == nil }) {
		return nil
	}
	for i := range f.more {
		for _, d := range f.more[i].names {
			if d.dir {
				continue
			}
			if _, err := lstatEntry(fd, d); !errors.Is(err, unix.ENOENT) {
				return err
			}
			return nil
		}
	}
	return nil
}

// space returns an empty list for n items, if it can one that was used before.
func (w *walker) space(n int) []item {
	room := leastItems
	for room < n {
		room *= 2
	}
	k := listSize(room)
	w.mu.Lock()
	defer w.mu.Unlock()
	if u := w.used[k]; len(u) > 0 {
		w.used[k] = u[:len(u)-1]
		return u[len(u)-1]
	}
	return make([]item, 0, room)
}

// listSize is the place of lists of that room in used.
func listSize(room int) int { return bits.Len(uint(room/leastItems)) - 1 }

// look fills in what b's names are, in the directory fd.
func (w *walker) look(b *block, fd int) error {
	f := b.dir
	if len(b.names) > 0 {
		b.items = w.space(len(b.names))
	}
	for i := range b.names {
		err := w.ctx.Err()
		if err == nil {
			b.items, err = f.lookAt(fd, b.names[i], b.items)
		}
		if err != nil {
			b.names = b.names[i:]
			return err
		}
	}
	b.names = nil
	return nil
}

// lookAt adds one name of f, which is open as fd, to items.
func (f *directory) lookAt(fd int, d dirent, items []item) ([]item, error) {
	it := item{name: d.name}
	if !d.dir {
		st, err := lstatEntry(fd, d)
		if errors.Is(err, unix.ENOENT) {
			return items, nil // gone since
		}
		if err != nil {
			return items, err
		}
		it.st = st
		d.dir = st.mode&unix.S_IFMT == unix.S_IFDIR
		if st.mode&unix.S_IFMT == unix.S_IFLNK {
			it.target, err = readlinkAt(fd, d.name)
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
				return items, nil // gone or replaced since
			}
			if err != nil {
				return items, err
			}
		}
	}
	if d.dir {
		it.directory = newDirectory(joinPath(f.path, d.name))
	}
	return append(items, it), nil
}
