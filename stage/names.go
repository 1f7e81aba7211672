package stage

import (
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// EncodePath gives a path as text, for JSON: names are any bytes, and JSON would make
// one of two names that are not UTF-8. Each byte that is none becomes NUL, which no path
// has, and two digits, so a path still begins with the directory it lies in.
func EncodePath(p string) string {
	if utf8.ValidString(p) {
		return p
	}
	var b strings.Builder
	for len(p) > 0 {
		r, n := utf8.DecodeRuneInString(p)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, "\x00%02x", p[0])
		} else {
			b.WriteString(p[:n])
		}
		p = p[n:]
	}
	return b.String()
}

// DecodePath takes back EncodePath.
func DecodePath(text string) string {
	first, rest, found := strings.Cut(text, "\x00")
	if !found {
		return text
	}
	b := []byte(first)
	for part := range strings.SplitSeq(rest, "\x00") {
		digits := part[:min(2, len(part))]
		c, err := hex.DecodeString(digits)
		if err != nil || len(c) != 1 {
			return text // none that EncodePath has made, and no path either
		}
		b = append(append(b, c...), part[2:]...)
	}
	return string(b)
}

// Encoded is the result with its paths as EncodePath gives them.
func (r Result) Encoded() Result { return r.with(EncodePath) }

// Decoded takes back Encoded.
func (r Result) Decoded() Result { return r.with(DecodePath) }

func (r Result) with(f func(string) string) Result {
	out := Result{Done: make([]string, len(r.Done))}
	for i, p := range r.Done {
		out.Done[i] = f(p)
	}
	for _, l := range r.Left {
		out.Left = append(out.Left, Left{f(l.Path), l.Why})
	}
	return out
}
