package workspace

import (
	"bytes"
	"regexp/syntax"
	"strings"
)

// prefilter finds places where a match is possible at all, with the fast
// substring search of package bytes, before the regular expression runs.
type prefilter struct {
	literals [][]byte // every match contains one of them
	fold     bool     // literals are lower case and so must the text be made
	exact    bool     // the pattern is the literal, nothing is left to check
}

// maxLiterals bounds the alternatives searched one by one.
const maxLiterals = 16

// newPrefilter works out what every match of the expression must contain; nil
// when nothing useful is known.
func newPrefilter(expr string, flags syntax.Flags) *prefilter {
	re, err := syntax.Parse(expr, flags)
	if err != nil {
		return nil
	}
	re = re.Simplify()
	set, ok := required(re)
	if !ok || len(set.text) == 0 {
		return nil
	}
	if set.shortest() < 2 && len(set.text) > 2 {
		return nil // nearly every line would pass
	}
	p := &prefilter{fold: set.fold}
	for _, s := range set.text {
		p.literals = append(p.literals, []byte(s))
	}
	p.exact = re.Op == syntax.OpLiteral && re.Flags&syntax.FoldCase == 0
	return p
}

// literalSet is a set of strings one of which is in every match.
type literalSet struct {
	text []string
	fold bool
}

func (s literalSet) shortest() int {
	n := 1 << 30
	for _, t := range s.text {
		n = min(n, len(t))
	}
	return n
}

// better prefers long literals, then few.
func (s literalSet) better(o literalSet) bool {
	if a, b := s.shortest(), o.shortest(); a != b {
		return a > b
	}
	return len(s.text) < len(o.text)
}

func required(re *syntax.Regexp) (literalSet, bool) {
	switch re.Op {
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase == 0 {
			return literalSet{text: []string{string(re.Rune)}}, true
		}
		s := foldable(re.Rune)
		return literalSet{text: []string{s}, fold: true}, s != ""
	case syntax.OpCharClass:
		// [ab] is a small set of literals.
		var set literalSet
		for i := 0; i+1 < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if len(set.text) == 2 {
					return set, false
				}
				set.text = append(set.text, string(r))
			}
		}
		return set, len(set.text) > 0
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpConcat:
		var best literalSet
		found := false
		for _, sub := range re.Sub {
			if s, ok := required(sub); ok && (!found || s.better(best)) {
				best, found = s, true
			}
		}
		return best, found
	case syntax.OpAlternate:
		var all literalSet
		for _, sub := range re.Sub {
			s, ok := required(sub)
			if !ok || len(all.text)+len(s.text) > maxLiterals {
				return all, false
			}
			all.text = append(all.text, s.text...)
			all.fold = all.fold || s.fold
		}
		if all.fold {
			for i := range all.text {
				if all.text[i] = foldable([]rune(all.text[i])); all.text[i] == "" {
					return all, false
				}
			}
		}
		return all, len(all.text) > 0
	}
	return literalSet{}, false
}

// foldable is the longest part of a literal whose letters differ in case only
// in the ASCII way: k and s also match the Kelvin sign and the long s.
func foldable(runes []rune) string {
	best := ""
	for _, part := range strings.FieldsFunc(string(runes), func(r rune) bool {
		return r >= 0x80 || r == 'k' || r == 'K' || r == 's' || r == 'S'
	}) {
		if len(part) > len(best) {
			best = strings.ToLower(part)
		}
	}
	return best
}

// scanner runs a prefilter over one text.
type scanner struct {
	p    *prefilter
	text []byte
	next []int // where each literal occurs next, -1 for nowhere, -2 unknown
}

func (p *prefilter) scan(text []byte) *scanner {
	s := &scanner{p: p, text: text, next: make([]int, len(p.literals))}
	for i := range s.next {
		s.next[i] = -2
	}
	return s
}

// from is the first place at or after pos where a match may be, -1 for none.
func (s *scanner) from(pos int) int {
	best := -1
	for i, l := range s.p.literals {
		if n := s.next[i]; n == -2 || n >= 0 && n < pos {
			s.next[i] = bytes.Index(s.text[pos:], l)
			if s.next[i] >= 0 {
				s.next[i] += pos
			}
		}
		if n := s.next[i]; n >= 0 && (best < 0 || n < best) {
			best = n
		}
	}
	return best
}

// lowerASCII writes text to dst with ASCII letters in lower case.
func lowerASCII(dst, text []byte) []byte {
	if cap(dst) < len(text) {
		dst = make([]byte, len(text))
	}
	dst = dst[:len(text)]
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst[i] = c
	}
	return dst
}
