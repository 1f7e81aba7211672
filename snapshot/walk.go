package snapshot

import (
	"context"
	"errors"
	"sort"
	"sync"

	"golang.org/x/sys/unix"
)

// walker lists the tree with several goroutines and hands it out in order.
// Listers run ahead of the consumer, nearest folders first, but only by a
// bounded number of entries; the consumer lists a folder itself when nobody
// has begun it, so it never waits for one that is still queued.
type walker struct {
	ctx  context.Context
	tree *tree
	skip func(path string) bool // leave it out, without a word; or nil

	mu      sync.Mutex
	cond    *sync.Cond
	stack   []*folder // unlisted, the next in order on top
	ahead   int       // entries listed and not yet consumed
	stopped bool
	wg      sync.WaitGroup
}

// maxAhead bounds what is listed and not yet consumed, about 10 MB.
const maxAhead = 32 << 10

type folder struct {
	path   string
	st     stat
	xattrs []xattr
	items  []item
	err    error
	// ignoring: something in it was left out by skip
	ignoring bool
	started  bool // guarded by walker.mu
	done     chan struct{}
}

type item struct {
	name   string
	st     stat
	target string  // of a symbolic link
	folder *folder // of a folder
}

func (t *tree) walk(ctx context.Context, parallel int, skip func(string) bool) *walker {
	w := &walker{ctx: ctx, tree: t, skip: skip}
	w.cond = sync.NewCond(&w.mu)
	for range parallel {
		w.wg.Add(1)
		go w.lister()
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

func (w *walker) lister() {
	defer w.wg.Done()
	buf := make([]byte, 32<<10)
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for !w.stopped && (len(w.stack) == 0 || w.ahead > maxAhead) {
			w.cond.Wait()
		}
		if w.stopped || w.ctx.Err() != nil {
			return
		}
		f := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if f.started {
			continue
		}
		f.started = true
		w.mu.Unlock()
		w.list(f, buf)
		w.mu.Lock()
	}
}

// list fills f and queues its folders.
func (w *walker) list(f *folder, buf []byte) {
	f.err = w.read(f, buf)
	var subs []*folder
	for i := len(f.items) - 1; i >= 0; i-- {
		if s := f.items[i].folder; s != nil {
			subs = append(subs, s)
		}
	}
	w.mu.Lock()
	w.ahead += len(f.items)
	if len(subs) > 0 {
		w.stack = append(w.stack, subs...)
		w.cond.Broadcast()
	}
	w.mu.Unlock()
	close(f.done)
}

func (w *walker) read(f *folder, buf []byte) error {
	fd, err := w.tree.openDir(f.path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if f.st, err = fstat(fd); err != nil {
		return err
	}
	f.xattrs = readXattrs(fd)
	err = readDir(fd, buf, func(name string) error {
		st, err := lstatAt(fd, name)
		if errors.Is(err, unix.ENOENT) {
			return nil // gone since
		}
		if err != nil {
			return err
		}
		if w.skip != nil && w.skip(joinPath(f.path, name)) {
			f.ignoring = true
			return nil
		}
		it := item{name: name, st: st}
		switch st.mode & unix.S_IFMT {
		case unix.S_IFDIR:
			it.folder = &folder{path: joinPath(f.path, name), done: make(chan struct{})}
		case unix.S_IFLNK:
			it.target, err = readlinkAt(fd, name)
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
				return nil // gone or replaced since
			}
			if err != nil {
				return err
			}
		}
		f.items = append(f.items, it)
		return w.ctx.Err()
	})
	sort.Slice(f.items, func(i, j int) bool { return f.items[i].name < f.items[j].name })
	return err
}

// each hands the tree out in order: enter is called for a folder before what
// is in it, other for everything else. enter gets the folder's own error and
// returns false to leave it out.
func (w *walker) each(enter func(f *folder) (bool, error), other func(dir string, it *item) error) error {
	root := &folder{done: make(chan struct{})}
	buf := make([]byte, 32<<10)
	var down func(f *folder) error
	down = func(f *folder) error {
		w.mu.Lock()
		mine := !f.started
		f.started = true
		w.mu.Unlock()
		if mine {
			w.list(f, buf)
		} else {
			<-f.done
		}
		if err := w.ctx.Err(); err != nil {
			return err
		}
		ok, err := enter(f)
		if err == nil && ok {
			for i := range f.items {
				it := &f.items[i]
				if it.folder != nil {
					err = down(it.folder)
					it.folder = nil
				} else {
					err = other(f.path, it)
				}
				if err != nil {
					break
				}
			}
		}
		w.mu.Lock()
		w.ahead -= len(f.items)
		w.cond.Broadcast()
		w.mu.Unlock()
		f.items = nil
		return err
	}
	return down(root)
}
