package terminal

import "strings"

// Screen is what was on a terminal at one moment.
type Screen struct {
	Cols, Rows int
	// CursorCol and CursorRow are 0-based.
	CursorCol, CursorRow int
	CursorVisible        bool
	// Title is what the program has set as the window's title.
	Title string

	lines    [][]cell
	reversed bool
	marks    marks
}

// Text is the screen as lines, without trailing blanks and empty lines at the
// end.
func (s Screen) Text() string {
	var b strings.Builder
	pendingLines := 0
	for _, row := range s.lines {
		line := s.lineText(row)
		if line == "" {
			pendingLines++
			continue
		}
		for range pendingLines {
			b.WriteByte('\n')
		}
		pendingLines = 1
		b.WriteString(line)
	}
	return b.String()
}

func (s Screen) lineText(row []cell) string {
	var b strings.Builder
	for _, c := range row {
		switch {
		case c.r == wideTail:
			continue
		case c.r == 0 || c.style.attr&conceal != 0:
			b.WriteByte(' ')
		default:
			b.WriteRune(c.r)
		}
		b.WriteString(s.marks.get(c.marks))
	}
	return strings.TrimRight(b.String(), " ")
}
