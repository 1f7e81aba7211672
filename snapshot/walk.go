package snapshot

import (
	"context"
	"sync"
	"sync/atomic"
)

// walker lists the tree with several goroutines and hands it out in order. A
// directory is listed in blocks of names, so that a large one is work for all of
// them. Listers run ahead of the consumer, nearest blocks first, but only by a
// bounded number of entries; the consumer lists too while the block it needs is in
// another's hands, so no core is idle while there is something to list.
type walker struct {
	ctx  context.Context
	tree *tree
	skip func(path string) bool // leave it out, unmentioned; or nil

	mu      sync.Mutex
	cond    *sync.Cond
	stack   []*block            // unlisted, the next in order on top
	used    [listSizes][][]item // lists of consumed blocks, by their room
	stopped bool
	wg      sync.WaitGroup
	ahead   atomic.Int64 // entries listed and not yet consumed
	waiting atomic.Int32 // listers that may need waking
}

// maxAhead bounds what is listed and not yet consumed, about 1 MB. Listers that
// met it go on at half of it: to wake one for every directory would cost more than
// the directory.
const maxAhead = 8 << 10

func (t *tree) walk(ctx context.Context, parallel int, skip func(string) bool) *walker {
	w := &walker{ctx: ctx, tree: t, skip: skip}
	w.cond = sync.NewCond(&w.mu)
	for range parallel {
		w.wg.Add(1)
		go w.run()
	}
	return w
}

// stop ends the listers.
func (w *walker) stop() {
	w.mu.Lock()
	w.stopped = true
	w.cond.Broadcast()
	w.mu.Unlock()
	w.wg.Wait()
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
		// A block that is taken is listed: the consumer waits for it.
		stopped := w.stopped || w.ctx.Err() != nil
		var b *block
		if !stopped {
			b = w.pop()
		}
		w.mu.Unlock()
		if stopped {
			return
		}
		if b != nil {
			w.list(b, l)
		}
	}
}

// pop takes the next block that nobody has begun; mu is held.
func (w *walker) pop() *block {
	for len(w.stack) > 0 {
		b := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if b.started.CompareAndSwap(false, true) {
			return b
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

// list fills b, which the caller has started, and queues what comes of it.
func (w *walker) list(b *block, l *lister) {
	f := b.dir
	var more []block
	if b == &f.first {
		if f.err = w.read(f, l); f.err != nil {
			f.first.items, f.first.names, f.more = nil, nil, nil
		}
		more = f.more
	} else {
		b.err = w.again(b)
	}
	w.ahead.Add(int64(len(b.items)))
	w.mu.Lock()
	had := len(w.stack)
	for i := len(more) - 1; i >= 0; i-- {
		w.stack = append(w.stack, &more[i])
	}
	for i := len(b.items) - 1; i >= 0; i-- {
		if s := b.items[i].directory; s != nil {
			w.stack = append(w.stack, &s.first)
		}
	}
	// Who waits although something was queued waits for the consumer to catch up.
	if len(w.stack) > had && w.waiting.Load() > 0 && (had == 0 || w.ahead.Load() <= maxAhead/2) {
		w.cond.Broadcast()
	}
	w.mu.Unlock()
	close(b.done)
}

// await returns once b is listed, listing it or others meanwhile.
func (w *walker) await(b *block, l *lister) {
	if b.started.CompareAndSwap(false, true) {
		w.list(b, l)
		return
	}
	for {
		select {
		case <-b.done:
			return
		default:
		}
		var other *block
		if w.ahead.Load() <= maxAhead {
			w.mu.Lock()
			other = w.pop()
			w.mu.Unlock()
		}
		if other == nil {
			<-b.done
			return
		}
		w.list(other, l)
	}
}

// visitor is who a walk hands the tree to. Its errors end the walk.
type visitor struct {
	// enter is called for a directory before what is in it. It gets the directory's
	// own error and returns false to leave it out.
	enter func(f *directory) (bool, error)
	other func(dir string, it *item) error // for everything else
	// failed is called in place of these for a name that cannot be looked at.
	failed func(dir, name string, err error) error
}

// each hands the tree out in order.
func (w *walker) each(v visitor) error {
	l := new(lister)
	var down func(f *directory) error
	block := func(b *block) error {
		w.await(b, l)
		if err := w.ctx.Err(); err != nil {
			return err
		}
		for i := range b.items {
			it := &b.items[i]
			var err error
			if it.directory != nil {
				err = down(it.directory)
			} else {
				err = v.other(b.dir.path, it)
			}
			if err != nil {
				return err
			}
		}
		if b.err != nil {
			for _, d := range b.names {
				if err := v.failed(b.dir.path, d.name, b.err); err != nil {
					return err
				}
			}
		}
		w.consumed(b)
		return nil
	}
	down = func(f *directory) error {
		w.await(&f.first, l)
		if err := w.ctx.Err(); err != nil {
			return err
		}
		ok, err := v.enter(f)
		if err != nil {
			return err
		}
		if !ok {
			w.drop(f)
			return nil
		}
		if err := block(&f.first); err != nil {
			return err
		}
		for i := range f.more {
			if err := block(&f.more[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return down(newDirectory(""))
}

// consumed gives back the list of a block.
func (w *walker) consumed(b *block) {
	w.ahead.Add(-int64(len(b.items)))
	if cap(b.items) > 0 {
		clear(b.items)
		w.mu.Lock()
		k := listSize(cap(b.items))
		w.used[k] = append(w.used[k], b.items[:0])
		w.mu.Unlock()
	}
	w.wake()
	b.items, b.names = nil, nil
}

// drop leaves out f with all that was listed below it.
func (w *walker) drop(f *directory) {
	leave := func(b *block) {
		if b.started.CompareAndSwap(false, true) {
			return
		}
		<-b.done
		for i := range b.items {
			if s := b.items[i].directory; s != nil {
				w.drop(s)
			}
		}
		w.ahead.Add(-int64(len(b.items)))
		b.items = nil
	}
	leave(&f.first)
	for i := range f.more {
		leave(&f.more[i])
	}
	w.wake()
}
