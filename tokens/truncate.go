package tokens

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"
)

// Truncation is a text cut to a budget.
type Truncation struct {
	// Text is what remains, valid UTF-8, with the mark where text is missing.
	Text string
	// OriginalTokens is the number of tokens of the whole original text.
	OriginalTokens int
	// Estimated says that OriginalTokens and RemovedTokens are estimates,
	// because part of the text was gone before anyone counted it.
	Estimated bool
	// Truncated says that something is missing.
	Truncated bool
	// RemovedTokens is how many of the original tokens are not in Text, or
	// not wholly.
	RemovedTokens int
	// RemovedLines is how many of the original lines are not in Text, or not
	// wholly.
	RemovedLines int
}

// Placeholder makes the line that stands where text is missing. It should say how
// much that is and how to read it, and hold no line end.
type Placeholder func(removedTokens, removedLines int) string

// Gap is text that was dropped between a head and a tail that were kept.
type Gap struct {
	// Bytes is how many bytes were dropped. With 0 there is no gap.
	Bytes int64
	// Lines is how many line feeds were among them.
	Lines int
	// Total is the number of tokens of the whole text, with what was dropped,
	// as a Counter that saw all of it has it. With 0 it is estimated.
	Total int
}

func defaultMark(removedTokens, removedLines int) string {
	return fmt.Sprintf("[... %d tokens in %d lines left out ...]", removedTokens, removedLines)
}

// Truncate cuts text to at most max tokens, the mark included, as this encoding
// counts them. Text within the budget stays as it is. Otherwise the beginning
// and the end stay, about half of the budget each, cut between characters and
// where that costs no more than a quarter of the half between lines, with the
// mark on a line of its own between them. A nil mark is a plain default.
//
// A budget too small for anything but the mark gets the mark alone, cut too
// if need be, and one of 0 or less gets nothing.
func (e *Encoding) Truncate(text string, max int, mark Placeholder) Truncation {
	text = valid(text)
	ps := e.parts(text)
	n := total(ps)
	if n <= max {
		return Truncation{Text: text, OriginalTokens: n}
	}
	// Neither side gets more than half, see share.
	heads, tails := e.heads(text, max/2+1), e.tails(text, ps, max/2+1)
	c := cutter{e: e, max: max, mark: mark, head: text, tail: text, whole: true,
		heads: heads, tails: tails, total: n}
	return c.cut()
}

// TruncateParts is Truncate for a text of which only the head and the tail are
// left, with gap between them. The mark stands for the gap and for all that is
// cut on either side of it; it is there even if head and tail are within the
// budget.
func (e *Encoding) TruncateParts(head, tail string, gap Gap, max int, mark Placeholder) Truncation {
	if gap.Bytes <= 0 {
		return e.Truncate(head+tail, max, mark)
	}
	head, tail = valid(head), valid(tail)
	headParts, tailParts := e.parts(head), e.parts(tail)
	nHead, heads := total(headParts), e.heads(head, max)
	nTail, tails := total(tailParts), e.tails(tail, tailParts, max)
	c := cutter{e: e, max: max, mark: mark, head: head, tail: tail, gapLines: gap.Lines,
		heads: heads, tails: tails, total: gap.Total}
	if kept := nHead + nTail; c.total < kept || c.total <= 0 {
		// Assume the tokens per byte of the kept text, or 1/4.
		c.estimated = true
		perByte := 0.25
		if kept > 0 {
			perByte = float64(kept) / float64(len(head)+len(tail))
		}
		c.total = kept + int(float64(gap.Bytes)*perByte+0.5)
	}
	return c.cut()
}

// heads says where the first max tokens of text end.
func (e *Encoding) heads(text string, max int) (ends []int) {
	if max <= 0 {
		return nil
	}
	e.walk(text, 0, len(text), func(_, end int) bool {
		ends = append(ends, end)
		return len(ends) < max
	})
	return ends
}

// tails says where the last max tokens of text start. No more than the parts
// they lie in is looked at again.
func (e *Encoding) tails(text string, ps []part, max int) (starts []int) {
	if max <= 0 {
		return nil
	}
	i, n := len(ps)-1, ps[len(ps)-1].n
	for ; i > 0 && n < max; i-- {
		n += ps[i-1].n
	}
	skip := n - max
	e.walk(text, ps[i].from, len(text), func(start, _ int) bool {
		if skip--; skip < 0 {
			starts = append(starts, start)
		}
		return true
	})
	return starts
}

// cutter holds what one cut works on.
type cutter struct {
	e    *Encoding
	max  int
	mark Placeholder
	// head and tail are the text before and after the gap; if there is none,
	// whole is set and both are the same text.
	head, tail string
	whole      bool
	gapLines   int
	heads      []int // where the first tokens of head end
	tails      []int // where the last tokens of tail start
	total      int
	estimated  bool
}

func (c *cutter) cut() Truncation {
	if c.mark == nil {
		c.mark = defaultMark
	}
	if c.max <= 0 {
		return c.result("", 0, len(c.tail))
	}
	// What the mark takes depends on the numbers in it, and pieces change
	// where texts are joined; so build, count, and give back what is too much.
	_, atMost := c.removed(0, len(c.tail))
	room := c.max - c.e.Count(c.mark(c.total, atMost)) - 1
	for room > 0 {
		keepHead, keepTail := c.share(room)
		from, to := c.headEnd(keepHead), c.tailStart(keepTail)
		text := c.join(from, to)
		over := c.e.Count(text) - c.max
		if over <= 0 {
			return c.result(text, from, to)
		}
		room = min(room, keepHead+keepTail) - over
	}
	return c.result(c.markOnly(), 0, len(c.tail))
}

