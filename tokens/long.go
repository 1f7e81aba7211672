package tokens

import (
	"strings"
	"unicode/utf8"
)

// longPiece counts a piece while it grows beyond the window. Where it ends may
// depend on what comes after any number of characters more: a word ends after
// the last character that is both upper and lower case, unless plain lower
// case follows, and spaces end after the last line end. So it counts the text
// up to the last such place, where the piece may end, the text from there on,
// which is another piece if it does, and the whole, in case it does not.
type longPiece struct {
	g    *grammar
	kind kind
	late bool // in the second part: lower case of a word, line ends of symbols

	whole  growing
	marked bool
	atMark int     // tokens of the whole up to the place it may end
	after  growing // the text from there on
	held   string  // the last of the spaces so far, not counted yet
}

// newLongPiece starts with the optional first character of a piece.
func newLongPiece(e *Encoding, k kind, first string, window int) *longPiece {
	l := &longPiece{g: e.grammar, kind: k, whole: newGrowing(e.vocab, window), after: newGrowing(e.vocab, window)}
	l.whole.write(first)
	return l
}

func (l *longPiece) clone() *longPiece {
	c := *l
	c.whole, c.after = l.whole.clone(), l.after.clone()
	return &c
}

// total is the number of tokens of the piece, or of the two it turned out to
// be.
func (l *longPiece) total() (tokens, pieces int) {
	if !l.marked {
		return l.whole.count(), 1
	}
	if l.after.empty() {
		return l.atMark, 1
	}
	return l.atMark + l.after.count(), 2
}

// take counts the part of s that belongs to the piece and tells how much that
// is, and whether the piece ends there. If final, nothing comes after s. held
// is then what to put back before the rest of s.
func (l *longPiece) take(s string, final bool) (used int, done bool) {
	switch l.kind {
	case kindWord:
		used, done = l.takeWord(s, final)
	case kindLetters:
		used = letters(s, 0)
		l.whole.write(s[:used])
	case kindNumbers:
		used = l.g.digits(s, 0)
		l.whole.write(s[:used])
	case kindSymbols:
		used = l.takeSymbols(s)
	case kindSpaces:
		return l.takeSpaces(s, final)
	}
	return used, done || final || l.kind != kindWord && used < len(s)
}

func (l *longPiece) takeSymbols(s string) int {
	end := 0
	if !l.late {
		end = symbols(s, 0)
		l.late = end < len(s)
	}
	if l.late {
		end = l.g.lineTail(s, end)
	}
	l.whole.write(s[:end])
	return end
}

func (l *longPiece) takeWord(s string, final bool) (used int, done bool) {
	end := 0
	if !l.late {
		var lastBoth int
		end, lastBoth = upperRun(s)
		if lastBoth > 0 {
			l.write(s[:lastBoth])
			l.mark()
		}
		l.write(s[lastBoth:end])
		if end < len(s) {
			if class, _ := classAt(s, end); class&classLower != 0 {
				l.late = true
				l.unmark()
			}
		}
	}
	if l.late {
		start := end
		end = run(s, start, classLower, 0)
		l.write(s[start:end])
	}
	if end == len(s) {
		return end, final
	}
	if !final && end+len("'re") > len(s) {
		return end, false // too little left to see a contraction
	}
	tail := s[end:contraction(s, end)]
	if l.marked && l.after.empty() {
		l.unmark()
	}
	l.write(tail)
	return end + len(tail), true
}

// upperRun is where the run of classUpper at the start of s ends, and where the
// last character in it does that is lower case as well.
func upperRun(s string) (end, lastBoth int) {
	for end < len(s) {
		class, size := classAt(s, end)
		if class&classUpper == 0 {
			break
		}
		end += size
		if class&classLower != 0 {
			lastBoth = end
		}
	}
	return end, lastBoth
}

func (l *longPiece) takeSpaces(s string, final bool) (used int, done bool) {
	end := run(s, 0, classSpace, 0)
	if l.g.lines {
		if i := strings.LastIndexAny(s[:end], "\r\n"); i >= 0 {
			l.write(l.held + s[:i+1])
			l.held = ""
			l.mark()
			used = i + 1
		}
	}
	if used < end {
		_, size := utf8.DecodeLastRuneInString(s[used:end])
		l.write(l.held + s[used:end-size])
		l.held = strings.Clone(s[end-size : end]) // s does not last
	}
	if final && end == len(s) {
		l.write(l.held)
		l.held = ""
	}
	return end, final || end < len(s)
}

func (l *longPiece) write(s string) {
	l.whole.write(s)
	if l.marked {
		l.after.write(s)
	}
}

// mark says that the piece may end here.
func (l *longPiece) mark() {
	l.marked = true
	l.atMark = l.whole.count()
	l.after.reset()
}

func (l *longPiece) unmark() {
	l.marked = false
	l.after.reset()
}

// growing encodes a text that gets longer, and keeps only its end.
//
// The tokens of a text that gets longer stay the same, except for the last
// vocab.reach of them: merging one rank after the other, what follows a text
// can change at each rank only the one token before the last change, and only
// if a pair of that rank begins with it. The longest chain of such pairs in a
// vocabulary is known (see longestReach in internal/gen). So tokens before
// that are counted and forgotten.
type growing struct {
	v       *vocab
	window  int
	m       *merger
	text    []byte
	pos     int // where the last token on the stack ends
	counted int // tokens forgotten
}

func newGrowing(v *vocab, window int) growing {
	return growing{v: v, window: window, m: &merger{of: v}}
}

func (g *growing) clone() growing {
	c := *g
	m := *g.m
	m.stack = append([]placed(nil), m.stack...)
	m.dead = append([]uint64(nil), m.dead...)
	c.m, c.text = &m, append([]byte(nil), g.text...)
	return c
}

func (g *growing) reset() {
	g.m.stack, g.m.dead = g.m.stack[:0], g.m.dead[:0]
	g.text, g.pos, g.counted = g.text[:0], 0, 0
}

func (g *growing) empty() bool { return g.counted == 0 && len(g.text) == 0 }

func (g *growing) write(s string) {
	// In parts, so that the memory does not depend on len(s).
	for len(s) > 0 {
		part := s[:min(len(s), g.window)]
		s = s[len(part):]
		g.text = append(g.text, part...)
		for len(g.m.dead) < len(g.text)/64+1 {
			g.m.dead = append(g.m.dead, 0)
		}
		// A token is chosen only where the longest one would still be seen.
		if until := len(g.text) - g.v.longest; until > g.pos {
			g.pos = g.v.advance(view(g.text), g.pos, until, g.m)
		}
		g.forget()
	}
}

// forget drops tokens that cannot change any more, when they are many.
func (g *growing) forget() {
	sure := len(g.m.stack) - g.v.reach - 1
	if sure <= 0 || g.pos < g.window/2 {
		return
	}
	// The bits of dead must keep their places in their words.
	off := g.m.stack[sure-1].end &^ 63
	n := copy(g.text, g.text[off:])
	g.text = g.text[:n]
	n = copy(g.m.dead, g.m.dead[off/64:])
	g.m.dead = g.m.dead[:n]
	n = copy(g.m.stack, g.m.stack[sure:])
	g.m.stack = g.m.stack[:n]
	for i := range g.m.stack {
		g.m.stack[i].end -= off
	}
	g.pos -= off
	g.counted += sure
}

// count is the number of tokens if the text ends here. It may go on after all.
func (g *growing) count() int {
	end := g.clone()
	end.v.advance(view(end.text), end.pos, len(end.text), end.m)
	return end.counted + len(end.m.stack)
}
