package gitstage

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strconv"
)

// Git believes the index of a pack: which object lies where. One that a session wrote
// could name another object than is there, in place of one that is published. So the
// index is made here, from what the pack holds (gitformat-pack(5)).

// Bounds of objects that are changed by deltas: the bytes of one, of all in use at a
// time, and how many follow one another (git makes 4,095 at most).
const (
	maxDeltaObject = 512 << 20
	maxDeltaLive   = 1 << 30
	maxDeltaDepth  = 4096
)

type packEntry struct {
	at, data int64 // where it begins, and its compressed part
	kind     byte
	size     int64
	crc      uint32
	oid      []byte // nil until it is known
}

var packKinds = map[byte]string{1: "commit", 2: "tree", 3: "blob", 4: "tag"}

const packOffsetDelta, packRefDelta = 6, 7

// packIndexMagic begins an index of version 2.
const packIndexMagic = "\xfftOc\x00\x00\x00\x02"

// packReader counts what is read, and reads no further than it is asked to.
type packReader struct {
	r   *bufio.Reader
	at  int64
	crc hash.Hash32
}

func (p *packReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.at += int64(n)
	_, _ = p.crc.Write(b[:n])
	return n, err
}

func (p *packReader) ReadByte() (byte, error) {
	c, err := p.r.ReadByte()
	if err == nil {
		p.at++
		_, _ = p.crc.Write([]byte{c})
	}
	return c, err
}

// packIndexer makes the index of one pack.
type packIndexer struct {
	f        *os.File
	hexLen   int
	entries  []packEntry
	byOffset map[int64][]int  // deltas by the offset of what they change
	byOID    map[string][]int // the same by its name
	live     int64
	known    int
}

// packIndex is the content of a pack's .idx file; errObject for what is no whole pack.
func packIndex(f *os.File, hexLen int) ([]byte, error) {
	x := &packIndexer{f: f, hexLen: hexLen, byOffset: map[int64][]int{}, byOID: map[string][]int{}}
	end, err := x.read()
	if err != nil {
		return nil, errObject
	}
	for i := range x.entries {
		if e := &x.entries[i]; packKinds[e.kind] != "" && x.changed(e) {
			b, err := x.inflate(e)
			if err == nil {
				err = x.resolve(e, packKinds[e.kind], b, 0)
			}
			if err != nil {
				return nil, errObject
			}
		}
	}
	if x.known != len(x.entries) {
		return nil, errObject
	}
	return x.index(end), nil
}

func (x *packIndexer) changed(e *packEntry) bool {
	return len(x.byOffset[e.at]) > 0 || len(x.byOID[string(e.oid)]) > 0
}

// read goes through the pack, and gives its last bytes, the hash of all others.
func (x *packIndexer) read() (end []byte, err error) {
	fi, err := x.f.Stat()
	if err != nil {
		return nil, err
	}
	p := &packReader{r: bufio.NewReaderSize(io.NewSectionReader(x.f, 0, fi.Size()), 64<<10), crc: crc32.NewIEEE()}
	var head [12]byte
	if _, err := io.ReadFull(p, head[:]); err != nil || string(head[:4]) != "PACK" || binary.BigEndian.Uint32(head[4:]) != 2 {
		return nil, errObject
	}
	var z io.ReadCloser
	for range binary.BigEndian.Uint32(head[8:]) {
		p.crc.Reset()
		e := packEntry{at: p.at}
		c, err := p.ReadByte()
		e.kind, e.size = c>>4&7, int64(c&15)
		for shift := 4; err == nil && c&0x80 != 0 && shift < 60; shift += 7 {
			c, err = p.ReadByte()
			e.size |= int64(c&0x7f) << shift
		}
		if err == nil {
			err = x.base(p, &e)
		}
		if err != nil {
			return nil, err
		}
		e.data = p.at
		if z == nil {
			z, err = zlib.NewReader(p)
		} else {
			err = z.(zlib.Resetter).Reset(p, nil)
		}
		if err != nil {
			return nil, err
		}
		to, sum := io.Discard, hash.Hash(nil)
		if kind := packKinds[e.kind]; kind != "" {
			sum = x.hash(kind, e.size)
			to = sum
		}
		if n, err := io.Copy(to, io.LimitReader(z, e.size+1)); err != nil || n != e.size {
			return nil, errObject
		}
		if sum != nil {
			e.oid = sum.Sum(nil)
			x.known++
		}
		e.crc = p.crc.Sum32()
		x.entries = append(x.entries, e)
	}
	end = make([]byte, newHash(x.hexLen).Size())
	if _, err := io.ReadFull(p, end); err != nil || p.at != fi.Size() {
		return nil, errObject
	}
	return end, nil
}

