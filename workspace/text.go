package workspace

import (
	"bytes"
	"context"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxEditBytes is the largest file that edits and patches take: they hold the
// old and the new text in memory.
const maxEditBytes = 32 << 20

// document is a text file in memory, with what is needed to write it back the
// way it was.
type document struct {
	st   unix.Stat_t
	enc  Encoding
	bom  bool
	text string // decoded, without the byte order mark
}

// loadDocument reads the text file at p.
func loadDocument(ctx context.Context, p *resolved) (*document, error) {
	raw, d, err := loadRaw(ctx, p)
	if err != nil {
		return nil, err
	}
	return d, d.parse(raw, p.given)
}

// loadRaw reads the file at p as it is, text or not.
func loadRaw(ctx context.Context, p *resolved) ([]byte, *document, error) {
	file, err := openRegular(p)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	d := &document{enc: UTF8} // which passes bytes through
	raw, err := d.read(ctx, file, p.given)
	d.text = string(raw)
	return raw, d, err
}

func (d *document) read(ctx context.Context, file *os.File, given string) ([]byte, error) {
	if err := unix.Fstat(int(file.Fd()), &d.st); err != nil {
		return nil, err
	}
	if d.st.Size > maxEditBytes {
		return nil, fail(codeTooLarge, "%s is %d bytes long and edits take at most %d; use a command such as sed", quote(given), d.st.Size, maxEditBytes)
	}
	var b bytes.Buffer
	b.Grow(int(d.st.Size) + 1)
	if n, err := copyContext(ctx, &b, file, maxEditBytes+1); err != nil {
		return nil, unwrapPath(err)
	} else if n > maxEditBytes {
		return nil, fail(codeTooLarge, "%s grew past the %d bytes edits take while it was read; use a command such as sed", quote(given), maxEditBytes)
	}
	return b.Bytes(), nil
}

// parse decodes raw into d.
func (d *document) parse(raw []byte, given string) error {
	if kind, mime := sniff(raw, true); kind != ContentText {
		return fail(codeUnsupported, "%s is not text (%s); use a command to change it", quote(given), mime)
	}
	d.enc, d.bom = detect(raw, true)
	raw = raw[d.enc.bomLen(d.bom):]
	d.text = decode(raw, d.enc)
	if back, ok := encode(d.text, d.enc); !ok || string(back) != string(raw) {
		return fail(codeUnsupported, "%s is damaged %s text that could not be written back unchanged; use a command to change it", quote(given), d.enc)
	}
	return nil
}

// bytes is text in the encoding of d.
func (d *document) bytes(text, given string) ([]byte, error) {
	b, ok := encode(text, d.enc)
	if !ok {
		return nil, fail(codeInvalid, "the new text has characters that the %s encoding of %s cannot hold; convert the file to UTF-8 first", d.enc, quote(given))
	}
	if d.bom {
		b = append(append([]byte(nil), d.enc.bom()...), b...)
	}
	return b, nil
}

// original is the file's content as it was read.
func (d *document) original() ([]byte, error) { return d.bytes(d.text, "") }

// crlf reports whether most lines of text end with CRLF.
func crlf(text string) bool {
	n := strings.Count(text, "\r\n")
	return n > 0 && n*2 > strings.Count(text, "\n")
}

func toCRLF(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

// unchanged reports whether the file named in dir is still the one st describes.
func unchanged(dir int, name string, st *unix.Stat_t) bool {
	now, err := statAt(dir, name)
	if err != nil {
		return false
	}
	return idOf(now) == idOf(st) && sameContent(now, st)
}

// sameContent goes by size and modification time.
func sameContent(now, then *unix.Stat_t) bool {
	_, a := statTimes(now)
	_, b := statTimes(then)
	return now.Size == then.Size && a == b
}
