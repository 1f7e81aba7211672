package terminal

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// execute acts on a C0 control character.
func (e *Emulator) execute(b byte) {
	switch b {
	case '\b':
		e.cur.x = max(0, e.cur.x-1)
		e.cur.pending = false
	case '\t':
		e.tab(1)
	case '\n', '\v', '\f':
		e.lineFeed()
		if e.newline {
			e.cur.x, e.cur.pending = 0, false
		}
	case '\r':
		e.cur.x, e.cur.pending = 0, false
	case 0x0e:
		e.cur.shifted = true
	case 0x0f:
		e.cur.shifted = false
	case 0x1b:
		e.begin()
	}
}

func (e *Emulator) tab(n int) {
	for ; n > 0 && e.cur.x < e.cols-1; n-- {
		for e.cur.x++; e.cur.x < e.cols-1 && !e.tabs[e.cur.x]; e.cur.x++ {
		}
	}
}

func (e *Emulator) backTab(n int) {
	for ; n > 0 && e.cur.x > 0; n-- {
		for e.cur.x--; e.cur.x > 0 && !e.tabs[e.cur.x]; e.cur.x-- {
		}
	}
	e.cur.pending = false
}

func (e *Emulator) escapeDispatch(intermediate, b byte) {
	switch intermediate {
	case '(':
		e.cur.g[0] = b == '0'
		return
	case ')':
		e.cur.g[1] = b == '0'
		return
	case '#':
		if b == '8' { // DECALN
			for y := range e.grid {
				for x := range e.grid[y] {
					e.grid[y][x] = cell{r: 'E'}
				}
			}
		}
		return
	case 0:
	default:
		return
	}
	switch b {
	case '7':
		e.saveCursor()
	case '8':
		e.restoreCursor()
	case 'D':
		e.lineFeed()
	case 'E':
		e.cur.x, e.cur.pending = 0, false
		e.lineFeed()
	case 'H':
		e.tabs[e.cur.x] = true
	case 'M':
		e.reverseLineFeed()
	case 'c':
		e.reset()
	}
}

func (e *Emulator) csiDispatch(final byte) {
	ps := &e.parser
	switch {
	case ps.intermediate != 0:
		e.csiIntermediate(final)
	case ps.private != 0:
		e.csiPrivate(final)
	default:
		e.csiPlain(final)
	}
}

func (e *Emulator) csiIntermediate(final byte) {
	ps := &e.parser
	switch {
	case ps.intermediate == '!' && final == 'p': // DECSTR
		e.hidden, e.insert, e.wrapOff, e.appCursor = false, false, false, false
		e.top, e.bottom = 0, e.rows
		e.cur.origin, e.cur.style, e.cur.shifted, e.cur.g = false, style{}, false, [2]bool{}
		e.saved[e.screenIndex()] = cursor{}
	case ps.intermediate == '$' && final == 'p' && ps.private == '?': // DECRQM
		e.answer(fmt.Sprintf("\x1b[?%d;0$y", ps.param(0, 0)))
	}
}

func (e *Emulator) csiPrivate(final byte) {
	ps := &e.parser
	switch {
	case ps.private == '?' && (final == 'h' || final == 'l'):
		for i := range ps.n {
			e.privateMode(ps.param(i, 0), final == 'h')
		}
	case ps.private == '?' && final == 'J':
		e.eraseDisplay(ps.param(0, 0))
	case ps.private == '?' && final == 'K':
		e.eraseLine(ps.param(0, 0))
	case ps.private == '?' && final == 'n' && ps.param(0, 0) == 6:
		y, x := e.reportPosition()
		e.answer(fmt.Sprintf("\x1b[?%d;%dR", y, x))
	case ps.private == '>' && final == 'c' && ps.param(0, 0) == 0:
		e.answer("\x1b[>1;10;0c") // a VT220
	}
}

func (e *Emulator) csiPlain(final byte) {
	ps := &e.parser
	n := ps.count(0)
	switch final {
	case 'A':
		e.moveBy(0, -n)
	case 'B', 'e':
		e.moveBy(0, n)
	case 'C', 'a':
		e.moveBy(n, 0)
	case 'D':
		e.moveBy(-n, 0)
	case 'E':
		e.moveBy(-e.cols, n)
	case 'F':
		e.moveBy(-e.cols, -n)
	case 'G', '`':
		e.cur.x, e.cur.pending = clamp(n-1, 0, e.cols-1), false
	case 'H', 'f':
		e.moveTo(ps.count(1)-1, n-1)
	case 'd':
		e.moveTo(e.cur.x, n-1)
	case 'I':
		e.tab(n)
	case 'Z':
		e.backTab(n)
	case 'J':
		e.eraseDisplay(ps.param(0, 0))
	case 'K':
		e.eraseLine(ps.param(0, 0))
	case 'X':
		e.blank(e.cur.y, e.cur.x, e.cur.x+n)
		e.cur.pending = false
	case 'L', 'M':
		e.editLines(final == 'L', n)
	case '@':
		e.insertBlanks(n)
	case 'P':
		e.deleteCharacters(n)
	case 'S':
		e.scrollUp(e.top, n)
	case 'T':
		e.scrollDown(e.top, n)
	case 'b':
		e.repeat(n)
	case 'g':
		e.clearTabs(ps.param(0, 0))
	case 'h', 'l':
		for i := range ps.n {
			e.ansiMode(ps.param(i, 0), final == 'h')
		}
	case 'm':
		e.cur.style.apply(ps)
	case 'r':
		e.setRegion(n-1, ps.param(1, e.rows))
	case 's':
		e.saveCursor()
	case 'u':
		e.restoreCursor()
	default:
		e.csiQuestion(final)
	}
}

