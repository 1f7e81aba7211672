package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"mcp-sandbox/session"
)

// reviewer is what a review works on.
type reviewer interface {
	Info() session.StageInfo
	Unfinished() []session.StageLeft
	Changes(paths []string) ([]session.StageChange, []string, error)
	Hunks(c *session.StageChange) ([]session.StageHunk, string)
	ApplyListed(ctx context.Context, seen map[string]string, choice session.StageChoice) (session.StageResult, string, error)
	DiscardListed(ctx context.Context, seen map[string]string) (session.StageResult, error)
	ApplyHunk(ctx context.Context, path string, hunk int, sum string, choice session.StageChoice) (session.StageResult, string, error)
	DiscardHunk(ctx context.Context, path string, hunk int, sum string) (session.StageResult, error)
	ThreeWay(ctx context.Context, c *session.StageChange) *session.ThreeWay
	ApplyMerged(ctx context.Context, path string, t *session.ThreeWay, choice session.StageChoice) (session.StageResult, string, error)
}

// reviewScreen is a review on a terminal: the list of changes, and below it the diff of
// the one that is chosen.
type reviewScreen struct {
	ctx        context.Context
	r          reviewer
	cols, rows int

	changes  []session.StageChange
	diffs    []string
	hunks    [][]session.StageHunk
	sums     []string // of the hunks
	sides    []*session.ThreeWay
	skipped  map[string]bool
	cur      int
	hunk     int // chosen in the diff; -1 is the whole file
	top      int // first line of the list that is shown
	scroll   int // of the diff
	note     string
	question string
	yes      func()
	over     bool

	done, dropped int
	snapshot      string
}

func newReviewScreen(ctx context.Context, r reviewer, cols, rows int) (*reviewScreen, error) {
	s := &reviewScreen{ctx: ctx, r: r, cols: cols, rows: rows, skipped: map[string]bool{}, hunk: -1}
	if left := r.Unfinished(); len(left) > 0 {
		s.note = fmt.Sprintf("unfinished: %s: %s", left[0].Path, left[0].Why)
	}
	return s, s.load()
}

// load compares again; the place in the list stays.
func (s *reviewScreen) load() (err error) {
	s.changes, s.diffs, err = s.r.Changes([]string{"."})
	n := len(s.changes)
	s.hunks, s.sums, s.sides = make([][]session.StageHunk, n), make([]string, n), make([]*session.ThreeWay, n)
	for i := range s.changes {
		c := &s.changes[i]
		s.hunks[i], s.sums[i] = s.r.Hunks(c)
		s.sides[i] = s.r.ThreeWay(s.ctx, c)
		s.diffs[i] += threeWayText(s.sides[i])
	}
	s.cur = max(0, min(s.cur, len(s.changes)-1))
	s.hunk, s.scroll = -1, 0
	return err
}

func (s *reviewScreen) chosen() *session.StageChange {
	if s.cur >= len(s.changes) {
		return nil
	}
	return &s.changes[s.cur]
}

// The keys, as a terminal sends them.
const (
	keyUp, keyDown        = "\x1b[A", "\x1b[B"
	keyPageUp, keyPageDwn = "\x1b[5~", "\x1b[6~"
	keyBackTab            = "\x1b[Z"
)

// key does what one key asks for.
func (s *reviewScreen) key(k string) {
	if s.question != "" {
		do := s.yes
		s.question, s.yes = "", nil
		if k == "y" || k == "Y" {
			do()
		} else {
			s.note = "left as it is"
		}
		return
	}
	s.note = ""
	switch k {
	case "q", "\x03", "\x04":
		s.over = true
	case "j", keyDown:
		s.move(1)
	case "k", keyUp:
		s.move(-1)
	case " ", keyPageDwn:
		s.scroll += s.diffRows() - 1
	case "b", keyPageUp:
		s.scroll = max(0, s.scroll-s.diffRows()+1)
	case "\t", "n":
		s.nextHunk(1)
	case keyBackTab, "p":
		s.nextHunk(-1)
	case "s":
		if c := s.chosen(); c != nil {
			s.skipped[c.Path] = true
			s.move(1)
		}
	case "a":
		s.apply()
	case "d":
		s.discard()
	case "m":
		s.merge()
	case "A":
		s.applyAll()
	}
}

func (s *reviewScreen) move(n int) {
	s.cur = max(0, min(s.cur+n, len(s.changes)-1))
	s.hunk, s.scroll = -1, 0
}

func (s *reviewScreen) nextHunk(n int) {
	c := s.chosen()
	if c == nil {
		return
	}
	hunks := s.hunks[s.cur]
	if len(hunks) == 0 {
		s.note = "this change is applied or discarded as a whole"
		return
	}
	s.hunk += n
	if s.hunk >= len(hunks) {
		s.hunk = -1
	}
	if s.hunk < -1 {
		s.hunk = len(hunks) - 1
	}
	s.scroll = 0
	if s.hunk >= 0 {
		s.scroll = max(0, s.hunkLine(s.hunk)-1)
	}
}

