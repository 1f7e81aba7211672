package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// scan reads the workspace into entries, in order. It is a line of three: the
// walk makes entries and takes unchanged ones over from the newest snapshot,
// some readers hash the rest, and sink gets each when it is complete. Queues
// between them are bounded, so memory does not grow with the tree.
type scan struct {
	r    *Repo
	prev *manifestReader // sorted entries to take over, or nil
	save *saver          // where new chunks go; nil: only hash them
	sink func(*entry) error

	// All paths that are there and are not in the entries: a restore must know
	// what to leave alone. ignoring lists folders with configured ones.
	skipped  []Skipped
	ignoring []string
	read     int // files that were read
}

// pending is an entry on its way. done is nil for one complete at once.
type pending struct {
	e    *entry
	done chan struct{}
	drop bool     // gone or replaced since it was listed
	note string   // a reason to list it as skipped
	keep bool     // a folder with something ignored in it
	same *pending // the first path of the same inode
}

const (
	queueLength = 4096
	jobsLength  = 256
	readTries   = 3
	// racyMargin: a change within the clock tick that a file was read in could
	// leave its ctime as it is. Ticks are up to 10 ms; a file younger than this
	// when it was read is read again by the next snapshot.
	racyMargin = int64(50e6) // ns
)

func (s *scan) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	readers := make([]*fileReader, s.r.opt.Parallel)
	for i := range readers {
		var err error
		if readers[i], err = newFileReader(ctx, s.r, s.save); err != nil {
			return err
		}
	}
	queue := make(chan *pending, queueLength)
	jobs := make(chan *pending, jobsLength)
	var wg sync.WaitGroup
	for _, rd := range readers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for p := range jobs {
				if ctx.Err() == nil {
					if err := rd.read(p); err != nil {
						cancel(err)
					}
				}
				close(p.done)
			}
		}()
	}
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer close(queue)
		defer close(jobs)
		if err := s.produce(ctx, queue, jobs); err != nil {
			cancel(err)
		}
	}()
	for p := range queue {
		if p.done != nil {
			<-p.done
		}
		if ctx.Err() != nil {
			continue // drain
		}
		if err := s.consume(p); err != nil {
			cancel(err)
		}
	}
	wg.Wait()
	return context.Cause(ctx)
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

