package snapshot

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

// Files are cut where their content says so (FastCDC, Xia et al., USENIX ATC
// 2016), so that an insertion moves the cuts with it and only the chunk that
// holds it is new. A file up to the minimum is one chunk.
type cutSizes struct{ min, avg, max int }

// The sizes for file content: large enough that a chunk's bookkeeping (about
// 90 bytes) is negligible next to it, small enough that a few in flight stay far
// below the memory bound.
const maxChunk = 2 << 20

func fileCuts() cutSizes     { return cutSizes{128 << 10, 512 << 10, maxChunk} }
func manifestCuts() cutSizes { return cutSizes{16 << 10, 64 << 10, 512 << 10} }

// gear is the table of the rolling hash: 256 fixed random words. Changing it
// would only cost deduplication against older snapshots.
var gear = sync.OnceValue(func() *[256]uint64 {
	var t [256]uint64
	x := uint64(0x9E3779B97F4A7C15)
	for i := range t {
		// SplitMix64, Steele et al. 2014.
		x += 0x9E3779B97F4A7C15
		z := x
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		t[i] = z ^ z>>31
	}
	return &t
})

// cut returns the length of the first chunk of data, at most c.max. With less
// than c.max bytes at hand and no cut found the answer is len(data), so the
// caller must give c.max bytes unless the content ends.
func (c cutSizes) cut(data []byte) int {
	n := min(len(data), c.max)
	if n <= c.min {
		return n
	}
	table := gear()
	// Harder to meet before the average and easier after it, which keeps the
	// sizes near it. The mask uses the top bits: they depend on 64 bytes.
	b := bits.Len(uint(c.avg)) - 1
	hard := ^uint64(0) << (64 - b - 2)
	easy := ^uint64(0) << (64 - b + 2)
	var h uint64
	i := c.min
	for mid := min(c.avg, n); i < mid; i++ {
		h = h<<1 + table[data[i]]
		if h&hard == 0 {
			return i + 1
		}
	}
	for ; i < n; i++ {
		h = h<<1 + table[data[i]]
		if h&easy == 0 {
			return i + 1
		}
	}
	return n
}

// allZero tells whether b can be stored as a hole.
func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
