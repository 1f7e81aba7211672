package workspace

import (
	"bytes"
	"context"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	// searchWindow is how much of a file is looked at together. A line longer
	// than that is searched in pieces.
	searchWindow   = 4 << 20
	binaryHead     = 8 << 10 // as git and rg look for NUL
	maxLineShown   = 500
	maxDecodedFile = 16 << 20
)

// fileSearcher searches one file after another, keeping its buffers.
type fileSearcher struct {
	*matcher
	ctx    context.Context
	hidden *hiddenSet
	buf    []byte
	lower  []byte

	lines []SearchLine
	n     int // matching lines
	bytes int // text in lines
	max   int
}

// search returns the matching lines of the open file with their context, at
// most max matches.
func (s *fileSearcher) search(fd int, max int) searchDone {
	if s.buf == nil {
		s.buf = make([]byte, 64<<10)
	}
	s.lines, s.n, s.bytes, s.max = nil, 0, 0, max
	w := window{line: 1}
	filled := 0
	for first := true; ; first = false {
		var err error
		filled, w.eof, err = s.fill(fd, filled)
		if err != nil {
			return searchDone{err: err}
		}
		b := s.buf[:filled]
		if first {
			head := b[:min(len(b), binaryHead)]
			if e, bom := bomOf(head); bom && e.unit() == 2 {
				return s.searchDecoded(fd, filled, e, len(e.bom()))
			}
			if bytes.HasPrefix(b, UTF8.bom()) {
				filled = copy(s.buf, b[len(UTF8.bom()):]) // so that ^ matches behind it
				b = s.buf[:filled]
			}
			if bytes.IndexByte(head, 0) >= 0 {
				if e := utf16WithoutBOM(head); e != "" && plain(head, w.eof) {
					return s.searchDecoded(fd, filled, e, 0)
				}
				return searchDone{}
			}
			if s.wide && oneByte(b, w.eof) {
				return s.searchDecoded(fd, filled, Windows1252, 0)
			}
		}
		keep := s.scan(b, &w)
		if first && s.n > 0 && !s.wide && oneByte(b, w.eof) {
			s.lines, s.n, s.bytes = nil, 0, 0
			return s.searchDecoded(fd, filled, Windows1252, 0) // for what is shown
		}
		if err := s.ctx.Err(); err != nil {
			return searchDone{err: err}
		}
		if w.eof || s.full() {
			return s.result()
		}
		filled = copy(s.buf, b[keep:])
	}
}

func (s *fileSearcher) full() bool { return s.n >= s.max || s.bytes > maxFileBytes }

func (s *fileSearcher) result() searchDone {
	return searchDone{lines: s.lines, text: true, cut: s.bytes > maxFileBytes}
}

// fill reads until the buffer is full or the file ends, growing the buffer up
// to a window.
func (s *fileSearcher) fill(fd, filled int) (int, bool, error) {
	for {
		if err := s.ctx.Err(); err != nil {
			return 0, false, err
		}
		if filled == len(s.buf) {
			if len(s.buf) >= searchWindow {
				return filled, false, nil
			}
			s.buf = append(s.buf, make([]byte, len(s.buf)*3)...)
		}
		n, err := retryEINTR(func() (int, error) { return unix.Read(fd, s.buf[filled:]) })
		if err == unix.EAGAIN {
			n, err = 0, nil
		}
		if err != nil {
			return 0, false, err
		}
		if n == 0 {
			return filled, true, nil
		}
		filled += n
	}
}

// oneByte says whether b, all of a file, is text that is neither UTF-8 nor UTF-16.
func oneByte(b []byte, whole bool) bool {
	if !whole || utf8.Valid(b) {
		return false
	}
	e, _ := detect(b, true)
	return e == Windows1252
}

