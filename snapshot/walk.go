package snapshot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// walker lists the tree with several goroutines and hands it out in order.
// Listers run ahead of the consumer, nearest directories first, but only by a
// bounded number of entries; the consumer lists too while the directory it needs
// is in another's hands, so no core is idle while there is something to list.
type walker struct {
	ctx  context.Context
	tree *tree
	skip func(path string) bool // leave it out, unmentioned; or nil

	mu      sync.Mutex
	cond    *sync.Cond
	stack   []*directory // unlisted, the next in order on top
	used    [][]item     // lists of usedItems, consumed
	stopped bool
	wg      sync.WaitGroup
	ahead   atomic.Int64 // entries listed and not yet consumed
	waiting atomic.Int32 // listers that may need waking
}

// maxAhead bounds what is listed and not yet consumed, about 1 MB. Listers that
// met it go on at half of it: to wake one for every directory would cost more than
// the directory.
const maxAhead = 8 << 10

// usedItems is the room of the lists that are used again; most directories hold
// fewer names.
const usedItems = 32

type directory struct {
	path   string
	st     stat
	xattrs []xattr
	items  []item
	err    error
	// ignoring: something in it was left out by skip
	ignoring bool
	started  atomic.Bool
	done     chan struct{}
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

func (t *tree) walk(ctx context.Context, parallel int, skip func(string) bool) *walker {
	w := &walker{ctx: ctx, tree: t, skip: skip}
	w.cond = sync.NewCond(&w.mu)
	for range parallel {
		w.wg.Add(1)
		go w.run()
	}
	return w
}

func (w *walker) stop() {
	w.mu.Lock()
	w.stopped = true
	w.cond.Broadcast()
	w.mu.Unlock()
	w.wg.Wait()
}

// lister is what one goroutine needs to list directories, used again for each.
type lister struct {
	buf   [32 << 10]byte
	names []dirent
}

func (w *walker) run() {
	defer w.wg.Done()
	l := new(lister)
	for {
		w.mu.Lock()
		// Counted before looking: who changes what is looked at wakes after it.
		w.waiting.Add(1)
		for !w.stopped && (len(w.stack) == 0 || w.ahead.Load() > maxAhead) {
			w.cond.Wait()
		}
		w.waiting.Add(-1)
		// A directory that is taken is listed: the consumer waits for it.
		stopped := w.stopped || w.ctx.Err() != nil
		var f *directory
		if !stopped {
			f = w.pop()
		}
		w.mu.Unlock()
		if stopped {
			return
		}
		if f != nil {
			w.list(f, l)
		}
	}
}

// pop takes the next directory that nobody has begun; mu is held.
func (w *walker) pop() *directory {
	for len(w.stack) > 0 {
		f := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if f.started.CompareAndSwap(false, true) {
			return f
		}
	}
	return nil
}

func (w *walker) wake() {
	if w.ahead.Load() <= maxAhead/2 && w.waiting.Load() > 0 {
		w.mu.Lock()
		w.cond.Broadcast()
		w.mu.Unlock()
	}
}

// list fills f, which the caller has started, and queues its directories.
func (w *walker) list(f *directory, l *lister) {
	f.err = w.read(f, l)
	w.ahead.Add(int64(len(f.items)))
	w.mu.Lock()
	had := len(w.stack)
	for i := len(f.items) - 1; i >= 0; i-- {
		if s := f.items[i].directory; s != nil {
			w.stack = append(w.stack, s)
		}
	}
	if len(w.stack) > had && w.waiting.Load() > 0 {
		w.cond.Broadcast()
	}
	w.mu.Unlock()
	close(f.done)
}

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
	l.names, err = readDir(fd, l.buf[:], l.names[:0])
	slices.SortFunc(l.names, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	f.items = w.space(len(l.names))
	for _, d := range l.names {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := w.look(f, fd, d); err != nil {
			return err
		}
	}
	return err
}

// space returns an empty list for n items, if it can one that was used before.
func (w *walker) space(n int) []item {
	w.mu.Lock()
	defer w.mu.Unlock()
	if k := len(w.used); k > 0 && n <= cap(w.used[k-1]) {
		s := w.used[k-1]
		w.used = w.used[:k-1]
		return s
	}
	return make([]item, 0, max(n, usedItems))
}

// look adds one name to f.
func (w *walker) look(f *directory, fd int, d dirent) error {
	if w.skip != nil && w.skip(joinPath(f.path, d.name)) {
		f.ignoring = true
		return nil
	}
	it := item{name: d.name}
	if !d.dir {
		st, err := lstatAt(fd, d.name)
		if errors.Is(err, unix.ENOENT) {
			return nil // gone since
		}
		if err != nil {
			return err
		}
		it.st = st
		d.dir = st.mode&unix.S_IFMT == unix.S_IFDIR
		if st.mode&unix.S_IFMT == unix.S_IFLNK {
			it.target, err = readlinkAt(fd, d.name)
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
				return nil // gone or replaced since
			}
			if err != nil {
				return err
			}
		}
	}
	if d.dir {
		it.directory = &directory{path: joinPath(f.path, d.name), done: make(chan struct{})}
	}
	f.items = append(f.items, it)
	return nil
}

// await returns once f is listed, listing it or others meanwhile.
func (w *walker) await(f *directory, l *lister) {
	if f.started.CompareAndSwap(false, true) {
		w.list(f, l)
		return
	}
	for {
		select {
		case <-f.done:
			return
		default:
		}
		var other *directory
		if w.ahead.Load() <= maxAhead {
			w.mu.Lock()
			other = w.pop()
			w.mu.Unlock()
		}
		if other == nil {
			<-f.done
			return
		}
		w.list(other, l)
	}
}

// each hands the tree out in order: enter is called for a directory before what
// is in it, other for everything else. enter gets the directory's own error and
// returns false to leave it out.
func (w *walker) each(enter func(f *directory) (bool, error), other func(dir string, it *item) error) error {
	l := new(lister)
	var down func(f *directory) error
	down = func(f *directory) error {
		w.await(f, l)
		if err := w.ctx.Err(); err != nil {
			return err
		}
		ok, err := enter(f)
		if err == nil && ok {
			for i := range f.items {
				it := &f.items[i]
				if it.directory != nil {
					err = down(it.directory)
					it.directory = nil
				} else {
					err = other(f.path, it)
				}
				if err != nil {
					break
				}
			}
		}
		w.ahead.Add(-int64(len(f.items)))
		if cap(f.items) == usedItems {
			clear(f.items)
			w.mu.Lock()
			w.used = append(w.used, f.items[:0])
			w.mu.Unlock()
		}
		w.wake()
		f.items = nil
		return err
	}
	return down(&directory{done: make(chan struct{})})
}
