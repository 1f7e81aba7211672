package tokens

import (
	_ "embed"
	"math"
	"math/bits"
)

// The embedded tables, written by internal/gen. They stay strings so that they
// live in the read-only part of the binary, shared by all its processes and
// paged in only where touched.
var (
	//go:embed data/o200k_base.bin
	dataO200k string
	//go:embed data/cl100k_base.bin
	dataCL100k string
)

// vocab reads one vocabulary where it lies. All numbers are little-endian.
//
// A file is the magic "mcpvocab", nine uint32 (token numbers in use, longest
// token in bytes, and the sizes in bytes of the seven sections), then the
// sections:
//
//   - trie: all tokens as a double array of uint32 units. The child of a node
//     for byte b is the unit at the node's base XOR b, if the low 8 bits of
//     that unit are b; bases are distinct, so there is no other way to get
//     there. Bit 8: the path so far is a token. Bit 9: nothing longer is. The
//     upper 22 bits are the token of a leaf and the base of any other node,
//     whose token, if it has one, is in the upper 22 bits of unit base XOR 256.
//     The root's base is 0.
//   - split: for each token, in 5 bytes, the two tokens whose merge makes it,
//     18 bits each; for the 256 single-byte tokens the byte itself.
//   - pairs: the same the other way round, a hash table without collisions of
//     uint32 slots: the token in the low 18 bits, 14 bits of the pair's hash
//     above.
//   - moves: one uint16 for every bucket of that hash table.
//   - filter: a bit set, one bit set for every pair, found by the upper bits of
//     its hash; most of what is not a pair has a zero there.
//   - seams: a bit set of the bytes that touch in the merges of pairs: the last
//     two of the left part, or its only one, with the first two of the right.
//   - gaps: uint32 numbers that are not tokens.
type vocab struct {
	trie, split, pairs, moves, filter, seams, gaps string

	limit   uint32 // the numbers of tokens are below it
	longest int    // bytes in the longest token

	slots                             uint64
	moveShift, filterShift, seamShift uint8
}

const (
	magic = "mcpvocab"

	unitToken = 1 << 8
	unitLeaf  = 1 << 9

	noToken = math.MaxUint32
)

// openVocab finds the sections of data.
func openVocab(data string) *vocab {
	if data[:len(magic)] != magic {
		panic("tokens: embedded vocabulary is not one")
	}
	field := func(i int) int { return int(load32(data, len(magic)+4*i)) }
	v := &vocab{limit: uint32(field(0)), longest: field(1)}
	at := len(magic) + 4*9
	for i, section := range []*string{&v.trie, &v.split, &v.pairs, &v.moves, &v.filter, &v.seams, &v.gaps} {
		size := field(2 + i)
		*section = data[at : at+size]
		at += size
	}
	v.slots = uint64(len(v.pairs) / 4)
	v.moveShift = uint8(64 - bits.Len(uint(len(v.moves)/2-1)))
	v.filterShift = uint8(64 - bits.Len(uint(8*len(v.filter)-1)))
	v.seamShift = uint8(64 - bits.Len(uint(8*len(v.seams)-1)))
	if v.longest > maxToken {
		panic("tokens: embedded vocabulary has a longer token than merging is made for")
	}
	return v
}

// load32 reads a little-endian number; the compiler makes one load of it.
func load32(s string, i int) uint32 {
	s = s[i : i+4] // one check for all four
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

// tokenOf is the token a trie unit with unitToken stands for.
func (v *vocab) tokenOf(unit uint32) uint32 {
	if unit&unitLeaf == 0 {
		unit = load32(v.trie, int((unit>>10^256)*4))
	}
	return unit >> 10
}

// isToken tells whether s is exactly one token.
func (v *vocab) isToken(s string) bool {
	_, ok := v.walk(s)
	return ok
}

// walk goes down the trie by all of s; ok if that leads to a token.
func (v *vocab) walk(s string) (unit uint32, ok bool) {
	trie := v.trie
	var base uint32
	for i := 0; i < len(s); i++ {
		b := s[i]
		unit = load32(trie, int((base^uint32(b))*4))
		if byte(unit) != b {
			return 0, false
		}
		if unit&unitLeaf != 0 {
			return unit, i == len(s)-1
		}
		base = unit >> 10
	}
	return unit, unit&unitToken != 0
}

// pair is the token that left and right merge into, or noToken.
func (v *vocab) pair(left, right uint32) uint32 {
	h := pairHash(left, right)
	if f := h >> v.filterShift; v.filter[f>>3]&(1<<(f&7)) == 0 {
		return noToken
	}
	m := 2 * int(h>>v.moveShift)
	move := uint64(v.moves[m]) | uint64(v.moves[m+1])<<8
	slot := load32(v.pairs, 4*v.pairSlot(h, move))
	token := slot & 0x3ffff
	if uint64(slot>>18) != h&0x3fff || token >= v.limit { // an empty slot names no token
		return noToken
	}
	if l, r := v.parts(token); l != left || r != right {
		return noToken
	}
	return token
}

// pairHash and pairSlot are also in internal/gen, which fills the table.
func pairHash(left, right uint32) uint64 {
	x := (uint64(left)<<18 | uint64(right)) * 0x9e3779b97f4a7c15
	return (x ^ x>>32) * 0xd6e8feb86659fd93
}

func (v *vocab) pairSlot(h, move uint64) int {
	x := (h ^ h>>29 ^ move*0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	return int((x >> 32) * v.slots >> 32)
}

// seam tells whether any merge could join the text before piece[pos:] with
// that text. If not, tokens that end and begin there fit, whatever they are.
func (v *vocab) seam(piece string, pos int) bool {
	w := uint32(piece[pos-1])<<8 | uint32(piece[pos])<<16
	if pos > 1 {
		w |= uint32(piece[pos-2])
	}
	if pos+1 < len(piece) {
		w |= uint32(piece[pos+1]) << 24
	}
	return v.seamBit(w) || v.seamBit(w&0xffffff00) || v.seamBit(w&0x00ffffff) || v.seamBit(w&0x00ffff00)
}

func (v *vocab) seamBit(w uint32) bool {
	i := seamHash(w) >> v.seamShift
	return v.seams[i>>3]&(1<<(i&7)) != 0
}

// seamHash is also in internal/gen.
func seamHash(w uint32) uint64 {
	return uint64(w) * 0x9e3779b97f4a7c15
}

// parts are the two tokens whose merge makes token, which must be 256 or more.
func (v *vocab) parts(token uint32) (left, right uint32) {
	low := load32(v.split, int(5*token))
	high := load32(v.split, int(5*token)+4) & 0xff
	return low & 0x3ffff, low>>18 | high<<14
}
