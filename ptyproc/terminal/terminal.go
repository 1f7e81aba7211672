// Package terminal is a terminal emulator in bounded memory: it takes what a
// program writes to its terminal and knows what a person would see, as text or
// as a picture.
//
// Start reading at Emulator.Write. It follows ECMA-48 and the xterm control
// sequences (invisible-island.net/xterm/ctlseqs) as far as programs described
// by terminfo's xterm-256color use them: cursor movement, erasing, scrolling
// regions, the alternate screen, colours, line drawing and the questions
// programs ask their terminal.
//
// It keeps no scrollback, draws no images, never stores what a program sends
// beyond the screen, a short title and at most 256 bytes of a control string,
// and answers questions only with fixed forms: nothing a program has written
// can be read back as input.
package terminal

import "unicode/utf8"

// The bounds of a screen.
const (
	MaxCols = 500
	MaxRows = 200
)

const (
	maxTitle = 256 // bytes
	maxMarks = 8   // combining marks on one character
	maxSets  = 4 << 10
	maxReply = 1 << 10
)

// cell is one place of the grid.
type cell struct {
	// r is 0 for a blank and wideTail for the right half of a wide character.
	r     rune
	style style
	// marks numbers the combining characters on r in Emulator.marks, 0 is none.
	// Without a pointer in it a line is cleared four times as fast.
	marks uint16
}

const wideTail rune = -1

// Emulator is one terminal. It is not safe for concurrent use.
type Emulator struct {
	cols, rows int
	grid       [][]cell // the screen shown
	other      [][]cell // the one not shown, nil until it is wanted
	alternate  bool

	cur   cursor
	saved [2]cursor // of the main and the alternate screen
	// top and bottom bound the scrolling region; bottom is exclusive.
	top, bottom int
	tabs        []bool
	hidden      bool // the cursor
	wrapOff     bool
	insert      bool
	newline     bool // LF implies CR (ANSI mode 20)
	appCursor   bool // DECCKM
	markPaste   bool // bracketed paste
	reversed    bool // the whole screen (DECSCNM)
	last        rune // for REP
	title       string
	marks       marks

	parser parser
	reply  []byte
}

// cursor is what DECSC saves.
type cursor struct {
	x, y int
	// pending is set when the last column was written: the next character
	// wraps first (the VT100's "last column flag").
	pending bool
	origin  bool // DECOM
	style   style
	// shifted selects g[1]; g tells which sets are line drawing.
	shifted bool
	g       [2]bool
}

// New makes a blank terminal. Sizes are brought into 1..MaxCols and 1..MaxRows.
func New(cols, rows int) *Emulator {
	e := &Emulator{cols: clamp(cols, 1, MaxCols), rows: clamp(rows, 1, MaxRows)}
	e.reset()
	return e
}

func (e *Emulator) reset() {
	e.grid, e.other, e.alternate = newGrid(e.cols, e.rows), nil, false
	e.cur, e.saved = cursor{}, [2]cursor{}
	e.top, e.bottom = 0, e.rows
	e.hidden, e.wrapOff, e.insert, e.newline, e.reversed, e.appCursor, e.markPaste = false, false, false, false, false, false, false
	e.title, e.last = "", 0
	e.resetTabs()
}

func (e *Emulator) resetTabs() {
	e.tabs = make([]bool, e.cols)
	for x := 8; x < e.cols; x += 8 {
		e.tabs[x] = true
	}
}

func newGrid(cols, rows int) [][]cell {
	all := make([]cell, cols*rows)
	grid := make([][]cell, rows)
	for y := range grid {
		grid[y] = all[y*cols : (y+1)*cols : (y+1)*cols]
	}
	return grid
}

// Reply takes what the terminal has to answer to the program's questions, nil
// when it asked none.
func (e *Emulator) Reply() []byte {
	r := e.reply
	e.reply = nil
	return r
}

func (e *Emulator) answer(s string) {
	if len(e.reply)+len(s) <= maxReply {
		e.reply = append(e.reply, s...)
	}
}

