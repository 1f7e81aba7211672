package workspace

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// Encoding is how the text of a file is stored.
type Encoding string

// Encodings that are detected and kept by edits. Windows1252 is ISO 8859-1 with
// letters and marks in place of most of its control characters. It maps every byte to
// a character, so it stands for any one-byte encoding that is not UTF-8: it is shown
// readably and written back unchanged.
const (
	UTF8    Encoding = "utf-8"
	UTF16LE Encoding = "utf-16le"
	UTF16BE Encoding = "utf-16be"
	// Windows1252 as in the WHATWG encoding standard, section 9.
	Windows1252 Encoding = "windows-1252"
)

// windows1252 are the characters of the bytes 0x80 to 0x9f.
var windows1252 = [32]rune{
	'€', 0x81, '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', 0x8d, 'Ž', 0x8f,
	0x90, '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', 0x9d, 'ž', 'Ÿ',
}

func (e Encoding) unit() int {
	if e == UTF16LE || e == UTF16BE {
		return 2
	}
	return 1
}

func (e Encoding) newline() []byte {
	switch e {
	case UTF16LE:
		return []byte{'\n', 0}
	case UTF16BE:
		return []byte{0, '\n'}
	}
	return []byte{'\n'}
}

func (e Encoding) bom() []byte {
	switch e {
	case UTF16LE:
		return []byte{0xff, 0xfe}
	case UTF16BE:
		return []byte{0xfe, 0xff}
	case UTF8:
		return []byte{0xef, 0xbb, 0xbf}
	}
	return nil
}

func (e Encoding) bomLen(present bool) int {
	if !present {
		return 0
	}
	return len(e.bom())
}

// detect tells the encoding of text from its head; whole says that head is all
// there is. Bytes that are not text at all are sniff's business.
func detect(head []byte, whole bool) (e Encoding, bom bool) {
	if e, bom := bomOf(head); bom {
		return e, true
	}
	if e := utf16WithoutBOM(head); e != "" {
		return e, false
	}
	text := head
	if !whole {
		text = trimPartialRune(head)
	}
	if utf8.Valid(text) {
		return UTF8, false
	}
	// A few stray bytes in otherwise multi-byte text are damage, not another
	// encoding: reading all of it as one-byte text would spoil every character.
	good, bad := 0, 0
	for b := text; len(b) > 0; {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			bad++
		case n > 1:
			good++
		}
		b = b[n:]
	}
	if good > bad {
		return UTF8, false
	}
	return Windows1252, false
}

// isUTF32 says whether head begins with the byte order mark of UTF-32, the half of
// which is one of UTF-16.
func isUTF32(head []byte) bool {
	return bytes.HasPrefix(head, []byte{0xff, 0xfe, 0, 0}) || bytes.HasPrefix(head, []byte{0, 0, 0xfe, 0xff})
}

// bomOf is the encoding a byte order mark at the start of head stands for. UTF-32 is
// not read.
func bomOf(head []byte) (Encoding, bool) {
	if isUTF32(head) {
		return "", false
	}
	for _, e := range [...]Encoding{UTF8, UTF16LE, UTF16BE} {
		if bytes.HasPrefix(head, e.bom()) {
			return e, true
		}
	}
	return "", false
}

// utf16WithoutBOM guesses UTF-16 from NUL bytes that stand on one side of the
// pairs only, as they do in mostly Latin text.
func utf16WithoutBOM(head []byte) Encoding {
	head = head[:min(len(head)&^1, 1024)]
	if len(head) < 4 {
		return ""
	}
	var even, odd int
	for i, c := range head {
		if c != 0 {
			continue
		}
		if i%2 == 0 {
			even++
		} else {
			odd++
		}
	}
	pairs := len(head) / 2
	switch {
	case even == 0 && odd*10 >= pairs*7:
		return UTF16LE
	case odd == 0 && even*10 >= pairs*7:
		return UTF16BE
	}
	return ""
}

// decode turns the bytes of a text into UTF-8. Invalid UTF-8 passes through.
func decode(b []byte, e Encoding) string {
	switch e {
	case UTF16LE, UTF16BE:
		units := make([]uint16, len(b)/2)
		for i := range units {
			if e == UTF16LE {
				units[i] = binary.LittleEndian.Uint16(b[2*i:])
			} else {
				units[i] = binary.BigEndian.Uint16(b[2*i:])
			}
		}
		return string(utf16.Decode(units))
	case Windows1252:
		out := make([]byte, 0, len(b)+len(b)/8)
		for _, c := range b {
			r := rune(c)
			if c >= 0x80 && c < 0xa0 {
				r = windows1252[c-0x80]
			}
			out = utf8.AppendRune(out, r)
		}
		return string(out)
	}
	return string(b)
}

// encode is the inverse of decode; ok is false when s holds a character the
// encoding has no bytes for.
func encode(s string, e Encoding) (b []byte, ok bool) {
	switch e {
	case UTF16LE, UTF16BE:
		units := utf16.Encode([]rune(s))
		b = make([]byte, 2*len(units))
		for i, u := range units {
			if e == UTF16LE {
				binary.LittleEndian.PutUint16(b[2*i:], u)
			} else {
				binary.BigEndian.PutUint16(b[2*i:], u)
			}
		}
		return b, true
	case Windows1252:
		b = make([]byte, 0, len(s))
		for _, r := range s {
			if r >= 0x80 && (r < 0xa0 || r > 0xff) {
				i := slices.Index(windows1252[:], r)
				if i < 0 {
					return nil, false
				}
				r = rune(0x80 + i)
			}
			b = append(b, byte(r))
		}
		return b, true
	}
	return []byte(s), true
}
