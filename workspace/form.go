package workspace

import (
	"context"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// formHead is how much of a file tells its encoding and line ends.
const formHead = 64 << 10

// form is how a text file is written: what a person would see changed in a diff
// tool though every letter is the same.
type form struct {
	enc  Encoding
	bom  bool
	crlf bool
}

func (f form) String() string {
	s := string(f.enc)
	if f.bom {
		s += " with a byte order mark"
	}
	if f.crlf {
		s += ", CRLF line ends"
	}
	return s
}

// formOf looks at the beginning of the text file at p; ok is false for what is
// empty or no text.
func formOf(ctx context.Context, p *resolved) (_ form, ok bool, err error) {
	file, err := openRegular(p)
	if err != nil {
		return form{}, false, err
	}
	defer file.Close()
	head := make([]byte, formHead)
	n, err := io.ReadFull(file, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return form{}, false, unwrapPath(err)
	}
	whole := n < len(head)
	if head = head[:n]; n == 0 {
		return form{}, false, ctx.Err()
	}
	switch kind, mime := sniff(head, whole); {
	case mime == utf32MIME:
		return form{enc: "utf-32", bom: true}, true, ctx.Err()
	case kind != ContentText:
		return form{}, false, ctx.Err()
	}
	var got form
	got.enc, got.bom = detect(head, whole)
	got.crlf = crlf(decode(head[got.enc.bomLen(got.bom):], got.enc))
	return got, true, ctx.Err()
}

// keepForm puts text that is appended into the form of the file, and says how
// the form changes with text that replaces it.
func (f *FS) keepForm(ctx context.Context, p *resolved, st *unix.Stat_t, req *WriteRequest, res *WriteResult) error {
	if req.Binary || st.Size == 0 || !utf8.Valid(req.Content) {
		return nil
	}
	was, ok, err := formOf(ctx, p)
	if err != nil || !ok {
		if err == unix.EACCES {
			return nil // it cannot be read: written as it comes
		}
		return err
	}
	text := string(req.Content)
	if req.Mode == WriteAppend && was.enc == "utf-32" {
		return fail(codeUnsupported, "%s is UTF-32 text, which other text cannot be appended to; convert the file first, with a command such as iconv -f UTF-32 -t UTF-8", quote(req.Path))
	}
	if req.Mode == WriteAppend {
		if was.crlf && !strings.Contains(text, "\r") {
			text = toCRLF(text)
		}
		d := document{enc: was.enc}
		b, err := d.bytes(text, req.Path)
		if err != nil {
			return err
		}
		if string(b) != string(req.Content) {
			res.note("in the form of the file: " + was.String())
		}
		req.Content = b
		return nil
	}
	now := form{enc: UTF8, crlf: crlf(text)}
	if k, bom := detect(req.Content, true); len(req.Content) > 0 {
		now.enc, now.bom = k, bom
	}
	if was != now && len(req.Content) > 0 {
		res.note("the file was " + was.String() + " and is now " + now.String())
	}
	return nil
}