// produce walks and queues.
func (s *scan) produce(ctx context.Context, queue, jobs chan<- *pending) error {
	var skip func(string) bool
	if len(s.r.opt.Ignore)+len(s.r.opt.Skip) > 0 {
		skip = s.r.skipped
	}
	w := s.r.tree.walk(ctx, max(s.r.opt.Parallel-1, 1), skip)
	defer w.stop()
	send := func(p *pending) error {
		select {
		case queue <- p:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	pass := func(path, why string) error {
		return send(&pending{e: &entry{path: path}, drop: true, note: why})
	}
	first := map[inode]*pending{}
	var old *entry
	if s.prev != nil {
		old = s.advance()
	}
	match := func(path string) *entry {
		for old != nil && comparePaths(old.path, path) < 0 {
			old = s.advance()
		}
		if old != nil && old.path == path {
			return old
		}
		return nil
	}
	enter := func(f *folder) (bool, error) {
		if f.err != nil {
			if f.path == "" {
				return false, f.err
			}
			switch why := unreadable(f.err); {
			case why == gone:
				return false, nil
			case why != "":
				return false, pass(f.path, why)
			}
			return false, f.err
		}
		e := newEntry(f.path, kindDir, &f.st)
		e.mode = f.st.mode & dirModeMask
		e.xattrs = f.xattrs
		match(f.path)
		return true, send(&pending{e: e, keep: f.ignoring})
	}
	other := func(dir string, it *item) error {
		path := joinPath(dir, it.name)
		if len(path) > maxPath {
			return pass(path[:maxPath], skipLong)
		}
		st := &it.st
		switch st.mode & unix.S_IFMT {
		case unix.S_IFREG:
		case unix.S_IFLNK:
			e := newEntry(path, kindLink, st)
			e.mode, e.target = 0o777, it.target
			return send(&pending{e: e})
		case unix.S_IFIFO:
			return pass(path, skipFIFO)
		case unix.S_IFSOCK:
			return pass(path, skipSocket)
		default:
			return pass(path, skipDevice)
		}
		if st.dev != s.r.tree.dev {
			return pass(path, skipMount) // a file bound over this one
		}
		e := newEntry(path, kindFile, st)
		e.size, e.mode = st.size, st.mode&fileModeMask
		p := &pending{e: e}
		if st.nlink > 1 {
			key := inode{st.dev, st.ino}
			if f := first[key]; f != nil {
				p.same = f
				return send(p)
			}
			first[key] = p
			e.linked = true
		}
		if o := match(path); o != nil && o.kind == kindFile && o.ctime != 0 && o.ctime == st.ctime &&
			o.mtime == st.mtime && o.size == st.size && o.ino == st.ino && o.dev == st.dev {
			e.pieces, e.xattrs = o.pieces, o.xattrs
			return send(p)
		}
		p.done = make(chan struct{})
		select {
		case jobs <- p:
		case <-ctx.Done():
			close(p.done)
			return context.Cause(ctx)
		}
		return send(p)
	}
	return w.each(enter, other)
}

func newEntry(path string, kind byte, st *stat) *entry {
	return &entry{path: path, kind: kind, mtime: st.mtime, dev: st.dev, ino: st.ino, ctime: st.ctime}
}

// advance returns the next entry of the newest snapshot. Should that be
// damaged, the rest of the tree is simply read.
func (s *scan) advance() *entry {
	e, err := s.prev.next()
	if err != nil {
		s.r.log.Warn("the newest snapshot cannot be read, reading all files", "cause", err)
		return nil
	}
	return e
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

// fileReader reads, cuts and hashes files; one a goroutine.
type fileReader struct {
	ctx  context.Context
	r    *Repo
	save *saver
	comp *compressor
	buf  []byte
	out  []byte
	// zeros: store chunks of zeros as holes. An archive does not tell the two
	// apart; a file system does.
	zeros bool
}

const minHole = 64 << 10

func newFileReader(ctx context.Context, r *Repo, save *saver) (*fileReader, error) {
	f := &fileReader{ctx: ctx, r: r, save: save, buf: make([]byte, 64<<10)}
	if save != nil {
		var err error
		if f.comp, err = newCompressor(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// read completes p from the file as it is now.
func (f *fileReader) read(p *pending) error {
	e := p.e
	for try := 1; ; try++ {
		ok, err := f.once(p)
		if err != nil {
			switch why := unreadable(err); why {
			case "":
				return fail(err, "the file %s could not be read", quote(e.path))
			case gone:
				p.drop = true
			default:
				p.drop, p.note = true, why
			}
			return nil
		}
		if ok {
			return nil
		}
		if try == readTries {
			// Half of one state and half of another may be all there is of a
			// file that is always being written, such as a log.
			p.note = skipChanging
			e.ctime = 0
			return nil
		}
	}
}

// once reads the file through; false means that it changed meanwhile.
func (f *fileReader) once(p *pending) (bool, error) {
	e := p.e
	fd, err := f.r.tree.openFile(e.path)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var raw unix.Stat_t
	if err := unix.Fstat(fd, &raw); err != nil {
		return false, err
	}
	st := statOf(&raw)
	if st.mode&unix.S_IFMT != unix.S_IFREG {
		return false, unix.ENXIO // swapped since the walk saw it
	}
	started := f.r.opt.Now().UnixNano()
	e.size, e.mode, e.mtime, e.ctime = st.size, st.mode&fileModeMask, st.mtime, st.ctime
	e.dev, e.ino = st.dev, st.ino
	e.pieces = nil
	e.xattrs = readXattrs(fd)
	if raw.Blocks*512 < st.size {
		err = f.sparse(fd, e)
	} else {
		err = f.extent(fromFile(fd), e, 0, st.size)
	}
	if err != nil && !errors.Is(err, errShort) {
		return false, err
	}
	end, serr := fstat(fd)
	if serr != nil {
		return false, serr
	}
	if err != nil || end.size != st.size || end.mtime != st.mtime || end.ctime != st.ctime {
		// What was read so far is consistent in itself: as many bytes as its
		// pieces have.
		e.size = 0
		for _, pc := range e.pieces {
			e.size += pc.n
		}
		return false, nil
	}
	if st.ctime > started-racyMargin {
		e.ctime = 0
	}
	return true, nil
}

var errShort = errors.New("the file became shorter")

// sparse stores the holes as such, lseek(2) SEEK_DATA and SEEK_HOLE.
func (f *fileReader) sparse(fd int, e *entry) error {
	for off := int64(0); off < e.size; {
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			data, err = e.size, nil // nothing but a hole is left
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
			return f.extent(fromFile(fd), e, off, e.size) // not on this file system
		}
		if err != nil {
			return err
		}
		data = min(data, e.size)
		if data > off {
			e.pieces = append(e.pieces, piece{n: data - off})
		}
		if data == e.size {
			return nil
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if hole = min(hole, e.size); hole <= data {
			return errShort
		}
		if err := f.extent(fromFile(fd), e, data, hole); err != nil {
			return err
		}
		off = hole
	}
	return nil
}

// source fills the start of b with what is at off; 0 bytes mean the end.
type source func(b []byte, off int64) (int, error)

func fromFile(fd int) source {
	return func(b []byte, off int64) (int, error) {
		for {
			n, err := unix.Pread(fd, b, off)
			if err != unix.EINTR {
				return n, err
			}
		}
	}
}

// extent cuts the bytes [off, end) into pieces.
func (f *fileReader) extent(src source, e *entry, off, end int64) error {
	cuts := fileCuts()
	want := int(min(end-off, 2*maxChunk))
	if len(f.buf) < want {
		f.buf = make([]byte, max(want, 2*len(f.buf), 256<<10))
	}
	head, tail := 0, 0 // unread bytes of buf
	for {
		// A cut needs a whole largest chunk at hand, or the end.
		if tail-head < cuts.max && off < end {
			if len(f.buf)-head < cuts.max && head > 0 {
				tail = copy(f.buf, f.buf[head:tail])
				head = 0
			}
			for tail < len(f.buf) && off < end {
				n, err := src(f.buf[tail:min(len(f.buf), tail+int(min(end-off, 1<<30)))], off)
				if err != nil {
					return err
				}
				if n == 0 {
					return errShort
				}
				tail += n
				off += int64(n)
			}
		}
		if head == tail {
			return nil
		}
		n := cuts.cut(f.buf[head:tail])
		if f.zeros && n >= minHole && allZero(f.buf[head:head+n]) {
			e.addHole(int64(n))
		} else {
			id, err := f.chunk(f.buf[head : head+n])
			if err != nil {
				return err
			}
			e.pieces = append(e.pieces, piece{id, int64(n)})
		}
		head += n
		if err := f.ctx.Err(); err != nil {
			return context.Cause(f.ctx)
		}
	}
}

// chunk hashes one chunk and stores it if it is new.
func (f *fileReader) chunk(plain []byte) (chunkID, error) {
	id := chunkID(sha256.Sum256(plain))
	if f.save == nil {
		return id, nil
	}
	isNew, err := f.save.claim(f.ctx, id)
	if err != nil || !isNew {
		return id, err
	}
	f.out = f.comp.compress(f.out, plain)
	return id, f.save.data.add(id, f.out, len(plain))
}
