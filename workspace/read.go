package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Limits of ReadFile. Memory for one call stays within a few times
// MaxBytes whatever the size of the file.
const (
	defaultReadBytes = 256 << 10
	maxReadBytes     = 8 << 20
	// countLimit is how much of a file is read only to learn its number of
	// lines.
	countLimit = 256 << 20
)

// ReadRequest is the input of ReadFile.
type ReadRequest struct {
	Path string
	// Offset is the first line, 1-based; negative counts from the end (-1 is
	// the last line); 0 is 1.
	Offset int
	// Limit is the number of lines; 0 is as many as fit MaxBytes.
	Limit int
	// MaxBytes bounds Text; 0 is defaultReadBytes, at most maxReadBytes.
	MaxBytes int
}

// ContentKind is what kind of content ReadFile found.
type ContentKind string

// Kinds of content.
const (
	ContentText   ContentKind = "text"
	ContentImage  ContentKind = "image"
	ContentPDF    ContentKind = "pdf"
	ContentBinary ContentKind = "binary"
)

// ReadResult is what ReadFile found. Only text has Text and lines, only an
// image that can be shown has Image; other content is described in Note.
type ReadResult struct {
	Path string // where the file is, links followed
	Kind ContentKind
	MIME string
	Size int64 // bytes on disk
	// Version is for IfUnchanged of WriteRequest and EditRequest.
	Version string

	Text string // UTF-8; lines end with "\n" where the file has CRLF throughout
	// StartLine and EndLine are 1-based and inclusive; both are 0 for an empty
	// range. After a negative offset into a very large file the number of
	// lines is unknown and they count from the end (-1 is the last line).
	StartLine, EndLine int
	TotalLines         int // -1 when the file is too large to count
	Encoding           Encoding
	BOM                bool
	CRLF               bool // every line end shown was CRLF
	Truncated          bool // lines after EndLine were left out, or the last line was cut

	Image         []byte // encoded as MIME
	Width, Height int    // of the original image
	Note          string
}

// ReadFile reads lines of a text file, or an image made small enough for a
// model, and describes everything else instead of dumping it.
func (f *FS) ReadFile(ctx context.Context, req ReadRequest) (ReadResult, error) {
	switch {
	case req.Limit < 0:
		return ReadResult{}, fail(codeInvalid, "limit is %d; give a number of lines above 0", req.Limit)
	case req.MaxBytes < 0:
		return ReadResult{}, fail(codeInvalid, "the byte limit is %d; give a number above 0", req.MaxBytes)
	case req.MaxBytes == 0:
		req.MaxBytes = defaultReadBytes
	}
	req.MaxBytes = min(req.MaxBytes, maxReadBytes)
	var res ReadResult
	err := f.at(req.Path, walkOptions{follow: true}, func(p *resolved) error {
		file, err := openRegular(p)
		if err != nil {
			return err
		}
		defer file.Close()
		res, err = f.readOpen(ctx, file, req)
		res.Path = p.display()
		return err
	})
	return res, err
}

// OpenFile opens a regular file for reading, for callers that need its bytes.
// The caller closes it.
func (f *FS) OpenFile(path string) (*os.File, error) {
	var file *os.File
	err := f.at(path, walkOptions{follow: true}, func(p *resolved) error {
		var err error
		file, err = openRegular(p)
		return err
	})
	return file, err
}

func (f *FS) readOpen(ctx context.Context, file *os.File, req ReadRequest) (ReadResult, error) {
	st, err := file.Stat()
	if err != nil {
		return ReadResult{}, unwrapPath(err)
	}
	res := ReadResult{Size: st.Size(), TotalLines: -1}
	// Ahead of the content: when that changes in between, the version is the older
	// of the two, and a write that depends on it is refused.
	if res.Version, err = versionOf(ctx, file); err != nil {
		return res, err
	}
	block := blocks.Get().(*[]byte)
	defer blocks.Put(block)
	head := *block
	n, err := readFull(file, head)
	if err != nil {
		return res, err
	}
	whole := int64(n) >= res.Size || n < len(head)
	head = head[:n]
	res.Kind, res.MIME = sniff(head, whole)
	switch res.Kind {
	case ContentImage:
		return f.readImage(ctx, file, res)
	case ContentPDF:
		res.Note = fmt.Sprintf("a PDF document of %d bytes; convert it with a command such as pdftotext to read it", res.Size)
		return res, nil
	case ContentBinary:
		res.Note = fmt.Sprintf("a binary file of %d bytes (%s); inspect it with a command such as xxd, strings or file", res.Size, res.MIME)
		if res.MIME == utf32MIME {
			res.Note = fmt.Sprintf("UTF-32 text of %d bytes; convert it with a command such as iconv -f UTF-32 -t UTF-8", res.Size)
		}
		return res, nil
	}
	res.Encoding, res.BOM = detect(head, whole)
	return readLines(ctx, file, req, res)
}

