package main

import (
	"unicode"
)

// The bits of a rune's class, as package tokens has them.
const (
	classUpper = 1 << iota // Lu Lt Lm Lo M
	classLower             // Ll Lm Lo M
	classMark              // M
	classNumber
	classSpace
)

func classOf(r rune) byte {
	switch {
	case unicode.In(r, unicode.Lu, unicode.Lt):
		return classUpper
	case unicode.Is(unicode.Ll, r):
		return classLower
	case unicode.In(r, unicode.Lm, unicode.Lo):
		return classUpper | classLower
	case unicode.Is(unicode.M, r):
		return classUpper | classLower | classMark
	case unicode.Is(unicode.N, r):
		return classNumber
	case unicode.IsSpace(r):
		return classSpace
	}
	return 0
}

// classTable is one byte for every 128 runes, the number of their block, then
// the distinct blocks of 128 classes.
func classTable() []byte {
	index := make([]byte, 0, (unicode.MaxRune+1)>>7)
	var blocks []byte
	seen := map[[128]byte]int{}
	for r := rune(0); r <= unicode.MaxRune; r += 128 {
		var b [128]byte
		for i := range b {
			b[i] = classOf(r + rune(i))
		}
		n, ok := seen[b]
		if !ok {
			n = len(seen)
			if n > 255 {
				panic("more than 256 distinct blocks")
			}
			seen[b] = n
			blocks = append(blocks, b[:]...)
		}
		index = append(index, byte(n))
	}
	return append(index, blocks...)
}
