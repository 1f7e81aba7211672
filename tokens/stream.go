package tokens

import (
	"slices"
	"unicode/utf8"
	"unsafe"
)

// window is how much of a stream is kept at least before it is counted, and
// the length from which a piece is counted while it still grows. It must be
// some times longer than the longest token.
const window = 64 << 10

// Counter counts the tokens of a text that comes in parts, cut anywhere. It
// keeps at most a few hundred KiB of it, whatever the text is. It is an
// io.Writer whose writes never fail. It may not be used by two goroutines at a
// time.
type Counter struct {
	e      *Encoding
	window int    // window, or less in tests
	total  int    // tokens of what is no longer in buf or long
	buf    []byte // valid UTF-8 not counted yet, from the start of a piece or inside long
	rest   []byte // the beginning of a character
	long   *longPiece
	// pieces is how many there were. Most wrong splits have the right number of
	// tokens all the same, so the tests look at this too.
	pieces int
}

// NewCounter returns a Counter that has counted nothing.
func (e *Encoding) NewCounter() *Counter { return &Counter{e: e, window: window} }

// Write counts p as the next part of the text. It always returns len(p) and
// nil.
func (c *Counter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part := p[:min(len(p), c.window)]
		p = p[len(part):]
		c.decode(part)
		if len(c.buf) >= 2*c.window {
			c.drain(false)
		}
	}
	return n, nil
}

// Total is the number of tokens of everything written so far, as if the text
// ended there. More may be written after it.
func (c *Counter) Total() int {
	return c.finished().total
}

func (c *Counter) finished() *Counter {
	last := Counter{e: c.e, window: c.window, total: c.total, pieces: c.pieces, buf: slices.Clone(c.buf)}
	if c.long != nil {
		last.long = c.long.clone()
	}
	for range c.rest {
		last.buf = utf8.AppendRune(last.buf, utf8.RuneError)
	}
	last.drain(true)
	return &last
}

// decode adds p to buf, with U+FFFD for every byte that is not UTF-8. The
// beginning of a character at the end waits for the rest of it.
func (c *Counter) decode(p []byte) {
	if len(c.rest) > 0 {
		p = append(c.rest, p...)
		c.rest = nil
	}
	end := len(p)
	for i := end - 1; i >= 0 && i > end-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				c.rest = slices.Clone(p[i:])
				p = p[:i]
			}
			break
		}
	}
	if utf8.Valid(p) {
		c.buf = append(c.buf, p...)
		return
	}
	for _, r := range view(p) {
		c.buf = utf8.AppendRune(c.buf, r)
	}
}

// drain counts what is certain of buf, and if final all of it.
func (c *Counter) drain(final bool) {
	m := c.e.getMerger()
	defer putMerger(m)
	g, v := c.e.grammar, c.e.vocab
	s := view(c.buf)
	for {
		if c.long != nil {
			used, done := c.long.take(s, final)
			s = s[used:]
			if !done {
				break
			}
			n, pieces := c.long.total()
			c.total, c.pieces = c.total+n, c.pieces+pieces
			// The last space of a run belongs to what follows.
			s = c.long.held + s
			c.long = nil
		}
		k, run, p := kindDone, 0, 0
		trail := trailing(s)
		for p < len(s) {
			k, run = g.start(s, p)
			end := g.end(k, s, run)
			if !final && !trail.certain(k, end) {
				break
			}
			c.total += v.count(s[p:end], m)
			c.pieces++
			p = end
		}
		s = s[p:]
		if len(s) < c.window || final {
			break
		}
		c.long = newLongPiece(c.e, k, s[:run-p], c.window)
		s = s[run-p:]
	}
	// s may be a part of buf, further on, or have been made anew.
	c.buf = append(c.buf[:0], s...)
}

// trail tells how a text that goes on may change what its last pieces are.
type trail struct {
	size   int
	upper  int // where the characters of classUpper at its end start
	spaces int // where the spaces at its end start
}

func trailing(s string) trail {
	back := func(class byte) int {
		p := len(s)
		for p > 0 {
			_, size := utf8.DecodeLastRuneInString(s[:p])
			if c, _ := classAt(s, p-size); c&class == 0 {
				break
			}
			p -= size
		}
		return p
	}
	return trail{len(s), back(classUpper), back(classSpace)}
}

// certain tells whether a piece of kind k that was found to end at end does so
// whatever follows the text.
//
// A piece sees no further than the character that ends it, or where there may
// be a contraction three bytes further, with two exceptions. A word may end
// inside a run of upper-case characters, because no lower-case one follows
// them, and spaces may end inside a run of spaces.
func (t trail) certain(k kind, end int) bool {
	switch {
	case end+2*utf8.UTFMax > t.size:
		return false
	case k == kindWord:
		return end < t.upper
	case k == kindSpaces:
		return end < t.spaces
	}
	return true
}

// view is b as a string, for as long as b does not change.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