// print puts one character at the cursor.
func (e *Emulator) print(r rune) {
	w := 1
	if r >= 0x80 {
		if w = runeWidth(r); w == 0 {
			e.combine(r)
			return
		}
	} else if e.lineDrawing() {
		r = lineDrawing(r)
	}
	e.last = r
	w = min(w, e.cols)
	c := &e.cur
	if c.pending && !e.wrapOff {
		c.x, c.pending = 0, false
		e.lineFeed()
	}
	if c.x+w > e.cols {
		// A wide character does not fit into the last column.
		if e.wrapOff {
			c.x = e.cols - w
		} else {
			e.blank(c.y, c.x, e.cols)
			c.x = 0
			e.lineFeed()
		}
	}
	row := e.grid[c.y]
	if e.insert {
		e.mend(c.y, c.x)
		e.mend(c.y, e.cols-w)
		copy(row[c.x+w:], row[c.x:e.cols-w])
		// The old cells lie to the right now, so they must not be mended.
		row[c.x] = cell{}
		if w == 2 {
			row[c.x+1] = cell{}
		}
	} else {
		e.mend(c.y, c.x)
		e.mend(c.y, c.x+w)
	}
	row[c.x] = cell{r: r, style: c.style}
	if w == 2 {
		row[c.x+1] = cell{r: wideTail, style: c.style}
	}
	if c.x += w; c.x >= e.cols {
		c.x, c.pending = e.cols-1, true
	}
}

// combine puts a mark on the character before the cursor.
func (e *Emulator) combine(r rune) {
	x := e.cur.x
	if !e.cur.pending {
		x--
	}
	if x < 0 {
		return
	}
	row := e.grid[e.cur.y]
	if row[x].r == wideTail && x > 0 {
		x--
	}
	if row[x].r <= 0 {
		return
	}
	row[x].marks = e.marks.add(row[x].marks, r)
}

// marks are the sets of combining characters seen so far, numbered from 1. They
// are only ever appended to, so snapshots share them.
type marks struct {
	sets   []string
	number map[string]uint16
}

func (m marks) get(n uint16) string {
	if n == 0 {
		return ""
	}
	return m.sets[n-1]
}

// add gives the number of set n with r. Past the bounds r is left out.
func (m *marks) add(n uint16, r rune) uint16 {
	old := m.get(n)
	if utf8.RuneCountInString(old) >= maxMarks {
		return n
	}
	set := old + string(r)
	if known, ok := m.number[set]; ok {
		return known
	}
	if len(m.sets) >= maxSets {
		return n
	}
	if m.number == nil {
		m.number = make(map[string]uint16)
	}
	m.sets = append(m.sets, set)
	m.number[set] = uint16(len(m.sets))
	return uint16(len(m.sets))
}

// mend blanks both halves of a wide character of which x is the right one: what
// is written or moved there would leave half a character.
func (e *Emulator) mend(y, x int) {
	if x > 0 && x < e.cols && e.grid[y][x].r == wideTail {
		row := e.grid[y]
		row[x-1] = cell{style: row[x-1].style}
		row[x] = cell{style: row[x].style}
	}
}

// blank erases columns from..to of a line with the current background, as
// terminals with terminfo's bce do.
func (e *Emulator) blank(y, from, to int) {
	from, to = max(from, 0), min(to, e.cols)
	if from >= to {
		return
	}
	e.mend(y, from)
	e.mend(y, to)
	row, empty := e.grid[y], e.empty()
	for x := from; x < to; x++ {
		row[x] = empty
	}
}

func (e *Emulator) empty() cell { return cell{style: style{bg: e.cur.style.bg}} }

// lineFeed moves down, scrolling at the end of the region.
func (e *Emulator) lineFeed() {
	switch {
	case e.cur.y == e.bottom-1:
		e.scrollUp(e.top, 1)
	case e.cur.y < e.rows-1:
		e.cur.y++
	}
}

func (e *Emulator) reverseLineFeed() {
	switch {
	case e.cur.y == e.top:
		e.scrollDown(e.top, 1)
	case e.cur.y > 0:
		e.cur.y--
	}
}

// scrollUp moves the lines from..bottom up by n. Lines are moved by reference,
// so that a flood of output costs little.
func (e *Emulator) scrollUp(from, n int) {
	n = min(n, e.bottom-from)
	if n <= 0 {
		return
	}
	region := e.grid[from:e.bottom]
	for range n {
		first := region[0]
		copy(region, region[1:])
		region[len(region)-1] = first
	}
	for y := e.bottom - n; y < e.bottom; y++ {
		e.clearLine(y)
	}
}

func (e *Emulator) scrollDown(from, n int) {
	n = min(n, e.bottom-from)
	if n <= 0 {
		return
	}
	region := e.grid[from:e.bottom]
	for range n {
		lastLine := region[len(region)-1]
		copy(region[1:], region)
		region[0] = lastLine
	}
	for y := from; y < from+n; y++ {
		e.clearLine(y)
	}
}

func (e *Emulator) clearLine(y int) {
	row, empty := e.grid[y], e.empty()
	if empty == (cell{}) {
		clear(row)
		return
	}
	for x := range row {
		row[x] = empty
	}
}

