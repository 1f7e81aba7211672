package sandbox

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Steers says whether r does anything but show itself: control characters of
// both sets, formatting such as the bidirectional overrides and tags, and the
// separators that some terminals take for line ends. The joiners that make up
// letters and emoji only join.
func Steers(r rune) bool {
	switch r {
	case '\u200c', '\u200d':
		return false
	case '\u2028', '\u2029':
		return true
	}
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r)
}

// OneLine shows a name or a message that others chose on one line: what steers a
// terminal or ends the line, and what is not UTF-8, is spelled out.
func OneLine(s string) string { return Spelled(s, "") }

// Spelled is OneLine with some characters left as they are.
func Spelled(s, kept string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return Steers(r) && !strings.ContainsRune(kept, r) }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !Steers(r) || strings.ContainsRune(kept, r):
			b.WriteString(s[:n])
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[n:]
	}
	return b.String()
}
