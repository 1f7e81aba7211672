package tools

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// plainText is output as a model should read it: without colours, titles and
// other sequences that only steer a terminal; a line that was drawn again and
// again, over CR or by moving the cursor, as it was left; and every other
// control character spelled out, as a single NUL in a result has ended whole
// conversations in some clients.
type plainText struct {
	text string
	// controls is how many control characters are spelled out, frames how many
	// times a line was drawn over.
	controls, frames int
}

// lossy says that text lacks something that was not there only for the looks.
func (p plainText) lossy() bool { return p.controls > 0 || p.frames > 0 }

// plain reads s. A sequence that s ends in the middle of is left out.
func plain(s string) plainText {
	if !strings.ContainsFunc(s, func(r rune) bool { return isSteering(r) && r != '\n' && r != '\t' }) {
		return plainText{text: s}
	}
	p := painter{lines: []paintedLine{{}}}
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == 0x1b:
			size = p.escape(s[i:])
		case r == '\n':
			p.newline()
		case r == '\r':
			p.returned = true
			p.col = 0
		case r == '\b' && p.col > 0 && p.col <= len(p.line().text) && p.line().text[p.col-1] >= 0:
			p.col--
		case isSteering(r) && r != '\t':
			p.spell(r)
		default:
			p.put(r)
		}
		i += size
	}
	return p.result()
}

// isSteering: C0, DEL and C1.
func isSteering(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

// escaped spells out every control character but tab and line feed.
func escaped(s string) string {
	text, _ := spellControls(s, "\n\t")
	return text
}

// spelled spells out the control characters of what a file holds, as those of output,
// and says how many. A form feed and a carriage return are text there.
func spelled(s string) (text string, controls int) { return spellControls(s, "\n\t\r\f") }

// spellControls spells out control characters except those of kept, and says how many.
func spellControls(s, kept string) (text string, controls int) {
	odd := func(r rune) bool { return isSteering(r) && !strings.ContainsRune(kept, r) }
	if !strings.ContainsFunc(s, odd) {
		return s, 0
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if odd(r) {
			fmt.Fprintf(&b, `\x%02x`, r)
			controls++
		} else {
			b.WriteString(s[:size]) // bytes that are not UTF-8 stay
		}
		s = s[size:]
	}
	return b.String(), controls
}

type paintedLine struct {
	text  []rune
	end   string // "\n", "\r\n", or "" for the last
	drawn bool   // drawn over
}

// painter keeps the lines that the output draws and where it draws next.
type painter struct {
	lines    []paintedLine
	row, col int
	// returned is set between a CR and what follows it.
	returned         bool
	controls, frames int
}

func (p *painter) line() *paintedLine { return &p.lines[p.row] }

func (p *painter) put(r rune) {
	l := p.line()
	// After a CR the next frame of a progress line begins. What it is shorter by
	// is not a part of it.
	if p.returned && len(l.text) > 0 {
		p.erase()
	}
	p.returned = false
	for len(l.text) < p.col {
		l.text = append(l.text, ' ')
	}
	if p.col < len(l.text) {
		l.text[p.col] = r
	} else {
		l.text = append(l.text, r)
	}
	p.col++
}

func (p *painter) spell(r rune) {
	p.controls++
	p.put(^r) // spelled out at the end, so that it stays one cell
}

// erase cuts the line at the cursor.
func (p *painter) erase() {
	l := p.line()
	if p.col < len(l.text) {
		l.text = l.text[:p.col]
		l.drawn = true
		if p.col == 0 {
			p.frames++
		}
	}
}

func (p *painter) newline() {
	end := "\n"
	if p.returned {
		end = "\r\n"
	}
	if p.row == len(p.lines)-1 {
		p.line().end = end
		p.lines = append(p.lines, paintedLine{})
	}
	p.row, p.col, p.returned = p.row+1, 0, false
}

// mostMoved bounds a movement of the cursor.
const mostMoved = 1000

// escape reads the sequence s begins with, ECMA-48 section 5, and returns its
// length.
func (p *painter) escape(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	switch c := s[1]; {
	case c == '[':
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				p.control(s[2:i], s[i])
				return i + 1
			}
			if s[i] < 0x20 || s[i] > 0x3f {
				break // not a sequence after all
			}
			if i == len(s)-1 {
				return len(s)
			}
		}
	case strings.IndexByte("]PX^_", c) >= 0:
		for i := 2; i < len(s); i++ {
			switch {
			case s[i] == 0x07:
				return i + 1
			case s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\':
				return i + 2
			case s[i] == '\n' && c == ']': // never within a title
				p.spell(0x1b)
				return 1
			}
		}
		return len(s)
	case c >= 0x20 && c <= 0x2f: // such as ESC ( B
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x30 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return len(s)
	case c >= 0x30 && c <= 0x7e:
		return 2
	}
	p.spell(0x1b)
	return 1
}

// control carries out a control sequence that moves or erases.
func (p *painter) control(params string, final byte) {
	n, err := strconv.Atoi(params)
	if err != nil && params != "" {
		return // several, or private: colours, modes
	}
	n = min(n, mostMoved)
	switch final {
	case 'A', 'F':
		p.row = max(0, p.row-max(n, 1))
		if final == 'F' {
			p.col, p.returned = 0, true
		}
	case 'B', 'E':
		p.row = min(len(p.lines)-1, p.row+max(n, 1))
		if final == 'E' {
			p.col, p.returned = 0, true
		}
	case 'C':
		p.col, p.returned = p.col+max(n, 1), false
	case 'D':
		p.col, p.returned = max(0, p.col-max(n, 1)), false
	case 'G':
		p.col, p.returned = max(n, 1)-1, false
	case 'K':
		switch n {
		case 0:
			p.erase()
		case 2:
			col := p.col
			p.col = 0
			p.erase()
			p.col = col
		}
	case 'J':
		if n == 0 {
			p.erase()
			p.lines = p.lines[:p.row+1]
			p.line().end = ""
		}
	case 'H', 'f':
		// The screen starts over; what was there stays above.
		if p.row = len(p.lines) - 1; len(p.line().text) > 0 {
			p.newline()
		}
		p.col, p.returned = 0, false
	}
}

func (p *painter) result() plainText {
	var b strings.Builder
	for i, l := range p.lines {
		text := l.text
		for l.drawn && len(text) > 0 && text[len(text)-1] == ' ' {
			text = text[:len(text)-1]
		}
		for _, r := range text {
			if r < 0 {
				fmt.Fprintf(&b, `\x%02x`, ^r)
				continue
			}
			b.WriteRune(r)
		}
		if l.end == "" && i < len(p.lines)-1 {
			l.end = "\n"
		}
		b.WriteString(l.end)
	}
	return plainText{text: b.String(), controls: p.controls, frames: p.frames}
}

// plainNote says what plain has left out, "" when that was only for the looks.
func plainNote(controls, frames int, painted bool, id string) string {
	var parts []string
	if painted {
		parts = append(parts, "what a full-screen program drew is left out")
	}
	if controls > 0 {
		parts = append(parts, counted(controls, "control byte is", "control bytes are")+` shown as \xNN`)
	}
	if frames > 0 {
		parts = append(parts, counted(frames, "line that was drawn over is left out", "lines that were drawn over are left out"))
	}
	return strings.Join(parts, ", ") + "; as written: read_output output_id=" + id + " raw=true"
}
