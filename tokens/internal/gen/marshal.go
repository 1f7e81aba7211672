package main

import (
	"encoding/binary"
	"fmt"
)

// marshal lays the vocabulary out as package tokens reads it.
func (v *vocab) marshal() ([]byte, error) {
	trie, err := buildTrie(v.tokens)
	if err != nil {
		return nil, err
	}
	split := make([]byte, 5*len(v.tokens)+3)
	for c := 256; c < len(v.tokens); c++ {
		x := uint64(v.split[c][0]) | uint64(v.split[c][1])<<18
		for i := range 5 {
			split[5*c+i] = byte(x >> (8 * i))
		}
	}
	for r := range 256 { // a single byte has no parts: its own value stands here
		split[5*r] = v.tokens[r][0]
	}
	var keys []pairKey
	for c := 256; c < len(v.tokens); c++ {
		if v.tokens[c] != "" {
			keys = append(keys, pairKey{uint32(v.split[c][0]), uint32(v.split[c][1]), uint32(c)})
		}
	}
	pairs, moves, err := buildPairs(keys)
	if err != nil {
		return nil, err
	}
	filter := buildFilter(keys)
	seams := v.buildSeams(keys)
	var gaps []byte
	for _, g := range v.gaps {
		gaps = binary.LittleEndian.AppendUint32(gaps, uint32(g))
	}

	longest := 0
	for _, t := range v.tokens {
		longest = max(longest, len(t))
	}
	out := []byte("mcpvocab")
	for _, n := range []int{len(v.tokens), longest, len(trie), len(split), len(pairs), len(moves), len(filter), len(seams), len(gaps)} {
		out = binary.LittleEndian.AppendUint32(out, uint32(n))
	}
	for _, s := range [][]byte{trie, split, pairs, moves, filter, seams, gaps} {
		out = append(out, s...)
	}
	return out, nil
}

type pairKey struct{ left, right, token uint32 }

// pairHash is the hash of package tokens; the two must stay the same.
func pairHash(left, right uint32) uint64 {
	x := (uint64(left)<<18 | uint64(right)) * 0x9e3779b97f4a7c15
	return (x ^ x>>32) * 0xd6e8feb86659fd93
}

const pairStep = 0xff51afd7ed558ccd

func pairSlot(h uint64, move uint16, slots int) int {
	x := (h ^ h>>29 ^ uint64(move)*0x9e3779b97f4a7c15) * pairStep
	return int((x >> 32) * uint64(slots) >> 32)
}

// buildPairs makes a table without collisions by hash and displace: keys fall
// into small buckets, and each bucket, largest first, takes the first move
// that sends all its keys to free slots. A look-up then costs two loads
// whether or not the pair is there.
func buildPairs(keys []pairKey) (slots, moves []byte, err error) {
	n := len(keys) + len(keys)/16
	bits := 0
	for 1<<bits < len(keys)/4 {
		bits++
	}
	buckets := make([][]pairKey, 1<<bits)
	largest := 0
	for _, k := range keys {
		b := pairHash(k.left, k.right) >> (64 - bits)
		buckets[b] = append(buckets[b], k)
		largest = max(largest, len(buckets[b]))
	}
	table := make([]uint32, n)
	for i := range table {
		table[i] = 0x3ffff // no token has this number
	}
	move := make([]uint16, len(buckets))
	for size := largest; size > 0; size-- {
		for b, ks := range buckets {
			if len(ks) != size {
				continue
			}
			m, ok := placeBucket(table, ks)
			if !ok {
				return nil, nil, fmt.Errorf("no move places a bucket of %d pairs", size)
			}
			move[b] = m
		}
	}
	for _, x := range table {
		slots = binary.LittleEndian.AppendUint32(slots, x)
	}
	for _, m := range move {
		moves = binary.LittleEndian.AppendUint16(moves, m)
	}
	return slots, moves, nil
}

// buildFilter makes a bit set of about ten bits for every pair, so that most
// look-ups of what is not a pair end after one load from a small table.
func buildFilter(keys []pairKey) []byte {
	bits := 3
	for 1<<bits < 8*len(keys) {
		bits++
	}
	filter := make([]byte, 1<<(bits-3))
	for _, k := range keys {
		i := pairHash(k.left, k.right) >> (64 - bits)
		filter[i>>3] |= 1 << (i & 7)
	}
	return filter
}

// buildSeams makes a bit set of what may touch inside a merge: the last two
// bytes of the left part, or its only one, and the first two of the right.
func (v *vocab) buildSeams(keys []pairKey) []byte {
	bits := 3
	for 1<<bits < 4*len(keys) {
		bits++
	}
	seams := make([]byte, 1<<(bits-3))
	for _, k := range keys {
		x, y := v.tokens[k.left], v.tokens[k.right]
		w := uint32(x[len(x)-1])<<8 | uint32(y[0])<<16
		if len(x) > 1 {
			w |= uint32(x[len(x)-2])
		}
		if len(y) > 1 {
			w |= uint32(y[1]) << 24
		}
		i := seamHash(w) >> (64 - bits)
		seams[i>>3] |= 1 << (i & 7)
	}
	return seams
}

// seamHash is the hash of package tokens; the two must stay the same.
func seamHash(w uint32) uint64 {
	return uint64(w) * 0x9e3779b97f4a7c15
}

func placeBucket(table []uint32, ks []pairKey) (uint16, bool) {
	at := make([]int, len(ks))
next:
	for m := range 1 << 16 {
		for i, k := range ks {
			s := pairSlot(pairHash(k.left, k.right), uint16(m), len(table))
			if table[s] != 0x3ffff {
				continue next
			}
			for _, other := range at[:i] {
				if other == s {
					continue next
				}
			}
			at[i] = s
		}
		for i, k := range ks {
			table[at[i]] = k.token | uint32(pairHash(k.left, k.right)&0x3fff)<<18
		}
		return uint16(m), true
	}
	return 0, false
}