// base reads what a delta changes.
func (x *packIndexer) base(p *packReader, e *packEntry) error {
	n := len(x.entries)
	switch {
	case packKinds[e.kind] != "":
		return nil
	case e.kind == packRefDelta:
		oid := make([]byte, newHash(x.hexLen).Size())
		_, err := io.ReadFull(p, oid)
		x.byOID[string(oid)] = append(x.byOID[string(oid)], n)
		return err
	case e.kind != packOffsetDelta:
		return errObject
	}
	c, err := p.ReadByte()
	back := int64(c & 0x7f)
	for err == nil && c&0x80 != 0 {
		if back > 1<<48 {
			return errObject
		}
		c, err = p.ReadByte()
		back = (back+1)<<7 | int64(c&0x7f)
	}
	x.byOffset[e.at-back] = append(x.byOffset[e.at-back], n)
	return err
}

func (x *packIndexer) hash(kind string, size int64) hash.Hash {
	sum := newHash(x.hexLen)
	_, _ = io.WriteString(sum, kind+" "+strconv.FormatInt(size, 10)+"\x00")
	return sum
}

func (x *packIndexer) inflate(e *packEntry) ([]byte, error) {
	if e.size > maxDeltaObject {
		return nil, errObject
	}
	z, err := zlib.NewReader(bufio.NewReader(io.NewSectionReader(x.f, e.data, 1<<62)))
	if err != nil {
		return nil, err
	}
	b := make([]byte, e.size)
	_, err = io.ReadFull(z, b)
	return b, err
}

// resolve finds the names of what is made of an object by deltas.
func (x *packIndexer) resolve(e *packEntry, kind string, content []byte, depth int) error {
	x.live += int64(len(content))
	defer func() { x.live -= int64(len(content)) }()
	if depth > maxDeltaDepth || x.live > maxDeltaLive {
		return errObject
	}
	for _, i := range slices.Concat(x.byOffset[e.at], x.byOID[string(e.oid)]) {
		d := &x.entries[i]
		if d.oid != nil {
			continue // of an object that the pack has twice
		}
		delta, err := x.inflate(d)
		if err != nil {
			return err
		}
		now, err := applyDelta(content, delta)
		if err != nil {
			return err
		}
		sum := x.hash(kind, int64(len(now)))
		_, _ = sum.Write(now)
		d.oid = sum.Sum(nil)
		x.known++
		if x.changed(d) {
			if err := x.resolve(d, kind, now, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// applyDelta carries out a delta.
func applyDelta(old, delta []byte) ([]byte, error) {
	r := bytes.NewReader(delta)
	had, err1 := binary.ReadUvarint(r)
	size, err2 := binary.ReadUvarint(r)
	if err1 != nil || err2 != nil || had != uint64(len(old)) || size > maxDeltaObject {
		return nil, errObject
	}
	out := make([]byte, 0, size)
	for r.Len() > 0 {
		op, _ := r.ReadByte()
		from, n := uint32(0), uint32(0)
		if op&0x80 == 0 {
			if n = uint32(op); n == 0 || int(n) > r.Len() {
				return nil, errObject
			}
			at := len(delta) - r.Len()
			out = append(out, delta[at:at+int(n)]...)
			_, _ = r.Seek(int64(n), io.SeekCurrent)
		} else {
			for i := range 7 {
				if op>>i&1 == 0 {
					continue
				}
				c, err := r.ReadByte()
				if err != nil {
					return nil, errObject
				}
				if i < 4 {
					from |= uint32(c) << (8 * i)
				} else {
					n |= uint32(c) << (8 * (i - 4))
				}
			}
			if n == 0 {
				n = 0x10000
			}
			if uint64(from)+uint64(n) > uint64(len(old)) {
				return nil, errObject
			}
			out = append(out, old[from:from+n]...)
		}
		if uint64(len(out)) > size {
			return nil, errObject
		}
	}
	if uint64(len(out)) != size {
		return nil, errObject
	}
	return out, nil
}

// index writes version 2.
func (x *packIndexer) index(end []byte) []byte {
	slices.SortFunc(x.entries, func(a, b packEntry) int { return bytes.Compare(a.oid, b.oid) })
	out := []byte(packIndexMagic)
	at := 0
	for first := range 256 {
		for at < len(x.entries) && int(x.entries[at].oid[0]) <= first {
			at++
		}
		out = binary.BigEndian.AppendUint32(out, uint32(at))
	}
	for i := range x.entries {
		out = append(out, x.entries[i].oid...)
	}
	for i := range x.entries {
		out = binary.BigEndian.AppendUint32(out, x.entries[i].crc)
	}
	var far []byte
	for i := range x.entries {
		if at := x.entries[i].at; at < 1<<31 {
			out = binary.BigEndian.AppendUint32(out, uint32(at))
		} else {
			out = binary.BigEndian.AppendUint32(out, 1<<31|uint32(len(far)/8))
			far = binary.BigEndian.AppendUint64(far, uint64(at))
		}
	}
	out = append(append(out, far...), end...)
	sum := newHash(x.hexLen)
	_, _ = sum.Write(out)
	return sum.Sum(out)
}
