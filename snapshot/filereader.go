package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"

	"golang.org/x/sys/unix"
)

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

// The room to read begins with firstRead bytes, and has nextRead for a larger file.
const (
	firstRead = 8 << 10
	nextRead  = 64 << 10
)

func newFileReader(ctx context.Context, r *Repo, save *saver) (*fileReader, error) {
	f := &fileReader{ctx: ctx, r: r, save: save, buf: make([]byte, firstRead)}
	if save != nil {
		var err error
		if f.comp, err = newCompressor(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// end is called after the last read.
func (f *fileReader) end() {
	if f.comp != nil {
		f.comp.rest()
		f.comp = nil
	}
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
		least := nextRead
		if want > nextRead {
			least = 256 << 10
		}
		f.buf = make([]byte, max(want, 2*len(f.buf), least))
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
