package snapshot

import (
	"strings"
	"unicode/utf8"
)

// printable shows a path: valid UTF-8 stays, other bytes become \xNN.
func printable(p string) string {
	if utf8.ValidString(p) {
		return p
	}
	const hexDigits = "0123456789abcdef"
	var b strings.Builder
	for len(p) > 0 {
		r, n := utf8.DecodeRuneInString(p)
		if r == utf8.RuneError && n == 1 {
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[p[0]>>4])
			b.WriteByte(hexDigits[p[0]&15])
		} else {
			b.WriteString(p[:n])
		}
		p = p[n:]
	}
	return b.String()
}
