package stage

import (
	"strings"

	"github.com/aymanbagabas/go-udiff"
)

// Hunk is one place in which the session's text of a file differs from the project's.
type Hunk struct {
	// Line is where it is in the project's text, 1 for the first.
	Line  int
	Lines []HunkLine
}

// HunkLine is one line of a Hunk, with its line end; Op is ' ', '-' or '+'.
type HunkLine struct {
	Op   byte
	Text string
}

// contextLines are shown before and after what differs.
const contextLines = 3

// Hunks are the differences of two texts.
func Hunks(old, now string) []Hunk {
	d, err := udiff.ToUnifiedDiff("", "", old, udiff.Lines(old, now), contextLines)
	if err != nil {
		return nil
	}
	out := make([]Hunk, len(d.Hunks))
	for i, h := range d.Hunks {
		out[i].Line = h.FromLine
		for _, l := range h.Lines {
			op := byte(' ')
			switch l.Kind {
			case udiff.Delete:
				op = '-'
			case udiff.Insert:
				op = '+'
			}
			out[i].Lines = append(out[i].Lines, HunkLine{op, l.Content})
		}
	}
	return out
}

// Patch gives the project's text with the chosen of its hunks applied. With the
// others it is the session's text without the chosen.
func Patch(old string, hunks []Hunk, chosen func(i int) bool) string {
	lines := strings.SplitAfter(old, "\n")
	var b strings.Builder
	at := 0
	for i, h := range hunks {
		for ; at < h.Line-1 && at < len(lines); at++ {
			b.WriteString(lines[at])
		}
		for _, l := range h.Lines {
			if l.Op != '+' && at < len(lines) {
				at++
			}
			if l.Op == ' ' || (l.Op == '+') == chosen(i) && l.Op != ' ' {
				b.WriteString(l.Text)
			}
		}
	}
	for ; at < len(lines); at++ {
		b.WriteString(lines[at])
	}
	return b.String()
}

// Merge joins what two sides made of one text; ok is false where both changed the same
// place.
func Merge(base, one, other string) (text string, ok bool) {
	edits, ok := udiff.Merge(udiff.Lines(base, one), udiff.Lines(base, other))
	if !ok {
		return "", false
	}
	text, err := udiff.Apply(base, edits)
	return text, err == nil
}

// Unified is a unified diff of two texts.
func Unified(oldName, newName, old, now string) string {
	return udiff.Unified(oldName, newName, old, now)
}
