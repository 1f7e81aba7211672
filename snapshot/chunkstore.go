package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// chunkStore reads chunks. Neighbours in a pack are mostly wanted one after the
// other, so a read fetches a window and keeps the last few: ten thousand small
// files are some dozens of reads of the store.
type chunkStore struct {
	store  Store
	window int64

	mu   sync.Mutex
	idx  *index
	segs []*segment // most recently used last
}

const (
	localWindow = 256 << 10
	firstFetch  = 8 << 10
	maxSegments = 8
	// keptAtRest is in bytes.
	keptAtRest = 64 << 10
)

// segment is a fetched or being fetched stretch of a pack.
type segment struct {
	pack     packID
	off, end int64
	ready    chan struct{}
	data     []byte
	err      error
}

// windower is a Store whose reads have a cost of their own, such as a network
// round trip, and so says how many bytes to fetch at once.
type windower interface{ Window() int64 }

func newChunkStore(s Store) *chunkStore {
	v := &chunkStore{store: s, window: localWindow}
	if w, ok := s.(windower); ok {
		v.window = w.Window()
	}
	return v
}

// index loads the index once; forget drops it after the store was repacked.
func (v *chunkStore) index(ctx context.Context) (*index, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.idx == nil {
		x, err := loadIndex(ctx, v.store)
		if err != nil {
			return nil, err
		}
		v.idx = x
	}
	return v.idx, nil
}

func (v *chunkStore) forget() {
	v.mu.Lock()
	v.idx, v.segs = nil, nil
	v.mu.Unlock()
}

// refresh drops the index when another process collected garbage since: a
// chunk it names may be gone, and building on it would lose data.
func (v *chunkStore) refresh(ctx context.Context) error {
	_, err := v.changed(ctx, func(have, now map[string]bool) bool {
		for k := range have {
			if !now[k] {
				return true
			}
		}
		return false
	})
	return err
}

