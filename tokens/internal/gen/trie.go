package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
)

// node is one prefix of some token.
type node struct {
	label byte
	token int   // -1: the prefix is not a token itself
	kids  []int // by label
	base  int
	pos   int
}

const (
	unitToken = 1 << 8 // the prefix is a token
	unitLeaf  = 1 << 9 // and no longer token begins with it
)

// buildTrie lays all tokens out as a double array: the child of a node with
// base B for byte b is unit B^b, and it is that child if its label is b,
// because no two nodes have the same base. See vocab.go of package tokens.
func buildTrie(tokens []string) ([]byte, error) {
	nodes := prefixTree(tokens)
	p := placer{}
	var internal []int
	for i := range nodes {
		if len(nodes[i].kids) > 0 {
			internal = append(internal, i)
		}
	}
	// The crowded nodes first, while there is room; the many with one child
	// then fill the holes. Equal ones stay in depth-first order, so that the
	// chain of a long token lies together.
	sort.SliceStable(internal, func(a, b int) bool {
		return slotsOf(&nodes[internal[a]]) > slotsOf(&nodes[internal[b]])
	})
	for _, i := range internal {
		n := &nodes[i]
		labels := make([]int, 0, len(n.kids)+1)
		for _, k := range n.kids {
			labels = append(labels, int(nodes[k].label))
		}
		if n.token >= 0 {
			labels = append(labels, 256)
		}
		n.base = p.place(labels)
		for _, k := range n.kids {
			nodes[k].pos = n.base ^ int(nodes[k].label)
		}
	}
	units := make([]uint32, p.size())
	written := make([]bool, len(units))
	for i := range nodes {
		n := &nodes[i]
		if n.base >= 1<<22 || n.token >= 1<<18 {
			return nil, fmt.Errorf("the trie does not fit its units")
		}
		u := uint32(n.label)
		switch {
		case len(n.kids) == 0:
			u |= unitToken | unitLeaf | uint32(n.token)<<10
		case n.token >= 0:
			u |= unitToken | uint32(n.base)<<10
			filler, err := p.filler(n.base ^ 256)
			if err != nil {
				return nil, err
			}
			units[n.base^256] = filler | uint32(n.token)<<10
			written[n.base^256] = true
		default:
			u |= uint32(n.base) << 10
		}
		if i == 0 {
			continue // the root's unit is nobody's child; its base is 0
		}
		units[n.pos] = u
		written[n.pos] = true
	}
	for pos, ok := range written {
		if !ok {
			filler, err := p.filler(pos)
			if err != nil {
				return nil, err
			}
			units[pos] = filler
		}
	}
	if nodes[0].base != 0 {
		return nil, fmt.Errorf("the root has base %d, not 0", nodes[0].base)
	}
	out := make([]byte, 0, 4*len(units))
	for _, u := range units {
		out = binary.LittleEndian.AppendUint32(out, u)
	}
	return out, nil
}

func slotsOf(n *node) int {
	if n.token >= 0 {
		return len(n.kids) + 1
	}
	return len(n.kids)
}

func prefixTree(tokens []string) []node {
	order := make([]int, len(tokens))
	for i := range order {
		order[i] = i
	}
	order = slices.DeleteFunc(order, func(t int) bool { return tokens[t] == "" })
	sort.Slice(order, func(a, b int) bool { return tokens[order[a]] < tokens[order[b]] })
	nodes := []node{{token: -1}}
	for _, t := range order {
		at := 0
		for i := range len(tokens[t]) {
			b := tokens[t][i]
			kids := nodes[at].kids
			if len(kids) > 0 && nodes[kids[len(kids)-1]].label == b {
				at = kids[len(kids)-1]
				continue
			}
			nodes = append(nodes, node{label: b, token: -1})
			nodes[at].kids = append(nodes[at].kids, len(nodes)-1)
			at = len(nodes) - 1
		}
		nodes[at].token = t
	}
	return nodes
}

// placer hands out bases whose slots are free.
type placer struct {
	taken []bool
	bases []bool
	first []int // by number of labels: nothing free for so many before this slot
}

func (p *placer) grow(n int) {
	for len(p.taken) < n {
		p.taken = append(p.taken, make([]bool, 512)...)
		p.bases = append(p.bases, make([]bool, 512)...)
	}
}

func (p *placer) size() int { return len(p.taken) }

func (p *placer) place(labels []int) int {
	for len(p.first) <= len(labels) {
		p.first = append(p.first, 0)
	}
	start := p.first[len(labels)]
	for s := start; ; s++ {
		p.grow(s + 1)
		if p.taken[s] {
			continue
		}
		base := s ^ labels[0]
		if p.fits(base, labels) {
			for _, l := range labels {
				p.taken[base^l] = true
			}
			p.bases[base] = true
			// A full search for every node would take minutes. After a long
			// one the holes passed over are left to smaller nodes.
			if s-start > 1000 {
				p.first[len(labels)] = s
			}
			return base
		}
	}
}

func (p *placer) fits(base int, labels []int) bool {
	p.grow(base | 511)
	if p.bases[base] {
		return false
	}
	for _, l := range labels {
		if p.taken[base^l] {
			return false
		}
	}
	return true
}

// filler is a label for a slot that is nobody's child: one that no base leads
// to this slot by.
func (p *placer) filler(pos int) (uint32, error) {
	for l := range 256 {
		if !p.bases[pos^l] {
			return uint32(l), nil
		}
	}
	return 0, fmt.Errorf("every label leads to the empty slot %d", pos)
}
