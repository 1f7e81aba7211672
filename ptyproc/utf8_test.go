package ptyproc

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"
)

func TestJoiner(t *testing.T) {
	for _, c := range []struct {
		name  string
		parts []string
		want  []string // one for each part, the last with last set
	}{
		{"plain", []string{"abc", "def"}, []string{"abc", "def"}},
		{"split in two", []string{"a\xc3", "\xa9b"}, []string{"a", "éb"}},
		{"byte by byte", []string{"\xf0", "\x9f", "\x98", "\x80"}, []string{"", "", "", "😀"}},
		{"never completed", []string{"a\xe2\x82", "b"}, []string{"a", "\uFFFDb"}},
		{"never completed at the end", []string{"a", "\xe2\x82"}, []string{"a", "\uFFFD"}},
		{"invalid is not held back", []string{"a\xff", "b"}, []string{"a\uFFFD", "b"}},
		{"overlong is not held back", []string{"\xc0", "\x80"}, []string{"\uFFFD", "\uFFFD"}},
		{"surrogate", []string{"\xed", "\xa0\x80"}, []string{"", "\uFFFD\uFFFD\uFFFD"}},
		{"beyond Unicode", []string{"\xf4\x90\x80\x80"}, []string{"\uFFFD\uFFFD\uFFFD\uFFFD"}},
		{"maximal subpart", []string{"\xf0\x9f\x98z"}, []string{"\uFFFDz"}},
		{"lone continuation", []string{"\x80", "\x80"}, []string{"\uFFFD", "\uFFFD"}},
		{"NUL", []string{"\x00", "\x00"}, []string{"\x00", "\x00"}},
		{"replacement character itself", []string{"\uFFFD"}, []string{"\uFFFD"}},
	} {
		var j joiner
		for i, part := range c.parts {
			got := string(j.next(nil, []byte(part), i == len(c.parts)-1))
			if got != c.want[i] {
				t.Errorf("%s, part %d: %q, want %q", c.name, i, got, c.want[i])
			}
		}
		if len(j.pending) != 0 {
			t.Errorf("%s: %q held back for good", c.name, j.pending)
		}
	}
}

// FuzzJoiner: however the bytes are split, the text is the one that golang.org/x/text
// decodes, each part is valid by itself, and at most three bytes are held back.
func FuzzJoiner(f *testing.F) {
	for _, s := range []string{"plain", "é😀漢", "\xf0\x9f\x98", "a\xe2\x82b\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xff"} {
		f.Add([]byte(s), uint8(1), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, a, b uint8) {
		want, err := unicode.UTF8.NewDecoder().Bytes(data)
		if err != nil {
			t.Fatal(err)
		}
		var j joiner
		var got []byte
		sizes, rest := [2]int{int(a)%5 + 1, int(b)%5 + 1}, data
		for i := 0; len(rest) > 0; i++ {
			n := min(len(rest), sizes[i%2])
			part := j.next(nil, rest[:n], n == len(rest))
			if !utf8.Valid(part) || len(j.pending) > 3 {
				t.Fatalf("%q, %q held back", part, j.pending)
			}
			got = append(got, part...)
			rest = rest[n:]
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%q became %q, want %q", data, got, want)
		}
	})
}

func TestLastLine(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"\n\n", ""},
		{"one\ntwo\n\n", "two"},
		{"10%\r20%\r", "20%"},
		{"a\x1b[1;31mred\x1b[0m\x1b]2;title\x07 b\x1b(B", "ared bB"},
		{"x\x00\x08y\u0085\x7f", "xy"},
		{"a\x1b[12", "a"},
		{"\xff\xfe", "\uFFFD\uFFFD"},
		{strings.Repeat("é", 500), strings.Repeat("é", 200)},
	} {
		if got := lastLine([]byte(c.in)); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}