func (v *chunkStore) changed(ctx context.Context, differ func(have, now map[string]bool) bool) (bool, error) {
	v.mu.Lock()
	idx := v.idx
	v.mu.Unlock()
	if idx == nil {
		return false, nil
	}
	list, err := v.store.List(ctx, indexPrefix)
	if err != nil {
		return false, err
	}
	now := make(map[string]bool, len(list))
	for _, o := range list {
		now[o.Key] = true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.idx != idx || !differ(idx.keys, now) {
		return false, nil
	}
	v.idx, v.segs = nil, nil
	return true, nil
}

// learn adds the rows of a finished packer to a loaded index.
func (v *chunkStore) learn(key string, rows []located) {
	v.mu.Lock()
	if v.idx != nil {
		v.idx.keys[key] = true
		for _, r := range rows {
			v.idx.add(r)
		}
	}
	v.mu.Unlock()
}

func (v *chunkStore) find(ctx context.Context, id chunkID) (place, error) {
	for range 2 {
		x, err := v.index(ctx)
		if err != nil {
			return place{}, err
		}
		v.mu.Lock()
		p, ok := x.find(id)
		v.mu.Unlock()
		if ok {
			return p, nil
		}
		// Another process may have added a snapshot since the index was read.
		again, err := v.changed(ctx, func(have, now map[string]bool) bool {
			for k := range now {
				if !have[k] {
					return true
				}
			}
			return false
		})
		if err != nil {
			return place{}, err
		}
		if !again {
			break
		}
	}
	return place{}, damaged("a chunk is missing")
}

// read returns the plain chunk, in dst's space if it has enough.
func (v *chunkStore) read(ctx context.Context, dec *zstd.Decoder, dst []byte, id chunkID) ([]byte, error) {
	p, err := v.find(ctx, id)
	if err != nil {
		return nil, err
	}
	return v.readAt(ctx, dec, dst, id, p)
}

func (v *chunkStore) readAt(ctx context.Context, dec *zstd.Decoder, dst []byte, id chunkID, p place) ([]byte, error) {
	stored, err := v.stored(ctx, p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damaged("a pack is missing")
	}
	if err != nil {
		return nil, err
	}
	return expand(dec, dst, stored, id, p.raw)
}

// stored returns the bytes of a place; they are shared and must not be changed.
func (v *chunkStore) stored(ctx context.Context, p place) ([]byte, error) {
	from, to := int64(p.off), int64(p.off)+int64(p.size)
	v.mu.Lock()
	var s *segment
	for i := len(v.segs) - 1; i >= 0; i-- {
		if c := v.segs[i]; c.pack == p.pack && c.off <= from && to <= c.end {
			s = c
			copy(v.segs[i:], v.segs[i+1:])
			v.segs[len(v.segs)-1] = s
			break
		}
	}
	mine := s == nil
	if mine {
		s = &segment{pack: p.pack, off: from, end: max(to, from+v.window), ready: make(chan struct{})}
		if len(v.segs) >= maxSegments {
			v.segs = append(v.segs[:0], v.segs[1:]...)
		}
		v.segs = append(v.segs, s)
	}
	v.mu.Unlock()
	if mine {
		s.data, s.err = fetch(ctx, v.store, s)
		if s.err != nil {
			v.drop(s)
		}
		close(s.ready)
	} else {
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.err != nil {
		return nil, s.err
	}
	if to-s.off > int64(len(s.data)) {
		return nil, damaged("a pack is cut short")
	}
	return s.data[from-s.off : to-s.off], nil
}

func fetch(ctx context.Context, store Store, s *segment) ([]byte, error) {
	n := s.end - s.off
	r, err := store.Get(ctx, s.pack.key(), s.off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// The window reaches past the end of most packs, which are small.
	for b, got := make([]byte, min(n, firstFetch)), 0; ; {
		more, err := io.ReadFull(r, b[got:])
		got += more
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			// Kept as it is, what a small pack holds would keep the whole room.
			return bytes.Clone(b[:got]), nil
		case err != nil || int64(got) == n:
			return b[:got], err
		}
		wider := make([]byte, min(n, 8*int64(got)))
		copy(wider, b)
		b = wider
	}
}

// rest gives up the segments when nothing reads, unless they are small: a session
// that does nothing must not hold megabytes.
func (v *chunkStore) rest() {
	v.mu.Lock()
	defer v.mu.Unlock()
	kept := 0
	for _, s := range v.segs {
		select {
		case <-s.ready:
			kept += len(s.data)
		default: // being fetched, so somebody reads
			return
		}
	}
	if kept > keptAtRest {
		v.segs = nil
	}
}

func (v *chunkStore) drop(s *segment) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, c := range v.segs {
		if c == s {
			v.segs = append(v.segs[:i], v.segs[i+1:]...)
			return
		}
	}
}

// pieceReader streams the content of a file entry, or of a manifest.
type pieceReader struct {
	ctx    context.Context
	v      *chunkStore
	dec    *zstd.Decoder
	pieces []piece
	places []place // where they are, if known without the index
	buf    []byte
	rest   []byte
	hole   int64
}

func (v *chunkStore) open(ctx context.Context, pieces []piece, places []place) (*pieceReader, error) {
	dec, err := newExpander()
	if err != nil {
		return nil, err
	}
	return &pieceReader{ctx: ctx, v: v, dec: dec, pieces: pieces, places: places}, nil
}

func (r *pieceReader) Close() error {
	if r.dec != nil {
		restExpander(r.dec)
		r.dec = nil
	}
	return nil
}

func (r *pieceReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 && r.hole == 0 {
		if len(r.pieces) == 0 {
			return 0, io.EOF
		}
		if err := r.step(); err != nil {
			return 0, err
		}
	}
	if r.hole > 0 {
		n := int(min(r.hole, int64(len(b))))
		clear(b[:n])
		r.hole -= int64(n)
		return n, nil
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *pieceReader) step() error {
	p := r.pieces[0]
	r.pieces = r.pieces[1:]
	var at *place
	if len(r.places) > 0 {
		at, r.places = &r.places[0], r.places[1:]
	}
	if p.hole() {
		r.hole = p.n
		return nil
	}
	var err error
	if at != nil {
		r.buf, err = r.v.readAt(r.ctx, r.dec, r.buf, p.id, *at)
	}
	// A collection may have moved the chunk since its place was noted.
	if at == nil || errors.Is(err, errDamaged) {
		r.buf, err = r.v.read(r.ctx, r.dec, r.buf, p.id)
	}
	if err != nil {
		return err
	}
	if int64(len(r.buf)) != p.n {
		return damaged("a chunk is not of the size it is listed with")
	}
	r.rest = r.buf
	return nil
}
