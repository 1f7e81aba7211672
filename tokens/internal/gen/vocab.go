package main

import (
	"fmt"
	"math"
)

// vocab is one vocabulary with what its merging rules say about every token.
type vocab struct {
	ranks  map[string]int
	tokens []string // by rank
	// split is the last merge that makes each token when its own bytes are
	// encoded. It is the only pair that can ever become that token: while
	// nothing crosses the borders of a span, the merges inside it happen in
	// the order they would if the span stood alone.
	split [][2]int
	// gaps are the numbers no token has.
	gaps []int
}

func newVocab(ranks map[string]int) (*vocab, error) {
	size := 0
	for _, r := range ranks {
		size = max(size, r+1)
	}
	v := &vocab{ranks: ranks, tokens: make([]string, size)}
	for s, r := range ranks {
		if v.tokens[r] != "" {
			return nil, fmt.Errorf("rank %d is given twice", r)
		}
		v.tokens[r] = s
	}
	seen := [256]bool{}
	for r := range 256 {
		if len(v.tokens[r]) != 1 {
			return nil, fmt.Errorf("rank %d is not a single byte", r)
		}
		seen[v.tokens[r][0]] = true
	}
	for b, ok := range seen {
		if !ok {
			return nil, fmt.Errorf("byte %#x has no token", b)
		}
	}
	v.split = make([][2]int, len(v.tokens))
	for r := 256; r < len(v.tokens); r++ {
		if v.tokens[r] == "" {
			v.gaps = append(v.gaps, r)
			continue
		}
		// A token that merging never makes would count only as a whole piece,
		// and package tokens would have to tell the two apart. No published
		// vocabulary has one.
		l, rt, ok := v.lastMerge(v.tokens[r])
		if !ok {
			return nil, fmt.Errorf("token %d %q is never made by merging", r, v.tokens[r])
		}
		v.split[r] = [2]int{l, rt}
	}
	return v, nil
}

// lastMerge encodes s by the rules, one lowest and leftmost merge at a time,
// and returns the two parts that are left before the last one.
func (v *vocab) lastMerge(s string) (left, right int, ok bool) {
	ends := make([]int, len(s)+1)
	for i := range ends {
		ends[i] = i
	}
	for len(ends) > 3 {
		best, at := math.MaxInt, -1
		for i := 0; i+2 < len(ends); i++ {
			if r, ok := v.ranks[s[ends[i]:ends[i+2]]]; ok && r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			return 0, 0, false
		}
		ends = append(ends[:at+1], ends[at+2:]...)
	}
	left, right = v.ranks[s[:ends[1]]], v.ranks[s[ends[1]:]]
	return left, right, true
}
