package workspace

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// hunk is one place of a file to change, from either patch grammar.
type hunk struct {
	headers []string // lines to find in turn, before the hunk itself
	lines   []hunkLine
	eof     bool // the hunk ends at the end of the file
	hint    int  // line where it should be, 0-based; -1 when unknown
	// exact says that the grammar tells whether the last new line has a line
	// end, and noNewline that it has none.
	exact, noNewline bool
}

// hunkLine is a line of a hunk; op is ' ', '-' or '+'.
type hunkLine struct {
	op   byte
	text string
}

func (h *hunk) old() []string {
	var out []string
	for _, l := range h.lines {
		if l.op != '+' {
			out = append(out, l.text)
		}
	}
	return out
}

// fileLine is a line of a file with its own line end, "" for a last line
// without one.
type fileLine struct{ text, end string }

func cutLines(s string) []fileLine {
	var out []fileLine
	for s != "" {
		i := strings.IndexByte(s, '\n')
		switch {
		case i < 0:
			out = append(out, fileLine{s, ""})
			s = ""
		case i > 0 && s[i-1] == '\r':
			out = append(out, fileLine{s[:i-1], "\r\n"})
			s = s[i+1:]
		default:
			out = append(out, fileLine{s[:i], "\n"})
			s = s[i+1:]
		}
	}
	return out
}

// sameLine are the ways lines match, strict to lenient: models lose blanks at
// the ends of lines first, then indentation.
var sameLine = [...]func(a, b string) bool{
	func(a, b string) bool { return a == b },
	func(a, b string) bool { return strings.TrimRight(a, " \t\r") == strings.TrimRight(b, " \t\r") },
	func(a, b string) bool { return strings.TrimSpace(a) == strings.TrimSpace(b) },
}

// patched is a text after its hunks, with what they changed. places are the lines
// of the new text that each hunk wrote, or the line before which it removed some.
type patched struct {
	text           string
	added, removed int
	places         []LineRange
}

// applyHunks changes text by hunks in order. Context keeps the file's own
// bytes; new lines get the line end most lines of the file have.
func applyHunks(text, given string, hunks []hunk) (patched, error) {
	var done patched
	lines := cutLines(text)
	end := "\n"
	if crlf(text) {
		end = "\r\n"
	}
	finalNewline := text == "" || strings.HasSuffix(text, "\n")
	var res []fileLine
	cursor, shift := 0, 0
	for n, h := range hunks {
		at, ok := h.find(lines, cursor, shift)
		if !ok {
			return patched{}, h.mismatch(text, given, n, len(hunks), lines, cursor)
		}
		if fits := h.fits(lines, cursor, shift); len(fits) > sameAhead(hunks[n:]) {
			return patched{}, fail(codePatchFailed, "hunk %d of %d for %s fits in %s (lines %s); add lines around it, or an @@ line that only one of them follows", n+1, len(hunks), quote(given), howMany(len(fits)), numbers(fits))
		}
		if h.hint >= 0 {
			shift = at - h.hint
		}
		res = append(res, lines[cursor:at]...)
		cursor = at
		var place LineRange
		for _, l := range h.lines {
			switch l.op {
			case ' ':
				res = append(res, lines[cursor])
				cursor++
			case '-':
				cursor++
				done.removed++
				place.add(len(res)+1, len(res))
			case '+':
				res = append(res, fileLine{l.text, end})
				done.added++
				place.add(len(res), len(res))
			}
		}
		if place.First > 0 {
			done.places = append(done.places, place)
		}
		if n := len(h.lines); cursor == len(lines) && n > 0 && h.lines[n-1].op == '+' {
			// The patch's own line ends the file now. Where the grammar cannot
			// say whether it has a line end, the file's habit is kept.
			if h.exact && h.noNewline || !h.exact && !finalNewline {
				res[len(res)-1].end = ""
			}
		}
	}
	res = append(res, lines[cursor:]...)
	var b strings.Builder
	b.Grow(len(text) + len(text)/8)
	for i, l := range res {
		if i < len(res)-1 && l.end == "" {
			l.end = end
		}
		b.WriteString(l.text)
		b.WriteString(l.end)
	}
	done.text = b.String()
	return done, nil
}

// LineRange is lines of a file, 1-based and inclusive. Last is First-1 where
// lines were removed before First and none written.
type LineRange struct{ First, Last int }

func (r *LineRange) add(first, last int) {
	if r.First == 0 {
		*r = LineRange{first, last}
	}
	r.Last = max(r.Last, last)
}

