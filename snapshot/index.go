package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// The keys of a store:
//
//	packs/<sha256>        chunks back to back
//	index/<sha256>        where the chunks of some packs are
//	snapshots/<id>        a record: what a snapshot is and where its manifest is
//
// Packs and indexes are named after their own content. A snapshot exists once
// its record does, and that is written last.
const (
	packPrefix   = "packs/"
	indexPrefix  = "index/"
	recordPrefix = "snapshots/"
)

// packID names a pack: the SHA-256 of its bytes.
type packID [32]byte

func (p packID) key() string { return packPrefix + hex.EncodeToString(p[:]) }

func parsePackKey(key string) (packID, bool) {
	var id packID
	h, ok := strings.CutPrefix(key, packPrefix)
	if !ok || len(h) != 64 {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(h))
	return id, err == nil
}

// place says where a chunk is stored.
type place struct {
	pack packID
	off  uint32
	size uint32 // stored, with its one byte of codec
	raw  uint32 // plain
}

type located struct {
	id chunkID
	place
}

// index is every chunk of the store. A chunk takes about 120 bytes here.
type index struct {
	packs  []packID // by number, so that a chunk holds 4 bytes of it
	number map[packID]uint32
	chunks map[chunkID]indexEntry
	keys   map[string]bool // the index objects that were read
}

type indexEntry struct{ pack, off, size, raw uint32 }

func newIndex() *index {
	return &index{number: map[packID]uint32{}, chunks: map[chunkID]indexEntry{}, keys: map[string]bool{}}
}

func (x *index) add(l located) {
	n, ok := x.number[l.pack]
	if !ok {
		n = uint32(len(x.packs))
		x.packs = append(x.packs, l.pack)
		x.number[l.pack] = n
	}
	x.chunks[l.id] = indexEntry{n, l.off, l.size, l.raw}
}

func (x *index) find(id chunkID) (place, bool) {
	e, ok := x.chunks[id]
	if !ok {
		return place{}, false
	}
	return place{x.packs[e.pack], e.off, e.size, e.raw}, true
}

// An index object is the magic, a table of packs and fixed-size rows:
//
//	magic, u32 packs, pack ids, u32 rows, rows of id, u32 pack, off, size, raw
const (
	indexMagic   = "mcp-sandbox index 1\n"
	indexRowSize = 32 + 4*4
	maxIndexSize = 4 << 30
)

func encodeIndex(rows []located) []byte {
	number := map[packID]uint32{}
	var packs []packID
	for _, r := range rows {
		if _, ok := number[r.pack]; !ok {
			number[r.pack] = uint32(len(packs))
			packs = append(packs, r.pack)
		}
	}
	le := binary.LittleEndian
	b := make([]byte, 0, len(indexMagic)+8+32*len(packs)+indexRowSize*len(rows))
	b = append(b, indexMagic...)
	b = le.AppendUint32(b, uint32(len(packs)))
	for i := range packs {
		b = append(b, packs[i][:]...)
	}
	b = le.AppendUint32(b, uint32(len(rows)))
	for i := range rows {
		r := &rows[i]
		b = append(b, r.id[:]...)
		for _, v := range [4]uint32{number[r.pack], r.off, r.size, r.raw} {
			b = le.AppendUint32(b, v)
		}
	}
	return b
}

func decodeIndex(b []byte, into *index) error {
	bad := damaged("an index is cut short")
	if len(b) < len(indexMagic)+4 || string(b[:len(indexMagic)]) != indexMagic {
		return damaged("an index is of an unknown version")
	}
	b = b[len(indexMagic):]
	le := binary.LittleEndian
	np := uint64(le.Uint32(b))
	b = b[4:]
	if uint64(len(b)) < 32*np+4 {
		return bad
	}
	packs := make([]packID, np)
	for i := range packs {
		copy(packs[i][:], b)
		b = b[32:]
	}
	n := uint64(le.Uint32(b))
	b = b[4:]
	if uint64(len(b)) != n*indexRowSize {
		return bad
	}
	for ; len(b) > 0; b = b[indexRowSize:] {
		var l located
		copy(l.id[:], b)
		p := le.Uint32(b[32:])
		l.off, l.size, l.raw = le.Uint32(b[36:]), le.Uint32(b[40:]), le.Uint32(b[44:])
		if uint64(p) >= np || l.raw > maxChunk || l.size == 0 || l.size > maxStored {
			return damaged("an index holds an impossible row")
		}
		l.pack = packs[p]
		into.add(l)
	}
	return nil
}

// loadIndex reads every index object of the store.
func loadIndex(ctx context.Context, s Store) (*index, error) {
	list, err := s.List(ctx, indexPrefix)
	if err != nil {
		return nil, err
	}
	x := newIndex()
	for _, o := range list {
		if o.Size > maxIndexSize {
			return nil, damaged("an index is too large")
		}
		b, err := getAll(ctx, s, o.Key, o.Size)
		if errors.Is(err, fs.ErrNotExist) {
			continue // merged into another by a collection since the listing
		}
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		if indexPrefix+hex.EncodeToString(sum[:]) != o.Key {
			return nil, damaged("an index does not have the content its name says")
		}
		if err := decodeIndex(b, x); err != nil {
			return nil, err
		}
		x.keys[o.Key] = true
	}
	return x, nil
}

// getAll reads a whole object of at most limit bytes.
func getAll(ctx context.Context, s Store, key string, limit int64) ([]byte, error) {
	r, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, damaged("an object is larger than it can be")
	}
	return b, nil
}

// sortPlaces orders rows as they lie in their packs.
func sortPlaces(rows []located) {
	slices.SortFunc(rows, func(a, b located) int {
		if c := bytes.Compare(a.pack[:], b.pack[:]); c != 0 {
			return c
		}
		return cmp.Compare(a.off, b.off)
	})
}
