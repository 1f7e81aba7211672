package ptyproc

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"regexp"
)

const (
	// The bounds of one OutputChunk.
	defaultLines = 200
	maxLines     = 10_000
	maxLineBytes = 64 << 10
	maxChunk     = 1 << 20
	// Shown before and after a match in a line that is longer than maxLineBytes.
	neighbourhood = 512
)

// OutputLine is one line of a kept output.
type OutputLine struct {
	Number int // 1-based
	Text   string
	// Cut is set when the line is longer than 64 KiB: its beginning is given, or
	// with a pattern what is around the first match.
	Cut bool
	// At is the byte of the output that Text begins with.
	At int64
}

// OutputChunk is a part of a kept output.
type OutputChunk struct {
	Lines []OutputLine
	// Next is the offset to go on with, 0 at the end.
	Next int
	// Bytes and TotalLines are the size of what is kept; TotalLines is -1 when
	// the end was not reached.
	Bytes      int64
	TotalLines int
	// Missing counts the bytes behind the end that were not kept: there were more
	// than the limit, or Failed says what went wrong, such as a full disk.
	Missing int64
	Failed  string
}

// ReadOutput reads limit lines (200 when 0, at most 10,000, at most 1 MiB in
// all) of a kept output from line offset on: 1-based, 0 is 1, negative counts
// from the end. With a pattern (RE2) only matching lines are given, each with
// its number; lines are matched whole, however long. It needs constant memory however long the output and its lines.
//
// Codes: not_found, invalid_argument, internal.
func (t *Table) ReadOutput(outputID string, offset, limit int, pattern string) (OutputChunk, error) {
	var match *regexp.Regexp
	if pattern != "" {
		var err error
		if match, err = regexp.Compile(pattern); err != nil {
			return OutputChunk{}, errorf("invalid_argument", err, "invalid regular expression (%v); use RE2 syntax", err)
		}
	}
	if limit < 0 {
		return OutputChunk{}, errorf("invalid_argument", nil, "limit is %d; give the number of lines", limit)
	}
	if limit == 0 {
		limit = defaultLines
	}
	limit = min(limit, maxLines)
	f, size, sp, err := t.spools.open(outputID)
	if err != nil {
		return OutputChunk{}, err
	}
	defer func() { _ = f.Close() }()
	chunk := OutputChunk{Bytes: size, TotalLines: -1}
	sp.mu.Lock()
	chunk.Missing, chunk.Failed = sp.missing, sp.failed
	sp.mu.Unlock()

	whole := io.NewSectionReader(f, 0, size)
	if offset < 0 {
		n, err := countLines(whole)
		if err != nil {
			return OutputChunk{}, unreadable(err)
		}
		offset = max(1, n+offset+1)
		if _, err := whole.Seek(0, io.SeekStart); err != nil {
			return OutputChunk{}, unreadable(err)
		}
	}
	if err := chunk.scan(whole, max(1, offset), limit, match); err != nil {
		return OutputChunk{}, unreadable(err)
	}
	return chunk, nil
}

func unreadable(err error) error {
	return errorf("internal", err, "the kept output could not be read (%s); run the command again", errnoText(err))
}

func (c *OutputChunk) scan(f *io.SectionReader, offset, limit int, match *regexp.Regexp) error {
	lines := newLineReader(f)
	taken := 0
	for number := 1; ; number++ {
		l, err := lines.next(number >= offset)
		if errors.Is(err, io.EOF) {
			c.TotalLines = number - 1
			return nil
		}
		if err != nil {
			return err
		}
		if number < offset {
			continue
		}
		out := OutputLine{Number: number, At: l.at, Cut: l.size > int64(len(l.text))}
		if match != nil {
			found := false
			if l.text, out.At, found = l.find(f, match); !found {
				continue
			}
		}
		var j joiner
		// What is cut at either end may be half a character.
		if out.At > l.at {
			skip := continuation(l.text)
			l.text, out.At = l.text[skip:], out.At+int64(skip)
		}
		out.Text = string(j.next(nil, l.text, out.At+int64(len(l.text)) == l.at+l.size))
		if len(c.Lines) == limit || taken > 0 && taken+len(out.Text) > maxChunk {
			c.Next = number
			return nil
		}
		taken += len(out.Text) + 1
		c.Lines = append(c.Lines, out)
	}
}