// hunkLine is where a hunk begins in the diff that is shown.
func (s *reviewScreen) hunkLine(n int) int {
	for i, l := range strings.Split(s.diffs[s.cur], "\n") {
		if strings.HasPrefix(l, "@@ ") {
			if n--; n < 0 {
				return i
			}
		}
	}
	return 0
}

// apply asks first about what is a person's alone to allow.
func (s *reviewScreen) apply() {
	c := s.chosen()
	if c == nil {
		return
	}
	if c.Unfit != "" {
		s.note = c.Unfit
		return
	}
	choice := session.StageChoice{Protected: c.Protected, Executable: c.Executable, Access: c.Access != "", Conflicts: c.Conflict != ""}
	asked := *c
	if s.hunk >= 0 {
		asked.Access = "" // a part of the text leaves the file as open as it is
	}
	why := whyAsked(&asked, true)
	hunk, sum := s.hunk, s.sums[s.cur]
	do := func() { s.applyOne(c, hunk, sum, choice) }
	if why == "" {
		do()
		return
	}
	s.question, s.yes = fmt.Sprintf("Apply it?%s (y/n) %s", why, nameOf(c)), do
}

// whyAsked says what is a person's alone to allow. A name is the model's and as long as
// it likes, so it stands after what must be read.
func whyAsked(c *session.StageChange, lost bool) string {
	var b strings.Builder
	switch {
	case c.Reason != "":
		b.WriteString(" Protected: " + c.Reason + ".")
	case c.Protected:
		b.WriteString(" Programs outside run it or go by it.")
	}
	if c.Executable {
		b.WriteString(" It is a program.")
	}
	if c.Access != "" && lost {
		b.WriteString(" It is opened to others.")
	}
	switch {
	case c.Conflict != "" && c.Git != "":
		b.WriteString(" What moved on both sides stays as the project has it; the session's side becomes a ref below refs/mcp-sandbox/conflict.")
	case c.Conflict != "" && lost:
		b.WriteString(" What the project has now is lost.")
	}
	return b.String()
}

func (s *reviewScreen) applyOne(c *session.StageChange, hunk int, sum string, choice session.StageChoice) {
	var res session.StageResult
	var id string
	var err error
	if hunk >= 0 {
		res, id, err = s.r.ApplyHunk(s.ctx, c.Path, hunk, sum, choice)
	} else {
		res, id, err = s.r.ApplyListed(s.ctx, map[string]string{c.Path: c.Seen}, choice)
	}
	s.tell("applied", c.Path, res, err)
	s.done += len(res.Done)
	if s.snapshot == "" && len(res.Done) > 0 {
		s.snapshot = id
	}
}

// threeWayText shows what each side did to a text in conflict.
func threeWayText(t *session.ThreeWay) string {
	if t == nil {
		return ""
	}
	text := "# what changed in the project meanwhile:\n" + t.Theirs + "# what the session changed:\n" + t.Ours
	if t.Clean {
		return text + "# the two touch different places, so they can be merged\n"
	}
	return text + "# both changed the same place\n"
}

func (s *reviewScreen) merge() {
	c := s.chosen()
	if c == nil {
		return
	}
	t := s.sides[s.cur]
	if t == nil || !t.Clean {
		s.note = "nothing to merge: it is not a conflict of texts in different places"
		return
	}
	path := c.Path
	choice := session.StageChoice{Protected: c.Protected, Executable: c.Executable}
	s.question = fmt.Sprintf("Merge both sides, in the project and in the session?%s (y/n) %s", whyAsked(c, false), nameOf(c))
	s.yes = func() {
		res, id, err := s.r.ApplyMerged(s.ctx, path, t, choice)
		s.tell("merged", path, res, err)
		s.done += len(res.Done)
		if s.snapshot == "" && len(res.Done) > 0 {
			s.snapshot = id
		}
	}
}

func (s *reviewScreen) discard() {
	c := s.chosen()
	if c == nil {
		return
	}
	path, hunk, sum := c.Path, s.hunk, s.sums[s.cur]
	what, seen := "", map[string]string{path: c.Seen}
	if hunk >= 0 {
		what = "this part of "
	} else if c.Type == "directory" && (c.Kind == "added" || c.Kind == "replaced") {
		for _, in := range s.changes {
			if strings.HasPrefix(in.Path, path+"/") {
				seen[in.Path] = in.Seen
			}
		}
		what = counted(int64(len(seen)-1), "change") + " in "
	}
	s.question = fmt.Sprintf("Discard what the session did? (y/n) %s%s", what, nameOf(c))
	s.yes = func() {
		var res session.StageResult
		var err error
		if hunk >= 0 {
			res, err = s.r.DiscardHunk(s.ctx, path, hunk, sum)
		} else {
			res, err = s.r.DiscardListed(s.ctx, seen)
		}
		s.tell("discarded", path, res, err)
		s.dropped += len(res.Done)
	}
}

