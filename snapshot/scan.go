package snapshot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// scan reads the workspace into entries, in order. One goroutine walks, takes
// unchanged files over from the newest snapshot and hands everything to sink;
// some readers hash the rest. What comes after a file that is being read waits
// in a bounded line, so memory does not grow with the tree.
type scan struct {
	r    *Repo
	prev *manifestReader // sorted entries to take over, or nil
	save *saver          // where new chunks go; nil: only hash them
	// sink gets each entry when it is complete. Entries are used again: what it
	// keeps of one must be a copy.
	sink func(*entry) error

	// All paths that are there and are not in the entries: a restore must know
	// what to leave alone. ignoring lists directories with configured ones.
	skipped  []Skipped
	ignoring []string
	// protected are the protected paths that are there.
	protected []string
	rules     Rules
	read      int // files that were read
	// leave are paths to leave out, each with all below it.
	leave map[string]struct{}
	// most, if not 0, bounds the bytes of the files that are read.
	most, bytes int64

	ctx     context.Context
	cancel  context.CancelCauseFunc
	readers int
	jobs    chan *pending
	wg      sync.WaitGroup
	line    []*pending // in order, the first is being read
	spare   *pending
	old     entry // where prev is, if hasOld
	hasOld  bool
}

// pending is an entry on its way. done is nil for one complete at once.
type pending struct {
	e      *entry
	done   chan struct{}
	drop   bool     // gone or replaced since it was listed
	note   string   // a reason to list it as skipped
	keep   bool     // a directory with something ignored in it
	same   *pending // the first path of the same inode
	first  bool     // of an inode with more paths
	borrow bool     // its pieces lie in scan.old
}

const (
	lineLength = 4096
	jobsLength = 256
	readTries  = 3
	// racyMargin: a change within the clock tick that a file was read in could
	// leave its ctime as it is. Ticks are up to 10 ms; a file younger than this
	// when it was read is read again by the next snapshot.
	racyMargin = int64(50e6) // ns
)

func (s *scan) run(ctx context.Context) error {
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	defer s.cancel(nil)
	s.jobs = make(chan *pending, jobsLength)
	s.rules = s.r.rules(s.ctx)
	err := s.produce()
	if err == nil {
		err = s.advanceLine(0)
	}
	if err != nil {
		s.cancel(err)
	}
	close(s.jobs)
	s.wg.Wait()
	return context.Cause(s.ctx)
}