// blocks are buffers for reading files; calls come often and are short.
var blocks = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// readFull fills b from the start of the file as far as there are bytes. A
// pseudo file that has nothing to say now answers EAGAIN: that is its end.
func readFull(file *os.File, b []byte) (int, error) {
	n, err := io.ReadFull(file, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF || errors.Is(err, unix.EAGAIN) {
		err = nil
	}
	return n, unwrapPath(err)
}

// readLines cuts the asked range out of a text file in one pass, holding one
// block and the range.
func readLines(ctx context.Context, file *os.File, req ReadRequest, res ReadResult) (ReadResult, error) {
	start := int64(res.Encoding.bomLen(res.BOM))
	if req.Offset == 0 {
		req.Offset = 1
	}
	if req.Offset > 0 {
		return readRange(ctx, file, req, res, start, req.Offset, 0)
	}
	// Find the byte where the line starts, then read forward from there.
	pos, before, err := lineFromEnd(ctx, file, start, res.Size, -req.Offset, res.Encoding)
	if err != nil {
		return res, err
	}
	return readRange(ctx, file, req, res, pos, 1, before)
}

// readRange reads lines from the byte start. before is the number of lines ahead
// of it, -1 when unknown.
func readRange(ctx context.Context, file *os.File, req ReadRequest, res ReadResult, start int64, first, before int) (ReadResult, error) {
	c := newLineCutter(res.Encoding, first, req.Limit, req.MaxBytes)
	if req.Limit == 0 {
		c.out = make([]byte, 0, max(0, min(int64(req.MaxBytes), res.Size-start)))
	}
	pooled := blocks.Get().(*[]byte)
	defer blocks.Put(pooled)
	buf := *pooled
	pos := start
	for {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		n, err := file.ReadAt(buf, pos)
		pos += int64(n)
		if errors.Is(err, unix.EAGAIN) {
			err = io.EOF
		}
		if err != nil && err != io.EOF {
			return res, unwrapPath(err)
		}
		c.feed(buf[:n])
		if err == io.EOF {
			c.end()
			break
		}
		if c.full && pos-start > countLimit {
			break
		}
	}
	text := c.out
	if c.done {
		res.TotalLines = c.lines
	}
	got := c.gotLines()
	if got > 0 {
		res.StartLine, res.EndLine = first, first+got-1
	}
	res.Truncated = c.cut
	switch {
	case before > 0:
		if got > 0 {
			res.StartLine += before
			res.EndLine += before
		}
		if res.TotalLines >= 0 {
			res.TotalLines += before
		}
	case before < 0:
		// Only the distance to the end is known.
		if c.done && got > 0 {
			res.StartLine = -c.lines
			res.EndLine = res.StartLine + got - 1
		} else if got > 0 {
			res.StartLine = req.Offset
			res.EndLine = req.Offset + got - 1
		}
		res.TotalLines = -1
	}
	if got == 0 && res.TotalLines > 0 {
		res.Note = fmt.Sprintf("line %d is past the end: the file has %d lines", req.Offset, res.TotalLines)
	}
	res.Text, res.CRLF = plainLineEnds(decode(text, res.Encoding))
	if res.CRLF {
		res.addNote("lines end with CRLF; edits keep that")
	}
	if !utf8.ValidString(res.Text) {
		res.Text = strings.ToValidUTF8(res.Text, "\uFFFD")
		res.addNote("bytes that are not UTF-8 are shown as \uFFFD")
	}
	if res.Encoding != UTF8 {
		res.addNote("decoded from " + string(res.Encoding))
	}
	return res, nil
}

func (r *ReadResult) addNote(s string) {
	if r.Note != "" {
		r.Note += "; "
	}
	r.Note += s
}

// plainLineEnds turns CRLF into LF when every line end is CRLF. Mixed ends are
// left as they are, they may be what the reader is looking for.
func plainLineEnds(s string) (string, bool) {
	n := strings.Count(s, "\n")
	if n == 0 || strings.Count(s, "\r\n") != n {
		return s, false
	}
	return strings.ReplaceAll(s, "\r\n", "\n"), true
}