// moveTo places the cursor; rows count from the region's top in origin mode.
func (e *Emulator) moveTo(x, y int) {
	low, high := 0, e.rows-1
	if e.cur.origin {
		low, high = e.top, e.bottom-1
		y += e.top
	}
	e.cur.x, e.cur.y = clamp(x, 0, e.cols-1), clamp(y, low, high)
	e.cur.pending = false
}

// moveBy moves the cursor, stopping at the region when it is inside.
func (e *Emulator) moveBy(dx, dy int) {
	low, high := 0, e.rows-1
	if e.cur.y >= e.top {
		low = e.top
	}
	if e.cur.y < e.bottom {
		high = e.bottom - 1
	}
	e.cur.x = clamp(e.cur.x+dx, 0, e.cols-1)
	e.cur.y = clamp(e.cur.y+dy, low, high)
	e.cur.pending = false
}

// Alternate reports that the program shows the alternate screen, as full-screen
// programs do (xterm's mode 1049 and its older forms).
func (e *Emulator) Alternate() bool { return e.alternate }

// LineEditor reports that the program has asked for pasted text to be marked
// (mode 2004) and shows its cursor, as line editors do while they wait for a line.
func (e *Emulator) LineEditor() bool { return e.markPaste && !e.hidden }

// ApplicationCursor reports that cursor keys send their application form (DECCKM).
func (e *Emulator) ApplicationCursor() bool { return e.appCursor }

// showAlternate switches screens. The alternate one comes up blank.
func (e *Emulator) showAlternate(on bool) {
	if e.alternate == on {
		return
	}
	if e.other == nil {
		e.other = newGrid(e.cols, e.rows)
	}
	e.grid, e.other = e.other, e.grid
	e.alternate = on
	e.cur.pending = false
	if on {
		for y := range e.grid {
			e.clearLine(y)
		}
	}
}

func (e *Emulator) saveCursor() { e.saved[e.screenIndex()] = e.cur }

func (e *Emulator) restoreCursor() {
	e.cur = e.saved[e.screenIndex()]
	// The screen may have become smaller since.
	e.cur.x, e.cur.y = clamp(e.cur.x, 0, e.cols-1), clamp(e.cur.y, 0, e.rows-1)
}

func (e *Emulator) screenIndex() int {
	if e.alternate {
		return 1
	}
	return 0
}

// Resize changes the size without reflowing, as xterm does. When the screen
// becomes lower than the cursor, lines go at the top.
func (e *Emulator) Resize(cols, rows int) {
	cols, rows = clamp(cols, 1, MaxCols), clamp(rows, 1, MaxRows)
	if cols == e.cols && rows == e.rows {
		return
	}
	shift := max(0, e.cur.y-rows+1)
	e.grid = resized(e.grid, cols, rows, shift)
	if e.other != nil {
		// Where the other screen's cursor was is in its saved state.
		at := &e.saved[1-e.screenIndex()]
		gone := max(0, at.y-rows+1)
		e.other = resized(e.other, cols, rows, gone)
		at.y -= gone
	}
	e.cols, e.rows = cols, rows
	e.top, e.bottom = 0, rows
	e.cur.y -= shift
	e.cur.x, e.cur.y = clamp(e.cur.x, 0, cols-1), clamp(e.cur.y, 0, rows-1)
	e.cur.pending = false
	e.resetTabs()
}

func resized(old [][]cell, cols, rows, shift int) [][]cell {
	grid := newGrid(cols, rows)
	for y := range min(rows, len(old)-shift) {
		row := grid[y]
		n := copy(row, old[y+shift])
		// A wide character that lost its right half is not a character.
		if n == cols && n < len(old[y+shift]) && old[y+shift][n].r == wideTail {
			row[n-1] = cell{}
		}
		// On a screen of one column a wide character has no right half; here it
		// gets one.
		if n == 1 && cols > 1 && row[0].r > 0 && runeWidth(row[0].r) == 2 {
			row[1] = cell{r: wideTail, style: row[0].style}
		}
	}
	return grid
}

func clamp(v, low, high int) int { return min(max(v, low), high) }

// Snapshot copies what is on the screen now.
func (e *Emulator) Snapshot() Screen {
	s := Screen{
		Cols: e.cols, Rows: e.rows, CursorCol: e.cur.x, CursorRow: e.cur.y,
		CursorVisible: !e.hidden, Title: e.title, reversed: e.reversed, marks: marks{sets: e.marks.sets},
	}
	s.lines = newGrid(e.cols, e.rows)
	for y, row := range e.grid {
		copy(s.lines[y], row)
	}
	return s
}
