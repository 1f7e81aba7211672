package workspace

import (
	"bytes"
	"context"
	"io"
	"unicode/utf8"
)

// lineCutter picks a range of lines out of blocks of bytes and counts lines.
type lineCutter struct {
	nl       []byte // newline in the encoding
	unit     int    // bytes per code unit
	first    int    // first wanted line
	limit    int    // wanted lines, 0 for all
	max      int    // most bytes kept
	line     int    // line being read, 1-based
	lines    int    // lines seen, known at the end
	out      []byte
	full     bool // nothing more will be kept
	cut      bool // something wanted was left out, or more lines follow
	done     bool // the end was reached
	partial  bool // bytes after the last newline
	rest     []byte
	lastLine int // last line with bytes in out
}

func newLineCutter(enc Encoding, first, limit, max int) *lineCutter {
	return &lineCutter{nl: enc.newline(), unit: enc.unit(), first: first, limit: limit, max: max, line: 1}
}

func (c *lineCutter) feed(b []byte) {
	if c.unit == 2 {
		if len(c.rest) > 0 && len(b) > 0 {
			pair := []byte{c.rest[0], b[0]}
			c.rest = nil
			c.scan(pair)
			b = b[1:]
		}
		if len(b)%2 == 1 {
			c.rest = []byte{b[len(b)-1]}
			b = b[:len(b)-1]
		}
	}
	c.scan(b)
}

func (c *lineCutter) scan(b []byte) {
	for len(b) > 0 {
		wanted := c.line >= c.first && (c.limit == 0 || c.line < c.first+c.limit)
		if !wanted || c.full {
			if c.line >= c.first {
				c.cut, c.full = true, true
			}
			if c.unit == 1 && (c.full || c.line < c.first) {
				b = c.skip(b)
				continue
			}
		}
		i := c.index(b)
		end := len(b)
		if i >= 0 {
			end = i + c.unit
		}
		if wanted && !c.full {
			c.keep(b[:end])
		}
		c.partial = i < 0
		if i >= 0 {
			c.line++
		}
		b = b[end:]
	}
}

// skip passes over bytes before or after the range, counting in bulk.
func (c *lineCutter) skip(b []byte) []byte {
	if c.full {
		n := bytes.Count(b, c.nl)
		c.line += n
		c.partial = b[len(b)-1] != '\n'
		return nil
	}
	// Before the range: stop exactly where it begins.
	if n := bytes.Count(b, c.nl); c.line+n < c.first {
		c.line += n
		c.partial = b[len(b)-1] != '\n'
		return nil
	}
	for c.line < c.first {
		i := bytes.IndexByte(b, '\n')
		b = b[i+1:]
		c.line++
		c.partial = false
	}
	return b
}

func (c *lineCutter) index(b []byte) int {
	if c.unit == 1 {
		return bytes.IndexByte(b, '\n')
	}
	for i := 0; i+1 < len(b); i += 2 {
		if b[i] == c.nl[0] && b[i+1] == c.nl[1] {
			return i
		}
	}
	return -1
}

// keep adds bytes of the current line. When they do not fit, the line is left
// out whole if there are others, and cut if it is the first.
func (c *lineCutter) keep(b []byte) {
	if len(c.out)+len(b) <= c.max {
		c.out = append(c.out, b...)
		c.lastLine = c.line
		return
	}
	c.full, c.cut = true, true
	if c.lastLine == c.line || c.lastLine == 0 {
		if c.lineStart() == 0 {
			room := c.max - len(c.out)
			room -= room % c.unit
			if room > 0 {
				c.out = append(c.out, b[:room]...)
				c.lastLine = c.line
			}
			if c.unit == 1 {
				c.out = trimPartialRune(c.out)
			}
			return
		}
		c.out = c.out[:c.lineStart()]
		c.lastLine = c.line - 1
	}
}

// lineStart is where the current line starts in out.
func (c *lineCutter) lineStart() int {
	if c.unit == 1 {
		return bytes.LastIndexByte(c.out, '\n') + 1
	}
	for i := len(c.out) - 2; i >= 0; i -= 2 {
		if c.out[i] == c.nl[0] && c.out[i+1] == c.nl[1] {
			return i + 2
		}
	}
	return 0
}

func (c *lineCutter) end() {
	if len(c.rest) > 0 {
		c.partial = true
	}
	c.lines = c.line - 1
	if c.partial {
		c.lines++
	}
	c.done = true
}

func (c *lineCutter) gotLines() int {
	if c.lastLine < c.first || len(c.out) == 0 {
		return 0
	}
	return c.lastLine - c.first + 1
}

// trimPartialRune drops an incomplete UTF-8 sequence at the end of b.
func trimPartialRune(b []byte) []byte {
	for i := 1; i <= utf8.UTFMax && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-i:]) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}

// lineFromEnd finds the start of the n-th line from the end by reading blocks
// backwards, and counts the lines before it when the file is small enough.
func lineFromEnd(ctx context.Context, file io.ReaderAt, start, size int64, n int, enc Encoding) (pos int64, before int, err error) {
	unit := int64(enc.unit())
	nl := enc.newline()
	pooled := blocks.Get().(*[]byte)
	defer blocks.Put(pooled)
	buf := *pooled
	block := int64(len(buf))
	size -= (size - start) % unit
	pos = start
	seen := 0
	end := size
search:
	for end > start {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		from := max(start, end-block)
		b := buf[:end-from]
		m, err := file.ReadAt(b, from)
		if err != nil && err != io.EOF {
			return 0, 0, unwrapPath(err)
		}
		b = b[:m]
		for i := len(b) - int(unit); i >= 0; i -= int(unit) {
			if unit == 1 {
				if i = bytes.LastIndexByte(b[:i+1], '\n'); i < 0 {
					break
				}
			} else if b[i] != nl[0] || b[i+1] != nl[1] {
				continue
			}
			if from+int64(i)+unit == size {
				continue // ends the last line
			}
			if seen++; seen == n {
				pos = from + int64(i) + unit
				break search
			}
		}
		end = from
	}
	if pos-start > countLimit {
		return pos, -1, nil
	}
	c := newLineCutter(enc, 1<<62, 0, 0)
	for at := start; at < pos; {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		b := buf[:min(block, pos-at)]
		m, err := file.ReadAt(b, at)
		if m == 0 && err != nil {
			break
		}
		c.feed(b[:m])
		at += int64(m)
	}
	return pos, c.line - 1, nil
}