func (r LineRange) String() string {
	if r.Last <= r.First {
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// sameAhead is how many hunks from the first on look for the same lines, as where
// each of several equal places is changed.
func sameAhead(hunks []hunk) int {
	n := 1
	for n < len(hunks) && slices.Equal(hunks[0].old(), hunks[n].old()) && slices.Equal(hunks[0].headers, hunks[n].headers) && hunks[n].hint < 0 {
		n++
	}
	return n
}

func howMany(n int) string {
	if n == 2 {
		return "two places"
	}
	return fmt.Sprintf("%d places", n)
}

func numbers(at []int) string {
	const most = 10
	var out []string
	for i, n := range at {
		if i == most {
			out = append(out, "...")
			break
		}
		out = append(out, strconv.Itoa(n+1))
	}
	return strings.Join(out, ", ")
}

// find is the line where h applies, at cursor or later.
func (h *hunk) find(lines []fileLine, cursor, shift int) (int, bool) {
	for _, head := range h.headers {
		i, ok := seek(lines, []string{head}, cursor, cursor, -1)
		if !ok {
			return 0, false
		}
		cursor = i + 1
	}
	old := h.old()
	if len(old) == 0 {
		switch {
		case len(h.headers) > 0:
			return cursor, true
		case h.hint >= 0:
			return min(max(cursor, h.hint+shift), len(lines)), true
		}
		return len(lines), true
	}
	if h.eof {
		if at := len(lines) - len(old); at >= cursor {
			if i, ok := seek(lines[at:], old, 0, 0, -1); ok {
				return at + i, true
			}
		}
	}
	want := -1
	if h.hint >= 0 {
		want = h.hint + shift
	}
	// A header may be repeated as the first line of context.
	from := cursor
	if len(h.headers) > 0 {
		from = cursor - 1
	}
	return seek(lines, old, cursor, from, want)
}

// fits are all the lines where h could apply as well as where find puts it. The
// grammar tells the place of a hunk at the end of the file, and of one that
// matches at its own line number: those fit once.
func (h *hunk) fits(lines []fileLine, cursor, shift int) []int {
	old := h.old()
	at, ok := h.find(lines, cursor, shift)
	if !ok || h.hint >= 0 && at == h.hint+shift || len(old) == 0 && len(h.headers) == 0 || h.eof && at == len(lines)-len(old) {
		return nil
	}
	how := strictness(lines[at:], old)
	if len(h.headers) == 0 {
		var all []int
		for i := cursor; i+len(old) <= len(lines); i++ {
			if matches(lines[i:], old, sameLine[how]) {
				all = append(all, i)
			}
		}
		return all
	}
	// The place is the first one behind the headers, for each line that could be
	// the first of them and is followed by the others and by the hunk.
	var all []int
	heads := strictness(lines[headerAt(lines, h.headers[0], cursor):], h.headers[:1])
	for i := cursor; i < len(lines); i++ {
		if !sameLine[heads](lines[i].text, h.headers[0]) {
			continue
		}
		one := *h
		one.headers = h.headers[1:]
		next := i + 1
		if len(one.headers) == 0 && len(old) > 0 && matches(lines[i:], old[:1], sameLine[how]) && i+len(old) <= len(lines) && matches(lines[i:], old, sameLine[how]) {
			next = i // repeated as the first line of context
		}
		if len(old) == 0 && len(one.headers) == 0 {
			all = append(all, next)
			continue
		}
		if at, ok := one.find(lines, next, shift); ok && strictness(lines[at:], old) == how && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

func headerAt(lines []fileLine, head string, cursor int) int {
	i, _ := seek(lines, []string{head}, cursor, cursor, -1)
	return i
}

// strictness is how strictly want matches at the beginning of lines, as an index of
// sameLine.
func strictness(lines []fileLine, want []string) int {
	for how, same := range sameLine {
		if len(want) <= len(lines) && matches(lines, want, same) {
			return how
		}
	}
	return len(sameLine) - 1
}

// seek finds want in lines from line start, strictest match first, and nearest
// to the line near when that is not negative. Only when nothing matches is it
// tried from the earlier line again.
func seek(lines []fileLine, want []string, start, again, near int) (int, bool) {
	for _, from := range []int{start, again} {
		for _, same := range sameLine {
			best, found := 0, false
			for i := from; i+len(want) <= len(lines); i++ {
				if !matches(lines[i:], want, same) {
					continue
				}
				if near < 0 {
					return i, true
				}
				if !found || abs(i-near) < abs(best-near) {
					best, found = i, true
				}
			}
			if found {
				return best, true
			}
		}
		if again == start {
			break
		}
	}
	return 0, false
}

func matches(lines []fileLine, want []string, same func(a, b string) bool) bool {
	for j, w := range want {
		if !same(lines[j].text, w) {
			return false
		}
	}
	return true
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// mismatch says why a hunk does not apply.
func (h *hunk) mismatch(text, given string, n, of int, lines []fileLine, cursor int) error {
	for _, head := range h.headers {
		i, ok := seek(lines, []string{head}, cursor, cursor, -1)
		if !ok {
			return fail(codePatchFailed, "hunk %d of %d for %s: the line %q after @@ was not found; read the file and correct the patch", n+1, of, quote(given), shorten(head, 200))
		}
		cursor = i + 1
	}
	old := h.old()
	why := ""
	if _, ok := seek(lines, old, 0, 0, -1); ok && cursor > 0 {
		why = " (they stand earlier in the file: hunks must be in the order of the file)"
	}
	return fail(codePatchFailed, "hunk %d of %d for %s: its %d old lines were not found%s; read the file and correct the patch%s",
		n+1, of, quote(given), len(old), why, nearest(text, strings.Join(old, "\n")))
}
