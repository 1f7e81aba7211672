package terminal

import (
	"unicode"

	"golang.org/x/text/width"
)

// runeWidth is how many columns a character takes: 0 for marks and format
// characters, 2 for wide ones (UAX #11), else 1. Programs count by wcwidth(3),
// which does the same.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case r >= 0x1160 && r <= 0x11ff, // the second half of a Korean syllable
		unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

func (e *Emulator) lineDrawing() bool {
	if e.cur.shifted {
		return e.cur.g[1]
	}
	return e.cur.g[0]
}

// lineDrawing maps the DEC Special Graphics set, 0x5f to 0x7e.
func lineDrawing(r rune) rune {
	if r < 0x5f || r > 0x7e {
		return r
	}
	return [...]rune{
		' ', '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼',
		'⎺', '⎻', '─', '⎼', '⎽', '├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
	}[r-0x5f]
}