func (s *reviewScreen) applyAll() {
	s.question = "Apply everything that needs no further confirmation and is not skipped? (y/n)"
	s.yes = func() {
		seen := map[string]string{}
		for _, c := range s.changes {
			if !s.skipped[c.Path] {
				seen[c.Path] = c.Seen
			}
		}
		res, id, err := s.r.ApplyListed(s.ctx, seen, session.StageChoice{})
		s.tell("applied", fmt.Sprintf("%d paths", len(res.Done)), res, err)
		s.done += len(res.Done)
		if s.snapshot == "" && len(res.Done) > 0 {
			s.snapshot = id
		}
	}
}

func (s *reviewScreen) tell(what, path string, res session.StageResult, err error) {
	switch {
	case err != nil:
		s.note = "not " + what + ": " + err.Error()
	case len(res.Left) > 0:
		s.note = fmt.Sprintf("%d %s, %d not: %s: %s", len(res.Done), what, len(res.Left), res.Left[0].Path, res.Left[0].Why)
	default:
		s.note = what + " " + path
	}
	if err := s.load(); err != nil {
		s.note = err.Error()
	}
}

// Colours and styles of a terminal (ECMA-48, SGR).
const (
	styleOff    = "\x1b[0m"
	styleInvert = "\x1b[7m"
	styleBold   = "\x1b[1m"
	styleRed    = "\x1b[31m"
	styleGreen  = "\x1b[32m"
	styleYellow = "\x1b[33m"
	stylePurple = "\x1b[35m"
	styleCyan   = "\x1b[36m"
)

func (s *reviewScreen) listRows() int {
	return max(1, min(len(s.changes), (s.rows-4)/2))
}

func (s *reviewScreen) diffRows() int { return max(1, s.rows-s.listRows()-3) }

// draw writes the whole screen.
func (s *reviewScreen) draw(out io.Writer) {
	var b strings.Builder
	b.WriteString("\x1b[H")
	line := func(style, text string) {
		b.WriteString(style + cut(plainText(text), s.cols) + styleOff + "\x1b[K\r\n")
	}
	i := s.r.Info()
	title := fmt.Sprintf("review %s: %s", i.Root, counted(int64(len(s.changes)), "change"))
	if i.InUse {
		title += ", the session runs"
	}
	line(styleBold, title)
	list := s.listRows()
	if s.cur < s.top {
		s.top = s.cur
	}
	if s.cur >= s.top+list {
		s.top = s.cur - list + 1
	}
	for n := s.top; n < s.top+list; n++ {
		if n >= len(s.changes) {
			line("", "nothing is staged any more")
			continue
		}
		c := &s.changes[n]
		style := map[string]string{"added": styleGreen, "removed": styleRed}[string(c.Kind)]
		if style == "" {
			style = styleYellow
		}
		if m := marks(c); m != "" {
			style = stylePurple
		}
		if n == s.cur {
			style += styleInvert
		}
		skip := ""
		if s.skipped[c.Path] {
			skip = " [skipped]"
		}
		line(style, fmt.Sprintf("%-9s %s%s%s", c.Kind, nameOf(c), marks(c), skip))
	}
	line("", strings.Repeat("-", s.cols))
	s.drawDiff(line)
	foot := "a apply  s skip  d discard  m merge  tab hunk  j/k file  space scroll  A apply all  q quit"
	if s.note != "" {
		foot = s.note
	}
	style := ""
	if s.question != "" {
		foot, style = s.question, styleBold+styleYellow
	}
	b.WriteString(style + cut(plainText(foot), s.cols) + styleOff + "\x1b[K\x1b[J")
	_, _ = io.WriteString(out, b.String())
}

func (s *reviewScreen) drawDiff(line func(style, text string)) {
	var text []string
	if s.cur < len(s.diffs) {
		text = strings.Split(strings.TrimSuffix(s.diffs[s.cur], "\n"), "\n")
	}
	s.scroll = max(0, min(s.scroll, len(text)-1))
	at := -1
	for i, l := range text {
		if strings.HasPrefix(l, "@@ ") {
			at++
		}
		if i < s.scroll || i >= s.scroll+s.diffRows() {
			continue
		}
		style := ""
		switch {
		case strings.HasPrefix(l, "# "):
			style = stylePurple
		case strings.HasPrefix(l, "@@ "):
			style = styleCyan
		case strings.HasPrefix(l, "+"):
			style = styleGreen
		case strings.HasPrefix(l, "-"):
			style = styleRed
		}
		mark := "  "
		if s.hunk >= 0 && at == s.hunk {
			mark = "> "
		}
		line(style, mark+l)
	}
	for i := len(text) - s.scroll; i < s.diffRows(); i++ {
		line("", "")
	}
}

// plainText shows what a terminal would take for an order, see operator.
func plainText(s string) string {
	var b strings.Builder
	e := escaper{&b}
	_, _ = e.Write([]byte(strings.ReplaceAll(s, "\t", "    ")))
	return strings.ReplaceAll(b.String(), "\n", " ")
}

// cut keeps a line to the width of the screen.
func cut(s string, cols int) string {
	if utf8.RuneCountInString(s) <= cols {
		return s
	}
	return string([]rune(s)[:max(0, cols-1)]) + "…"
}
