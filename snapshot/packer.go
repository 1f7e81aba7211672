package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// packSize is how much is gathered before it is written: ten thousand small
// files become a few objects and as many fsyncs, not ten thousand.
const packSize = 8 << 20

// The room of a pack begins with firstPack bytes, and has nextPack when those are full:
// most snapshots of a session store one small file.
const (
	firstPack = 8 << 10
	nextPack  = 1 << 20
)

// maxStored bounds a stored chunk: incompressible ones are kept plain, so
// nothing grows by more than the codec byte.
const maxStored = maxChunk + 1

// The codec of a stored chunk, its first byte.
const (
	codecPlain = 0
	codecZstd  = 1
)

// compressor turns plain chunks into stored ones; one a goroutine.
type compressor struct{ enc *zstd.Encoder }

// compressors and expanders are at rest: each has tables of some 100 KB, and most
// snapshots compress one small chunk.
var compressors, expanders sync.Pool

func newCompressor() (*compressor, error) {
	if c, ok := compressors.Get().(*compressor); ok {
		return c, nil
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	return &compressor{enc}, nil
}

// rest gives c to the next newCompressor.
func (c *compressor) rest() { compressors.Put(c) }

func (c *compressor) compress(dst, plain []byte) []byte {
	dst = append(dst[:0], codecZstd)
	dst = c.enc.EncodeAll(plain, dst)
	if len(dst) > len(plain) {
		dst = append(append(dst[:0], codecPlain), plain...)
	}
	return dst
}

// packer gathers stored chunks into packs and writes them while the next fill.
// It may be used by several goroutines. No more than uploads+1 packs are in
// memory: add waits for a free one.
type packer struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	store  Store
	free   chan []byte

	mu     sync.Mutex
	buf    []byte
	rows   []located
	done   []located // rows of packs handed to an upload
	stored int64
	wg     sync.WaitGroup
}

func newPacker(ctx context.Context, store Store, uploads int) *packer {
	p := &packer{store: store, free: make(chan []byte, uploads+1)}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	for range uploads + 1 {
		p.free <- nil
	}
	return p
}

// add appends a stored chunk. Until finish returns nil it is not yet safe.
func (p *packer) add(id chunkID, stored []byte, raw int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.buf) > 0 && len(p.buf)+len(stored) > packSize {
		p.ship()
	}
	if p.buf == nil {
		select {
		case b := <-p.free:
			p.buf = b[:0]
			if b == nil {
				p.buf = make([]byte, 0, max(firstPack, len(stored)))
			}
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
	}
	if err := context.Cause(p.ctx); err != nil {
		return err
	}
	p.rows = append(p.rows, located{id, place{off: uint32(len(p.buf)), size: uint32(len(stored)), raw: uint32(raw)}})
	if n := len(p.buf) + len(stored); n > cap(p.buf) {
		p.buf = slices.Grow(p.buf, max(nextPack, n)-len(p.buf))
	}
	p.buf = append(p.buf, stored...)
	p.stored += int64(len(stored))
	return nil
}

// ship hands the current pack to an upload; p.mu is held.
func (p *packer) ship() {
	buf := p.buf
	id := packID(sha256.Sum256(buf))
	for _, r := range p.rows {
		r.pack = id
		p.done = append(p.done, r)
	}
	p.buf, p.rows = nil, p.rows[:0]
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		if err := p.store.Put(p.ctx, id.key(), bytes.NewReader(buf), int64(len(buf))); err != nil {
			p.cancel(err)
		}
		p.free <- buf[:0]
	}()
}

// absorb takes over what is still open in o, if it fits, so that a small
// snapshot is one pack.
func (p *packer) absorb(o *packer) error {
	o.mu.Lock()
	buf, rows := o.buf, o.rows
	o.mu.Unlock()
	p.mu.Lock()
	fits := len(p.buf)+len(buf) <= packSize
	p.mu.Unlock()
	if !fits || len(buf) == 0 {
		return nil
	}
	for _, r := range rows {
		if err := p.add(r.id, buf[r.off:r.off+r.size], int(r.raw)); err != nil {
			return err
		}
	}
	o.mu.Lock()
	o.stored -= int64(len(buf))
	o.buf, o.rows = buf[:0], nil
	o.mu.Unlock()
	return nil
}

// finish writes what is left and returns where everything is. Until the index
// over it is written too, nothing may refer to the chunks.
func (p *packer) finish() ([]located, error) {
	p.mu.Lock()
	if len(p.buf) > 0 {
		p.ship()
	}
	rows := p.done
	p.mu.Unlock()
	p.wg.Wait()
	if err := context.Cause(p.ctx); err != nil {
		return nil, err
	}
	return rows, nil
}

// abandon stops the uploads. What was written is garbage for Prune.
func (p *packer) abandon() {
	p.cancel(context.Canceled)
	p.wg.Wait()
}

// putIndex writes the index over rows and returns its key.
func putIndex(ctx context.Context, s Store, rows []located) (string, error) {
	b := encodeIndex(rows)
	sum := sha256.Sum256(b)
	key := indexPrefix + hex.EncodeToString(sum[:])
	return key, s.Put(ctx, key, bytes.NewReader(b), int64(len(b)))
}

// expand turns a stored chunk back and verifies it against its name.
func expand(dec *zstd.Decoder, dst, stored []byte, id chunkID, raw uint32) ([]byte, error) {
	if len(stored) == 0 || raw > maxChunk {
		return nil, damaged("a chunk is empty")
	}
	switch stored[0] {
	case codecPlain:
		dst = append(dst[:0], stored[1:]...)
	case codecZstd:
		var err error
		if dst, err = dec.DecodeAll(stored[1:], dst[:0]); err != nil {
			return nil, damaged("a chunk cannot be decompressed")
		}
	default:
		return nil, damaged("a chunk is stored in an unknown way")
	}
	if uint32(len(dst)) != raw || sha256.Sum256(dst) != id {
		return nil, damaged("a chunk does not have the content its name says")
	}
	return dst, nil
}

func newExpander() (*zstd.Decoder, error) {
	if d, ok := expanders.Get().(*zstd.Decoder); ok {
		return d, nil
	}
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*maxChunk), zstd.WithDecoderLowmem(true))
}

// restExpander gives dec to the next newExpander.
func restExpander(dec *zstd.Decoder) { expanders.Put(dec) }
