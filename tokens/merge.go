package tokens

import (
	"math"
	"sync"
)

// Byte-pair encoding is defined as: start from single bytes, and merge the
// adjacent pair that makes the lowest-numbered token, leftmost first, until no
// pair makes a token. Done so, a long piece takes quadratic time, or a heap.
//
// The result can be recognised without replaying it: a sequence of tokens is
// the encoding of its text exactly if every two neighbours are the encoding of
// theirs. And every beginning of an encoding is itself the encoding of its
// text. So the encoding is found from left to right: take the longest token
// that fits next to the one before, and where none does, go back and take a
// shorter one. Positions from which that failed are remembered, so each is
// tried once and the whole takes linear time. (The method is the one of
// GitHub's "bpe" crate, described in "So many tokens, so little time", 2024.)

// placed is a token and where it ends in the piece.
type placed struct {
	token uint32
	end   int
}

// match is a beginning of the text that is a token: its length, and its unit
// in the trie.
type match struct {
	unit uint32
	size int32
}

// maxToken is the length in bytes of the longest token there may be, a power
// of two.
const maxToken = 128

// merger is the working memory of one encoding run.
type merger struct {
	stack   []placed
	dead    []uint64 // bit set of positions no encoding goes through
	matches [maxToken]match
	// known remembers answers of fit, because neighbours recur: each entry is
	// a pair of tokens and one bit for the answer. It belongs to vocab v.
	known [4096]uint64
	of    *vocab
}

var mergers = sync.Pool{New: func() any { return new(merger) }}

func (e *Encoding) getMerger() *merger {
	m := mergers.Get().(*merger)
	if m.of != e.vocab {
		m.of = e.vocab
		clear(m.known[:])
	}
	return m
}

// putMerger gives m back, unless one giant piece has made it too big to keep.
func putMerger(m *merger) {
	if cap(m.stack) <= 1<<15 && cap(m.dead) <= 1<<12 {
		mergers.Put(m)
	}
}

// count is the number of tokens in piece.
func (v *vocab) count(piece string, m *merger) int {
	if len(piece) <= v.longest && v.isToken(piece) {
		return 1
	}
	return len(v.merge(piece, m))
}

// merge is the encoding of piece, valid until m is used again.
func (v *vocab) merge(piece string, m *merger) []placed {
	m.stack = m.stack[:0]
	words := len(piece)/64 + 1
	if cap(m.dead) < words {
		m.dead = make([]uint64, words)
	} else {
		m.dead = m.dead[:words]
		clear(m.dead)
	}
	stack, dead := m.stack, m.dead
	pos, last := 0, uint32(noToken)
	for pos < len(piece) {
		found := v.find(piece[pos:], &m.matches)
	candidates:
		for {
			for i := found - 1; i >= 0; i-- {
				c := m.matches[i&(maxToken-1)]
				end := pos + int(c.size)
				if dead[end>>6]&(1<<(end&63)) != 0 {
					continue
				}
				token := v.tokenOf(c.unit)
				if last != noToken && !m.fit(last, token, piece, pos) {
					continue
				}
				stack = append(stack, placed{token, end})
				pos, last = end, token
				break candidates
			}
			// Nothing follows the last token: take a shorter one in its
			// place. The dead bit keeps the search from coming back here.
			dead[pos>>6] |= 1 << (pos & 63)
			stack = stack[:len(stack)-1]
			wrong := pos
			pos, last = 0, noToken
			if n := len(stack); n > 0 {
				pos, last = stack[n-1].end, stack[n-1].token
			}
			found = v.find(piece[pos:wrong-1], &m.matches)
		}
	}
	m.stack = stack
	return stack
}

// find sets matches to the tokens that text begins with, shortest first, and
// returns how many they are.
func (v *vocab) find(text string, matches *[maxToken]match) int {
	trie := v.trie
	found := 0
	base := uint32(0)
	for i := 0; i < len(text); i++ {
		b := text[i]
		unit := load32(trie, int((base^uint32(b))*4))
		if byte(unit) != b {
			break
		}
		if unit&unitToken != 0 {
			matches[found&(maxToken-1)] = match{unit, int32(i + 1)}
			found++
			if unit&unitLeaf != 0 {
				break
			}
		}
		base = unit >> 10
	}
	return found
}

// fit is vocab.fit, remembered, of the tokens that touch at piece[pos:].
func (m *merger) fit(left, right uint32, piece string, pos int) bool {
	key := (uint64(left)<<18|uint64(right))<<2 | 2 // never 0, the empty entry
	entry := &m.known[key*0x9e3779b97f4a7c15>>52]
	if *entry&^1 == key {
		return *entry&1 != 0
	}
	fits := !m.of.seam(piece, pos) || m.of.fit(left, right)
	if fits {
		key |= 1
	}
	*entry = key
	return fits
}

// fit tells whether the text of left and right together is encoded as just
// these two tokens.
//
// The merges that made the two are undone, the latest first. Whenever the
// parts that then touch could have merged with each other before the merge
// just undone, they would have, and the answer is no. Of two merges into the
// same token the left one comes first; hence the strict limit on the left and
// the other one on the right.
func (v *vocab) fit(left, right uint32) bool {
	limit := uint32(math.MaxUint32)
	for {
		if v.pair(left, right) < limit {
			return false
		}
		if left > right {
			if left < 256 {
				return true
			}
			limit = left
			_, left = v.parts(left)
		} else {
			if right < 256 {
				return true
			}
			limit = right + 1
			right, _ = v.parts(right)
		}
	}
}
