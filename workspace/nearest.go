package workspace

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// nearest shows the lines of text that look most like want, for a model that
// has quoted a file from memory. It is empty when nothing looks alike.
func nearest(text, want string) string {
	lines := splitLines(text)
	wanted := splitLines(want)
	for len(wanted) > 1 && strings.TrimSpace(wanted[0]) == "" {
		wanted = wanted[1:]
	}
	const mostLines, mostWanted = 200_000, 60
	lines = lines[:min(len(lines), mostLines)]
	whole := len(wanted)
	wanted = wanted[:min(len(wanted), mostWanted)]

	at, equal := mostEqual(lines, wanted)
	why := ""
	if similar, differ := lookAlike(lines, wanted); similar >= 0 && whole == len(wanted) {
		at, equal, why = similar, 0, "characters that look alike differ: "+strings.Join(differ, "; ")
	}
	switch {
	case why != "":
	case at >= 0 && equal == whole:
		why = "only the blanks or line ends differ"
	case at < 0:
		if at = mostAlike(lines, wanted[0]); at < 0 {
			return ""
		}
	}
	from, to := max(0, at-1), min(len(lines), at+min(whole, 20)+1)
	var b strings.Builder
	fmt.Fprintf(&b, "; the nearest lines are %d-%d", from+1, to)
	if why != "" {
		b.WriteString(" (" + why + ")")
	}
	b.WriteString(":\n")
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%d\t%s\n", i+1, shorten(strings.TrimRight(lines[i], "\r"), 300))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func splitLines(s string) []string {
	s = strings.TrimSuffix(s, "\n")
	return strings.Split(s, "\n")
}

func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "..."
}

// mostEqual finds the window of lines that has most lines of wanted in their
// places, blanks aside; -1 when none has any but blank ones.
func mostEqual(lines, wanted []string) (at, equal int) {
	places := map[string][]int{}
	for j, w := range wanted {
		if w = strings.TrimSpace(w); w != "" {
			places[w] = append(places[w], j)
		}
	}
	score := map[int]int{}
	at = -1
	for i, l := range lines {
		for _, j := range places[strings.TrimSpace(l)] {
			start := i - j
			if start < 0 {
				continue
			}
			score[start]++
			if s := score[start]; s > equal || s == equal && start < at {
				at, equal = start, s
			}
		}
	}
	if at < 0 {
		return -1, 0
	}
	for j, w := range wanted {
		if strings.TrimSpace(w) == "" && at+j < len(lines) && strings.TrimSpace(lines[at+j]) == "" {
			equal++
		}
	}
	return at, equal
}

// mostAlike finds the line that shares most pairs of bytes with want (Dice's
// coefficient), if that is at least half of them.
func mostAlike(lines []string, want string) int {
	want = shorten(strings.TrimSpace(want), 400)
	if len(want) < 4 {
		return -1
	}
	var count [65536]int16
	for i := 0; i+1 < len(want); i++ {
		count[int(want[i])<<8|int(want[i+1])]++
	}
	best, at := 0.5, -1
	for n, l := range lines {
		l = strings.TrimSpace(l)
		if len(l) > 2*len(want)+20 || 2*len(l)+20 < len(want) {
			continue
		}
		shared := 0
		for i := 0; i+1 < len(l); i++ {
			k := int(l[i])<<8 | int(l[i+1])
			if count[k] > 0 {
				shared++
			}
			count[k]--
		}
		for i := 0; i+1 < len(l); i++ {
			count[int(l[i])<<8|int(l[i+1])]++
		}
		if s := 2 * float64(shared) / float64(len(l)+len(want)-2); s > best {
			best, at = s, n
		}
	}
	return at
}