// share divides room tokens between head and tail.
func (c *cutter) share(room int) (head, tail int) {
	head = room / 2
	tail = room - head
	// What one side has no use for goes to the other. Where both are the same
	// text it is longer than the budget and this cannot happen.
	if spare := head - len(c.heads); spare > 0 {
		head, tail = len(c.heads), tail+spare
	}
	if spare := tail - len(c.tails); spare > 0 {
		tail = len(c.tails)
		head = min(head+spare, len(c.heads))
	}
	return head, tail
}

// headEnd is where to cut the head to keep at most n tokens of it.
func (c *cutter) headEnd(n int) int {
	if n <= 0 {
		return 0
	}
	end := characterBefore(c.head, c.heads[n-1])
	if end == len(c.head) || end > 0 && c.head[end-1] == '\n' {
		return end
	}
	floor := 0
	if i := n * 3 / 4; i > 0 {
		floor = min(c.heads[i-1], end)
	}
	if i := strings.LastIndexByte(c.head[floor:end], '\n'); i >= 0 {
		return floor + i + 1
	}
	return end
}

// tailStart is where to cut the tail to keep at most n tokens of it.
func (c *cutter) tailStart(n int) int {
	if n <= 0 {
		return len(c.tail)
	}
	start := characterAfter(c.tail, c.tails[len(c.tails)-n])
	if start == 0 || c.tail[start-1] == '\n' {
		return start
	}
	ceiling := len(c.tail)
	if i := n * 3 / 4; i > 0 {
		ceiling = max(c.tails[len(c.tails)-i], start)
	}
	if i := strings.IndexByte(c.tail[start:ceiling], '\n'); i >= 0 && start+i+1 < len(c.tail) {
		return start + i + 1
	}
	return start
}

func (c *cutter) join(from, to int) string {
	line := strings.ToValidUTF8(c.mark(c.removed(from, to)), "\ufffd")
	var b strings.Builder
	b.Grow(from + len(line) + len(c.tail) - to + 2)
	b.WriteString(c.head[:from])
	if from > 0 && c.head[from-1] != '\n' {
		b.WriteByte('\n')
	}
	b.WriteString(line)
	if to < len(c.tail) {
		b.WriteByte('\n')
		b.WriteString(c.tail[to:])
	}
	return b.String()
}

// markOnly is the mark, or as much of it as there is room for.
func (c *cutter) markOnly() string {
	line := strings.ToValidUTF8(c.mark(c.removed(0, len(c.tail))), "\ufffd")
	ends := c.e.heads(line, c.max)
	if len(ends) == 0 || ends[len(ends)-1] == len(line) {
		return line
	}
	// Fewer tokens of a text can be more than that many tokens by themselves.
	for n := len(ends); n > 0; n-- {
		if s := line[:characterBefore(line, ends[n-1])]; c.e.Count(s) <= c.max {
			return s
		}
	}
	return ""
}

// removed says how many tokens and lines are lost, wholly or in part, when
// head[:from] and tail[to:] are kept.
func (c *cutter) removed(from, to int) (tokens, lines int) {
	kept := sort.SearchInts(c.heads, from+1) + len(c.tails) - sort.SearchInts(c.tails, to)
	if c.whole {
		lines = strings.Count(c.head[from:to], "\n")
	} else {
		lines = strings.Count(c.head[from:], "\n") + c.gapLines + strings.Count(c.tail[:to], "\n")
	}
	if to == 0 || c.tail[to-1] != '\n' {
		lines++ // the last line lost was lost in part, or had no end
	}
	return c.total - kept, lines
}

func (c *cutter) result(text string, from, to int) Truncation {
	tokens, lines := c.removed(from, to)
	return Truncation{Text: text, OriginalTokens: c.total, Estimated: c.estimated, Truncated: true,
		RemovedTokens: tokens, RemovedLines: lines}
}

// maxCluster bounds how far a cut moves to keep what is seen as one character
// together; a text may pile up any number of marks.
const maxCluster = 16

// characterBefore is the last place at or before p where s may be cut.
func characterBefore(s string, p int) int {
	for p > 0 && p < len(s) && !utf8.RuneStart(s[p]) {
		p--
	}
	first := p
	for range maxCluster {
		if p <= 0 || p >= len(s) || !insideCharacter(s, p) {
			return p
		}
		_, size := utf8.DecodeLastRuneInString(s[:p])
		p -= size
	}
	return first
}

// characterAfter is the first place at or after p where s may be cut.
func characterAfter(s string, p int) int {
	for p < len(s) && !utf8.RuneStart(s[p]) {
		p++
	}
	first := p
	for range maxCluster {
		if p <= 0 || p >= len(s) || !insideCharacter(s, p) {
			return p
		}
		_, size := utf8.DecodeRuneInString(s[p:])
		p += size
	}
	return first
}

// insideCharacter tells whether the runes on both sides of p belong together:
// a base and its mark, the parts of a joined or coloured emoji, or CR LF. It
// is the cheap part of the grapheme rules of UAX #29.
func insideCharacter(s string, p int) bool {
	if s[p] < 0x80 && s[p-1] < 0x80 {
		return s[p-1] == '\r' && s[p] == '\n'
	}
	const joiner = '\u200d'
	before, _ := utf8.DecodeLastRuneInString(s[:p])
	after, _ := utf8.DecodeRuneInString(s[p:])
	class, _ := classAt(s, p)
	return before == joiner || after == joiner || class&classMark != 0 || after >= 0x1f3fb && after <= 0x1f3ff
}