// rawLine is one line: where it is, how long, and its beginning.
type rawLine struct {
	at, size int64
	text     []byte
}

// find matches the whole line, however long. Of a line longer than 64 KiB the
// neighbourhood of the first match is given, and where that begins.
func (l *rawLine) find(f *io.SectionReader, match *regexp.Regexp) (text []byte, at int64, found bool) {
	if l.size == int64(len(l.text)) {
		return l.text, l.at, match.Match(l.text)
	}
	loc := match.FindReaderIndex(bufio.NewReaderSize(io.NewSectionReader(f, l.at, l.size), maxLineBytes))
	if loc == nil {
		return nil, 0, false
	}
	from := max(0, int64(loc[0])-neighbourhood)
	to := min(l.size, min(int64(loc[1]), int64(loc[0])+maxLineBytes)+neighbourhood)
	text = make([]byte, to-from)
	n, _ := f.ReadAt(text, l.at+from)
	return text[:n], l.at + from, true
}

// lineReader reads lines of any length in constant memory. LF ends a line, and so
// does a CR: progress is drawn with it.
type lineReader struct {
	r    *bufio.Reader
	line []byte
	at   int64
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, maxLineBytes)}
}

// next gives the next line without its end, its text valid until the following
// call and at most 64 KiB; that of unwanted lines is left out.
func (l *lineReader) next(wanted bool) (rawLine, error) {
	l.line = l.line[:0]
	out := rawLine{at: l.at}
	for {
		if _, err := l.r.Peek(1); err != nil {
			if errors.Is(err, io.EOF) && l.at > out.at {
				out.text = l.line
				return out, nil
			}
			return out, err
		}
		b, _ := l.r.Peek(l.r.Buffered())
		end := bytes.IndexAny(b, "\r\n")
		part := b
		if end >= 0 {
			part = b[:end]
		}
		if wanted {
			l.line = append(l.line, part[:min(len(part), maxLineBytes-len(l.line))]...)
		}
		out.size += int64(len(part))
		l.skip(len(part))
		if end >= 0 {
			l.skipEnd()
			out.text = l.line
			return out, nil
		}
	}
}

func (l *lineReader) skip(n int) {
	n, _ = l.r.Discard(n)
	l.at += int64(n)
}

// skipEnd skips one line end: LF, or CRs and an LF if it follows. A terminal
// writes CR CR LF for CR LF.
func (l *lineReader) skipEnd() {
	for {
		b, err := l.r.Peek(1)
		if err != nil || b[0] != '\r' && b[0] != '\n' {
			return
		}
		l.skip(1)
		if b[0] == '\n' {
			return
		}
	}
}

func countLines(r io.Reader) (int, error) {
	lines := newLineReader(r)
	for n := 0; ; n++ {
		_, err := lines.next(false)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// OutputBytes reads at most limit bytes (64 KiB when 0, at most 1 MiB) of a kept
// output from offset on; a negative one counts from the end. at is where text
// begins: never within a character. Codes: not_found, invalid_argument, internal.
func (t *Table) OutputBytes(outputID string, offset int64, limit int) (text string, at, size int64, err error) {
	if limit < 0 {
		return "", 0, 0, errorf("invalid_argument", nil, "the number of bytes is %d; give 1 to %d", limit, maxChunk)
	}
	if limit == 0 {
		limit = maxLineBytes
	}
	f, size, _, err := t.spools.open(outputID)
	if err != nil {
		return "", 0, 0, err
	}
	defer func() { _ = f.Close() }()
	if offset < 0 {
		offset += size
	}
	at = min(max(offset, 0), size)
	b := make([]byte, min(int64(limit), maxChunk, size-at))
	n, err := f.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", 0, 0, unreadable(err)
	}
	b = b[:n]
	if at > 0 {
		skip := continuation(b)
		b, at = b[skip:], at+int64(skip)
	}
	var j joiner
	return string(j.next(nil, b, at+int64(len(b)) == size)), at, size, nil
}