// repeat prints the last character again, as it was drawn. Of more than a
// screenful only what is left of the last lines shows.
func (e *Emulator) repeat(n int) {
	if e.last == 0 {
		return
	}
	if line, full := max(1, e.cols/runeWidth(e.last)), e.cols*e.rows; n > full {
		n = full + (n-full)%line
	}
	g := e.cur.g
	e.cur.g = [2]bool{}
	for range n {
		e.print(e.last)
	}
	e.cur.g = g
}

// csiQuestion answers what programs ask before they draw; without an answer
// some wait for seconds.
func (e *Emulator) csiQuestion(final byte) {
	ps := &e.parser
	switch p := ps.param(0, 0); {
	case final == 'c' && p == 0:
		e.answer("\x1b[?62;22c") // a VT220 with ANSI colours
	case final == 'n' && p == 5:
		e.answer("\x1b[0n")
	case final == 'n' && p == 6:
		y, x := e.reportPosition()
		e.answer(fmt.Sprintf("\x1b[%d;%dR", y, x))
	case final == 't' && p == 18:
		e.answer(fmt.Sprintf("\x1b[8;%d;%dt", e.rows, e.cols))
	}
}

func (e *Emulator) reportPosition() (y, x int) {
	y = e.cur.y + 1
	if e.cur.origin {
		y -= e.top
	}
	return y, e.cur.x + 1
}

func (e *Emulator) eraseDisplay(mode int) {
	e.cur.pending = false
	switch mode {
	case 0:
		e.blank(e.cur.y, e.cur.x, e.cols)
		for y := e.cur.y + 1; y < e.rows; y++ {
			e.clearLine(y)
		}
	case 1:
		e.blank(e.cur.y, 0, e.cur.x+1)
		for y := range e.cur.y {
			e.clearLine(y)
		}
	case 2:
		for y := range e.grid {
			e.clearLine(y)
		}
	}
}

func (e *Emulator) eraseLine(mode int) {
	e.cur.pending = false
	switch mode {
	case 0:
		e.blank(e.cur.y, e.cur.x, e.cols)
	case 1:
		e.blank(e.cur.y, 0, e.cur.x+1)
	case 2:
		e.clearLine(e.cur.y)
	}
}

func (e *Emulator) editLines(insert bool, n int) {
	if e.cur.y < e.top || e.cur.y >= e.bottom {
		return
	}
	if insert {
		e.scrollDown(e.cur.y, n)
	} else {
		e.scrollUp(e.cur.y, n)
	}
	e.cur.x, e.cur.pending = 0, false
}

func (e *Emulator) insertBlanks(n int) {
	n = min(n, e.cols-e.cur.x)
	y, x := e.cur.y, e.cur.x
	e.mend(y, x)
	e.mend(y, e.cols-n)
	row := e.grid[y]
	copy(row[x+n:], row[x:e.cols-n])
	for i := x; i < x+n; i++ {
		row[i] = e.empty()
	}
	e.cur.pending = false
}

func (e *Emulator) deleteCharacters(n int) {
	n = min(n, e.cols-e.cur.x)
	y, x := e.cur.y, e.cur.x
	e.mend(y, x)
	e.mend(y, x+n)
	row := e.grid[y]
	copy(row[x:], row[x+n:])
	for i := e.cols - n; i < e.cols; i++ {
		row[i] = e.empty()
	}
	e.cur.pending = false
}

func (e *Emulator) clearTabs(mode int) {
	switch mode {
	case 0:
		e.tabs[e.cur.x] = false
	case 3:
		clear(e.tabs)
	}
}

func (e *Emulator) setRegion(top, bottom int) {
	if bottom == 0 {
		bottom = e.rows
	}
	top, bottom = clamp(top, 0, e.rows-1), clamp(bottom, 1, e.rows)
	if bottom-top < 2 && e.rows > 1 {
		return
	}
	e.top, e.bottom = top, bottom
	e.moveTo(0, 0)
}

func (e *Emulator) ansiMode(mode int, on bool) {
	switch mode {
	case 4:
		e.insert = on
	case 20:
		e.newline = on
	}
}

func (e *Emulator) privateMode(mode int, on bool) {
	switch mode {
	case 1:
		e.appCursor = on
	case 2004:
		e.markPaste = on
	case 5:
		e.reversed = on
	case 6:
		e.cur.origin = on
		e.moveTo(0, 0)
	case 7:
		e.wrapOff = !on
	case 25:
		e.hidden = !on
	case 47, 1047:
		e.showAlternate(on)
	case 1048:
		if on {
			e.saveCursor()
		} else {
			e.restoreCursor()
		}
	case 1049:
		if on {
			e.saveCursor()
			e.showAlternate(true)
		} else {
			e.showAlternate(false)
			e.restoreCursor()
		}
	}
}

// endControl acts on a whole OSC string: titles, and the questions for the
// default colours, by which programs choose between light and dark.
func (e *Emulator) endControl() {
	number, rest, _ := strings.Cut(string(e.parser.control), ";")
	switch number {
	case "0", "2":
		e.title = cleanTitle(rest)
	case "10":
		if rest == "?" {
			e.answer(colourAnswer(10, defaultForeground))
		}
	case "11":
		if rest == "?" {
			e.answer(colourAnswer(11, defaultBackground))
		}
	}
}

func cleanTitle(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	for len(s) > maxTitle {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