// searchDecoded searches a file that is not UTF-8 except in its first bytes, whole and as
// read_file shows it.
func (s *fileSearcher) searchDecoded(fd, filled int, e Encoding, skip int) searchDone {
	for {
		n, eof, err := s.fill(fd, filled)
		if err != nil {
			return searchDone{err: err}
		}
		if filled = n; eof {
			break
		}
		if len(s.buf) >= maxDecodedFile {
			return searchDone{}
		}
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	text := []byte(decode(s.buf[skip:filled], e))
	s.scan(text, &window{line: 1, eof: true})
	return s.result()
}

// window is where in a file the buffer stands.
type window struct {
	line int  // number of the line at the start of the buffer
	from int  // bytes at the start that were searched before and are only context
	eof  bool // the buffer ends with the file
}

// scan looks for matches in b. Lines so near the end that their context is not
// in b yet are left for the next window. It returns how many bytes are not
// needed any more.
func (s *fileSearcher) scan(b []byte, w *window) (keep int) {
	safe := len(b)
	if !w.eof {
		// Whole lines only, and room for the lines after a match.
		safe = bytes.LastIndexByte(b, '\n') + 1
		for i := 0; i < s.context && safe > w.from; i++ {
			safe = bytes.LastIndexByte(b[:safe-1], '\n') + 1
		}
		if safe <= w.from {
			safe = len(b) // one endless line: a piece of it is searched as it is
		}
	}
	hay := b[:safe]
	var scan *scanner
	if s.filter != nil {
		if s.filter.fold {
			s.lower = lowerASCII(s.lower, hay)
			hay = s.lower
		}
		scan = s.filter.scan(hay)
	}
	counted, line := 0, w.line // line is the number of the line at counted
	for pos := w.from; pos < safe && !s.full() && s.ctx.Err() == nil; {
		if scan != nil {
			if pos = scan.from(pos); pos < 0 {
				break
			}
		}
		start := max(bytes.LastIndexByte(b[:pos], '\n')+1, 0)
		end := len(b)
		if i := bytes.IndexByte(b[pos:], '\n'); i >= 0 {
			end = pos + i
		}
		text := bytes.TrimSuffix(b[start:end], []byte("\r"))
		at := -1
		if s.filter != nil && s.filter.exact {
			at = bytes.Index(text, s.filter.literals[0])
		} else {
			at = s.find(text)
		}
		if at >= 0 {
			line += bytes.Count(b[counted:start], []byte{'\n'})
			counted = start
			s.hit(b, start, end, line, at)
		}
		pos = end + 1
	}
	if w.eof {
		return len(b)
	}
	// Keep the lines before safe that a later match may show.
	keep = safe
	for i := 0; i < s.context && keep > 0; i++ {
		keep = bytes.LastIndexByte(b[:keep-1], '\n') + 1
	}
	if safe-keep > searchWindow/2 {
		keep = safe // context lines too long to keep
	}
	w.line = line + bytes.Count(b[counted:keep], []byte{'\n'})
	if keep < counted {
		w.line = line - bytes.Count(b[keep:counted], []byte{'\n'})
	}
	w.from = safe - keep
	return keep
}

// find is the byte at which the pattern matches in line, -1 when it does not or
// the call was cancelled.
func (s *fileSearcher) find(line []byte) int {
	if len(line)*s.size > maxUninterrupted {
		if at := s.re.FindReaderIndex(&runes{b: line, done: s.ctx.Done()}); at != nil && s.ctx.Err() == nil {
			return at[0]
		}
		return -1
	}
	// The place is only asked for when there is one: finding it costs more.
	if !s.re.Match(line) {
		return -1
	}
	return s.re.FindIndex(line)[0]
}

// maxUninterrupted is how much of a match goes on without a look at the context:
// bytes of the line times instructions of the pattern, some tenths of a second.
const maxUninterrupted = 32 << 20

// runes gives a line to the matcher until the call is cancelled.
type runes struct {
	b    []byte
	done <-chan struct{}
}

func (r *runes) ReadRune() (rune, int, error) {
	select {
	case <-r.done:
		return 0, 0, io.EOF
	default:
	}
	if len(r.b) == 0 {
		return 0, 0, io.EOF
	}
	c, n := utf8.DecodeRune(r.b)
	r.b = r.b[n:]
	return c, n, nil
}

// hit records a matching line and its context, leaving out lines recorded
// already.
func (s *fileSearcher) hit(b []byte, start, end, line, at int) {
	s.n++
	before := len(s.lines)
	defer func() {
		for _, l := range s.lines[before:] {
			s.bytes += len(l.Text)
		}
	}()
	last := 0
	if k := len(s.lines); k > 0 {
		last = s.lines[k-1].Line
	}
	if line <= last {
		// It was recorded as context of the match before.
		for i := len(s.lines) - 1; i >= 0 && s.lines[i].Line >= line; i-- {
			if s.lines[i].Line == line {
				s.lines[i] = matchLine(b[start:end], line, at)
			}
		}
	} else {
		first, from := line, start
		for first > max(1, line-s.context) && first > last+1 && from > 0 {
			from = bytes.LastIndexByte(b[:from-1], '\n') + 1
			first--
		}
		for p := from; first < line; first++ {
			e := p + bytes.IndexByte(b[p:], '\n')
			s.lines = append(s.lines, SearchLine{Line: first, Text: showLine(b[p:e], 0)})
			p = e + 1
		}
		s.lines = append(s.lines, matchLine(b[start:end], line, at))
		last = line
	}
	for p, n := end+1, line+1; p < len(b) && n <= line+s.context; n++ {
		e := len(b)
		if i := bytes.IndexByte(b[p:], '\n'); i >= 0 {
			e = p + i
		}
		if n > last {
			s.lines = append(s.lines, SearchLine{Line: n, Text: showLine(b[p:e], 0)})
		}
		p = e + 1
	}
}

func matchLine(text []byte, line, at int) SearchLine {
	return SearchLine{Line: line, Text: showLine(text, at), Match: true, Column: at + 1}
}

// showLine cuts a long line around the byte at.
func showLine(text []byte, at int) string {
	text = bytes.TrimSuffix(text, []byte("\r"))
	if len(text) <= maxLineShown {
		return strings.ToValidUTF8(string(text), "\uFFFD")
	}
	from := max(0, min(at-maxLineShown/4, len(text)-maxLineShown))
	to := min(len(text), from+maxLineShown)
	out := strings.ToValidUTF8(string(text[from:to]), "")
	if from > 0 {
		out = "..." + out
	}
	if to < len(text) {
		out += "..."
	}
	return out
}