// submit has a file read. Readers begin when there is something for them.
func (s *scan) submit(p *pending) error {
	if s.readers < s.r.opt.Parallel {
		rd, err := newFileReader(s.ctx, s.r, s.save)
		if err != nil {
			return err
		}
		s.readers++
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			defer rd.end()
			for p := range s.jobs {
				if s.ctx.Err() == nil {
					if err := rd.read(p); err != nil {
						s.cancel(err)
					}
				}
				close(p.done)
			}
		}()
	}
	p.done = make(chan struct{})
	select {
	case s.jobs <- p:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// start returns an empty pending for a path.
func (s *scan) start(path string, kind byte, st *stat) *pending {
	p := s.spare
	if p == nil {
		p = &pending{e: new(entry)}
	}
	s.spare = nil
	*p.e = entry{path: path, kind: kind, mtime: st.mtime, dev: st.dev, ino: st.ino, ctime: st.ctime}
	*p = pending{e: p.e}
	return p
}

// deliver puts p at the end of the line.
func (s *scan) deliver(p *pending) error {
	now := len(s.line) == 0 && p.done == nil
	if p.borrow && (!now || p.first) {
		p.e.pieces = slices.Clone(p.e.pieces)
	}
	if now {
		err := s.consume(p)
		if !p.first {
			s.spare = p
		}
		return err
	}
	s.line = append(s.line, p)
	return s.advanceLine(lineLength)
}

// advanceLine hands on what is complete, and waits while the line is longer
// than most.
func (s *scan) advanceLine(most int) error {
	n := 0
	defer func() {
		clear(s.line[:n])
		if s.line = s.line[n:]; len(s.line) == 0 {
			s.line = nil
		}
	}()
	for ; n < len(s.line); n++ {
		p := s.line[n]
		if p.done != nil {
			select {
			case <-p.done:
			default:
				if len(s.line)-n <= most {
					return nil
				}
				<-p.done
			}
		}
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		if err := s.consume(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) consume(p *pending) error {
	if p.note != "" {
		s.skipped = append(s.skipped, Skipped{p.e.path, p.note})
	}
	if p.done != nil {
		s.read++
	}
	if p.keep {
		s.ignoring = append(s.ignoring, p.e.path)
	}
	if f := p.same; f != nil {
		if f.drop {
			return nil
		}
		p.e.size, p.e.pieces, p.e.xattrs = f.e.size, f.e.pieces, f.e.xattrs
		p.e.mode, p.e.mtime, p.e.ctime = f.e.mode, f.e.mtime, f.e.ctime
		p.e.hard = f.e.path
	}
	if p.drop {
		return nil
	}
	return s.sink(p.e)
}

type inode struct{ dev, ino uint64 }

// produce walks.
func (s *scan) produce() error {
	var skip func(string) bool
	if len(s.r.opt.Ignore)+len(s.r.opt.Skip) > 0 {
		skip = s.r.skipped
	}
	if len(s.leave) > 0 {
		configured := skip
		skip = func(path string) bool {
			_, ok := s.leave[path]
			return ok || configured != nil && configured(path)
		}
	}
	w := s.r.tree.walk(s.ctx, max(s.r.opt.Parallel-1, 1), skip)
	defer w.stop()
	first := map[inode]*pending{}
	s.advance()
	return w.each(visitor{
		enter:  s.enter,
		other:  func(dir string, it *item) error { return s.other(first, dir, it) },
		failed: s.failed,
	})
}

// pass notes a path that is left out.
func (s *scan) pass(path, why string) error {
	p := s.start(path, 0, &stat{})
	p.drop, p.note = true, why
	return s.deliver(p)
}

func (s *scan) enter(f *directory) (bool, error) {
	if f.err != nil {
		if f.path == "" {
			return false, f.err
		}
		switch why := unreadable(f.err); {
		case why == gone:
			return false, nil
		case why != "":
			return false, s.pass(f.path, why)
		}
		return false, f.err
	}
	if s.rules.Hides(f.path, f.st.dev, f.st.ino, 1) {
		return false, s.pass(f.path, skipHidden)
	}
	s.notice(f.path)
	p := s.start(f.path, kindDir, &f.st)
	p.e.mode = f.st.mode & dirModeMask
	p.e.xattrs = f.xattrs
	p.keep = f.ignoring
	return true, s.deliver(p)
}

// failed notes a name that could not be looked at: a command took the right to
// search its directory meanwhile.
func (s *scan) failed(dir, name string, err error) error {
	path := joinPath(dir, name)
	switch why := unreadable(err); {
	case why == gone:
		return nil
	case why == "":
		return err
	case len(path) > maxPath:
		return s.pass(path[:maxPath], skipLong)
	case s.rules.Hides(path, 0, 0, 0):
		return s.pass(path, skipHidden)
	default:
		return s.pass(path, why)
	}
}

func (s *scan) other(first map[inode]*pending, dir string, it *item) error {
	// A path that was there before is in memory already.
	old, path := s.match(dir, it.name), ""
	if old != nil {
		path = old.path
	} else {
		path = joinPath(dir, it.name)
	}
	if len(path) > maxPath {
		return s.pass(path[:maxPath], skipLong)
	}
	st := &it.st
	if s.rules.Hides(path, st.dev, st.ino, st.nlink) {
		return s.pass(path, skipHidden)
	}
	s.notice(path)
	switch st.mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFLNK:
		p := s.start(path, kindLink, st)
		p.e.mode, p.e.target = 0o777, it.target
		return s.deliver(p)
	case unix.S_IFIFO:
		return s.pass(path, skipFIFO)
	case unix.S_IFSOCK:
		return s.pass(path, skipSocket)
	default:
		return s.pass(path, skipDevice)
	}
	if st.dev != s.r.tree.dev {
		return s.pass(path, skipMount) // a file bound over this one
	}
	p := s.start(path, kindFile, st)
	e := p.e
	e.size, e.mode = st.size, st.mode&fileModeMask
	if st.nlink > 1 {
		key := inode{st.dev, st.ino}
		if f := first[key]; f != nil {
			p.same = f
			return s.deliver(p)
		}
		first[key] = p
		e.linked, p.first = true, true
	}
	if old != nil && old.kind == kindFile && old.ctime != 0 && old.ctime == st.ctime &&
		old.mtime == st.mtime && old.size == st.size && old.ino == st.ino && old.dev == st.dev {
		e.pieces, e.xattrs, p.borrow = old.pieces, old.xattrs, true
		return s.deliver(p)
	}
	if s.bytes += st.size; s.most > 0 && s.bytes > s.most {
		return sandbox.Errorf(CodeLimit, nil, "the files to store are larger than %d bytes together; raise the limit", s.most)
	}
	if err := s.submit(p); err != nil {
		return err
	}
	return s.deliver(p)
}

// notice notes a protected path. The directories above hold something to keep.
func (s *scan) notice(path string) {
	if s.rules.Protects(path) {
		s.protected = append(s.protected, strings.Clone(path))
	}
}

// match returns the newest snapshot's entry of a path. They must come in order.
func (s *scan) match(dir, name string) *entry {
	for s.hasOld {
		c := compareJoined(s.old.path, dir, name)
		if c == 0 {
			return &s.old
		}
		if c > 0 {
			return nil
		}
		s.advance()
	}
	return nil
}

// advance steps to the next entry of the newest snapshot. Should that be
// damaged, the rest of the tree is simply read.
func (s *scan) advance() {
	s.hasOld = false
	if s.prev == nil {
		return
	}
	ok, err := s.prev.into(&s.old)
	if err != nil && !errors.Is(err, context.Canceled) {
		s.r.log.Warn("the newest snapshot cannot be read, reading all files", "cause", err)
	}
	s.hasOld = ok
}

const gone = "gone"

// unreadable sorts the errors that concern one path only: gone for what
// vanished or changed its type since it was listed, the reason for what is to
// be listed as skipped, "" for what must fail the whole.
func unreadable(err error) string {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EAGAIN):
		return gone
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return skipUnreadable
	case errors.Is(err, unix.EXDEV):
		return skipMount
	case errors.Is(err, unix.ENAMETOOLONG):
		return skipLong
	}
	return ""
}
