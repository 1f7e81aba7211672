package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// operator is where the commands for the operator print. Files, names and labels
// of a workspace are the model's to choose, and a terminal takes orders from what
// it shows: to set its title, to fill the clipboard, to hide or reorder lines
// (CVE-2003-0063 and its like). So what is not text is escaped where a terminal
// reads, and left as it is for a file or a pipe; a review escapes it everywhere.
func operator(f *os.File) io.Writer {
	if isTerminal(f) {
		return &escaper{f}
	}
	return f
}

// escaper writes text with everything a terminal could take for an order shown
// as \x1b or \u202e. Each Write holds whole characters.
type escaper struct{ w io.Writer }

func (e *escaper) Write(p []byte) (int, error) {
	var b strings.Builder
	for rest := p; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, rest[0])
		case r == '\n' || r == '\t' || !orders(r):
			b.Write(rest[:n])
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		rest = rest[n:]
	}
	if _, err := io.WriteString(e.w, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// orders says whether r does anything but show itself: control characters of
// both sets, formatting such as the bidirectional overrides and tags, and the
// separators that some terminals take for line ends. The joiners that make up
// letters and emoji only join.
func orders(r rune) bool {
	switch r {
	case '\u200c', '\u200d':
		return false
	case '\u2028', '\u2029':
		return true
	}
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r)
}
