package tools

import (
	"fmt"
	"regexp"
	"sync"

	"mcp-sandbox/session"
)

// screenSwitch matches what shows or leaves the alternate screen: xterm's private
// modes 47, 1047 and 1049, alone or among others, and the reset of everything.
var screenSwitch = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\x1b\[\?(?:[0-9]+;)*(?:47|1047|1049)(?:;[0-9]+)*([hl])|\x1bc`)
})

// withoutPainting leaves out what a full-screen program drew on the alternate
// screen: a person does not see it either once the program has left. before says
// that head begins there. Between head and tail bytes are missing, so the tail
// tells by its first switch where it began, or by now, where it ended.
func withoutPainting(head, tail string, before, now bool) (h, t string, painted bool) {
	h, p := strip(head, before)
	if tail == "" {
		return h, "", p
	}
	began := now
	if m := screenSwitch().FindStringSubmatch(tail); m != nil {
		began = m[1] != "h"
	}
	t, q := strip(tail, began)
	return h, t, p || q
}

func strip(s string, inside bool) (kept string, painted bool) {
	at := 0
	for _, m := range screenSwitch().FindAllStringSubmatchIndex(s, -1) {
		if !inside {
			kept += s[at:m[0]]
		} else if m[0] > at {
			painted = true
		}
		inside, at = m[2] >= 0 && s[m[2]] == 'h', m[1]
	}
	if inside {
		return kept, painted || at < len(s)
	}
	return kept + s[at:], painted
}

func fullScreenNote(s *session.Screen, id string) string {
	return fmt.Sprintf("full-screen program: this is its screen (%dx%d, cursor at column %d, row %d); as written: read_output output_id=%s raw=true",
		s.Cols, s.Rows, s.CursorCol+1, s.CursorRow+1, id)
}
