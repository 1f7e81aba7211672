package ptyproc

import (
	"bufio"
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
)

// OutputLine is one line of a kept output.
type OutputLine struct {
	Number int // 1-based
	Text   string
	// Cut is set when the line is longer than 64 KiB: its beginning is given.
	Cut bool
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
// its number. It needs constant memory however long the output and its lines.
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
		return OutputChunk{}, errorf("invalid_argument", nil, "limit is %d, give the number of lines", limit)
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
	return errorf("internal", err, "the kept output could not be read (%s), run the command again", errnoText(err))
}

func (c *OutputChunk) scan(r io.Reader, offset, limit int, match *regexp.Regexp) error {
	lines := newLineReader(r)
	taken := 0
	for number := 1; ; number++ {
		line, cut, err := lines.next(number >= offset)
		if errors.Is(err, io.EOF) {
			c.TotalLines = number - 1
			return nil
		}
		if err != nil {
			return err
		}
		if number < offset || match != nil && !match.Match(line) {
			continue
		}
		var j joiner
		text := string(j.next(nil, line, !cut))
		if len(c.Lines) == limit || taken > 0 && taken+len(text) > maxChunk {
			c.Next = number
			return nil
		}
		taken += len(text) + 1
		c.Lines = append(c.Lines, OutputLine{Number: number, Text: text, Cut: cut})
	}
}

// lineReader reads lines of any length in constant memory.
type lineReader struct {
	r    *bufio.Reader
	line []byte
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, maxLineBytes)}
}

// next gives the next line without its end, valid until the following call. A
// line longer than 64 KiB is cut there; unwanted lines are only skipped.
func (l *lineReader) next(wanted bool) (line []byte, cut bool, err error) {
	l.line = l.line[:0]
	started := false
	for {
		part, err := l.r.ReadSlice('\n')
		if len(part) > 0 {
			started = true
		}
		end := err == nil
		if wanted {
			if end {
				part = part[:len(part)-1]
			}
			room := maxLineBytes - len(l.line)
			if len(part) > room {
				part, cut = part[:room], true
			}
			l.line = append(l.line, part...)
		}
		switch {
		case end, errors.Is(err, io.EOF) && started:
			return trimCR(l.line), cut, nil
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			return nil, false, err
		}
	}
}

// trimCR leaves out the CR that a terminal writes before LF.
func trimCR(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\r' {
		return b[:n-1]
	}
	return b
}

func countLines(r io.Reader) (int, error) {
	lines := newLineReader(r)
	for n := 0; ; n++ {
		_, _, err := lines.next(false)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
