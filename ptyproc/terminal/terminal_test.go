package terminal

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func shown(cols, rows int, input string) (Screen, *Emulator) {
	e := New(cols, rows)
	_, _ = e.Write([]byte(input))
	return e.Snapshot(), e
}

func TestText(t *testing.T) {
	const csi = "\x1b["
	for _, c := range []struct {
		name, input, want string
		cols, rows        int
	}{
		{"plain", "one\r\ntwo", "one\ntwo", 20, 5},
		{"line feed keeps the column", "one\ntwo", "one\n   two", 20, 5},
		{"blank lines between", "\r\n\r\nx\r\n\r\n", "\n\nx", 20, 5},
		{"wrap", "abcdefgh", "abcde\nfgh", 5, 3},
		{"wrap waits for the next character", "abcde\r\nf", "abcde\nf", 5, 3},
		{"wrap off", csi + "?7labcdefgh", "abcdh", 5, 3},
		{"scroll", "1\r\n2\r\n3\r\n4", "2\n3\n4", 5, 3},
		{"backspace", "abc\b\bX", "aXc", 20, 2},
		{"tabs", "a\tb\tc", "a       b       c", 20, 2},
		{"tab at the end stays", "a\t\t\t\tb", "a        b", 10, 2},
		{"tab set and cleared", "\x1b[3g\x1b[5G\x1bH\r\tx", "    x", 20, 2},
		{"back tab", "abcdefghijk" + csi + "ZX", "abcdefghXjk", 20, 2},
		{"cursor addressing", csi + "2;3Hx" + csi + "Hy", "y\n  x", 20, 3},
		{"cursor out of bounds", csi + "99;99Hx", "\n\n    x", 5, 3},
		{"huge parameter", csi + "99999999999999999999Cx", "    x", 5, 3},
		{"relative moves", "abc" + csi + "2Dx" + csi + "By" + csi + "A" + csi + "Cz", "axc z\n  y", 20, 3},
		{"next and previous line", "ab" + csi + "Ecd" + csi + "Fx", "xb\ncd", 20, 3},
		{"column and row", csi + "3Gx" + csi + "2dy", "  x\n   y", 20, 3},
		{"erase to end of line", "abcdef\r" + csi + "3C" + csi + "K", "abc", 20, 2},
		{"erase to start of line", "abcdef\r" + csi + "2C" + csi + "1Kx", "  xdef", 20, 2},
		{"erase line", "abcdef" + csi + "2Kx", "      x", 20, 2},
		{"erase below", "1\r\n2\r\n3" + csi + "2;1H" + csi + "J", "1", 5, 3},
		{"erase above", "1\r\n2\r\n3" + csi + "2;1H" + csi + "1J", "\n\n3", 5, 3},
		{"erase all keeps the cursor", "ab" + csi + "2Jc", "  c", 5, 3},
		{"insert characters", "abcd\r" + csi + "2@XY", "XYabcd", 20, 2},
		{"insert pushes out", "abcde\r" + csi + "2@", "  abc", 5, 2},
		{"delete characters", "abcdef\r" + csi + "2P", "cdef", 20, 2},
		{"erase characters", "abcdef\r" + csi + "2X", "  cdef", 20, 2},
		{"insert lines", "1\r\n2\r\n3" + csi + "2;1H" + csi + "L", "1\n\n2", 5, 3},
		{"delete lines", "1\r\n2\r\n3" + csi + "1;1H" + csi + "M", "2\n3", 5, 3},
		{"scroll up and down", "1\r\n2\r\n3" + csi + "S" + csi + "2T", "\n\n2", 5, 3},
		{"region scrolls alone", "1\r\n2\r\n3\r\n4" + csi + "2;3r" + csi + "3;1H\n\nx", "1\n\nx\n4", 5, 4},
		{"region and reverse index", "1\r\n2\r\n3\r\n4" + csi + "2;3r" + csi + "2;1H\x1bMx", "1\nx\n2\n4", 5, 4},
		{"origin mode", csi + "2;3r" + csi + "?6h" + csi + "1;1Hx" + csi + "9;1Hy", "\nx\ny", 5, 4},
		{"reverse index at the top", "1\r\n2" + csi + "H\x1bMx", "x\n1\n2", 5, 3},
		{"save and restore", "ab\x1b7cd" + csi + "3;1Hef\x1b8X", "abXd\n\nef", 5, 3},
		{"alternate screen", "main" + csi + "?1049h" + csi + "Hother", "other", 20, 3},
		{"and back", "main" + csi + "?1049h" + csi + "Hother" + csi + "?1049lX", "mainX", 20, 3},
		{"alternate comes up blank", csi + "?47hold" + csi + "?47l" + csi + "?47h", "", 20, 3},
		{"insert mode", "abc\r" + csi + "4hX" + csi + "4lY", "XYbc", 20, 2},
		{"newline mode", csi + "20ha\nb", "a\nb", 20, 2},
		{"repeat", "a" + csi + "3bx", "aaaax", 20, 2},
		{"repeat without limit ends", "a" + csi + "9999b", "aaaaa\naaaaa", 5, 2},
		{"line drawing", "\x1b(0lqk\x1b(Bq", "┌─┐q", 20, 2},
		{"line drawing by shift", "\x1b)0a\x0eqx\x0fb", "a─│b", 20, 2},
		{"wide", "你好x", "你好x", 20, 2},
		{"wide does not fit", "abcd你", "abcd\n你", 5, 2},
		{"half of a wide overwritten", "你好" + csi + "2GX", " X好", 20, 2},
		{"other half overwritten", "你好" + csi + "3GX", "你X", 20, 2},
		{"wide cut by erase", "你好" + csi + "2G" + csi + "2X", "", 20, 2},
		{"wide cut by delete", "你好x\r" + csi + "P", " 好x", 20, 2},
		{"wide on one column", "你", "你", 1, 1},
		{"combining", "e\u0301x", "e\u0301x", 20, 2},
		{"combining after the last column", "abcde\u0301", "abcde\u0301", 5, 2},
		{"combining on nothing", "\u0301x", "x", 5, 2},
		{"marks are bounded", "e" + strings.Repeat("\u0301", 100), "e" + strings.Repeat("\u0301", maxMarks), 5, 2},
		{"invalid bytes", "a\xffb\xe4\xbdc", "a\uFFFDb\uFFFDc", 20, 2},
		{"title is not text", "\x1b]0;title\x07x\x1b]2;t\x1b\\y", "xy", 20, 2},
		{"long control string", "\x1b]0;" + strings.Repeat("t", 5000) + "\x07x", "x", 20, 2},
		{"device control is swallowed", "a\x1bPq#0;2~\x1b\\b\x1b_x\x1b\\c", "abc", 20, 2},
		{"unknown sequences", csi + "?2004ha" + csi + ">4;2mb" + csi + "2 qc\x1b=d" + csi + "1:2:3xe", "abcde", 20, 2},
		{"sequence cancelled", csi + "12\x18Hx", "Hx", 20, 2},
		{"control inside a sequence", "ab" + csi + "1\b;1Hx", "xb", 20, 2},
		{"escape restarts", csi + "12\x1b[Hx", "x", 20, 2},
		{"too many parameters", csi + strings.Repeat("1;", 100) + "mx", "x", 20, 2},
		{"reset", "abc\x1bcx", "x", 20, 2},
		{"soft reset", csi + "4h" + csi + "!pabc\rX", "Xbc", 20, 2},
		{"alignment", "\x1b#8", "EEE\nEEE", 3, 2},
		{"concealed", "a" + csi + "8msecret" + csi + "mb", "a      b", 20, 2},
	} {
		s, e := shown(c.cols, c.rows, c.input)
		if got := s.Text(); got != c.want {
			t.Errorf("%s: got\n%q, want\n%q", c.name, got, c.want)
		}
		check(t, e)
	}
}

func TestStyle(t *testing.T) {
	for _, c := range []struct {
		sgr  string
		want style
	}{
		{"", style{}},
		{"1;3;4;7;9", style{attr: bold | italic | underline | reverse | strike}},
		{"1;2;22", style{}},
		{"31;42", style{fg: indexed | 1, bg: indexed | 2}},
		{"97;104", style{fg: indexed | 15, bg: indexed | 12}},
		{"31;39;42;49", style{}},
		{"38;5;200;1", style{fg: indexed | 200, attr: bold}},
		{"38;2;1;2;3;4", style{fg: direct | 0x010203, attr: underline}},
		{"38:5:200;1", style{fg: indexed | 200, attr: bold}},
		{"48:2:1:2:3;1", style{bg: direct | 0x010203, attr: bold}},
		{"48:2::1:2:3;1", style{bg: direct | 0x010203, attr: bold}},
		{"58;5;1;1", style{attr: bold}},
		{"4:3", style{attr: underline}},
		{"4;4:0", style{}},
		{"38;5", style{fg: indexed}},
		{"38;5;999", style{}},
		{"38", style{}},
		{"1;;3", style{attr: italic}},
	} {
		_, e := shown(10, 1, "\x1b["+c.sgr+"m")
		if e.cur.style != c.want {
			t.Errorf("%q: %+v, want %+v", c.sgr, e.cur.style, c.want)
		}
	}
}

// TestErasedBackground: erased cells take the current background (terminfo bce).
func TestErasedBackground(t *testing.T) {
	_, e := shown(5, 3, "\x1b[44m\x1b[2J\x1b[m\x1b[3;1H\n")
	for y, want := range []colour{indexed | 4, indexed | 4, 0} {
		if got := e.grid[y][2].style.bg; got != want {
			t.Errorf("line %d: background %x, want %x", y, got, want)
		}
	}
}

func TestReplies(t *testing.T) {
	for _, c := range []struct{ input, want string }{
		{"\x1b[c", "\x1b[?62;22c"},
		{"\x1b[0c", "\x1b[?62;22c"},
		{"\x1b[>c", "\x1b[>1;10;0c"},
		{"\x1b[5n", "\x1b[0n"},
		{"\x1b[2;3H\x1b[6n", "\x1b[2;3R"},
		{"\x1b[2;3H\x1b[?6n", "\x1b[?2;3R"},
		{"\x1b[18t", "\x1b[8;24;80t"},
		{"\x1b[?2026$p", "\x1b[?2026;0$y"},
		{"\x1b]11;?\x07", "\x1b]11;rgb:1010/1010/1010\x1b\\"},
		{"\x1b]10;?\x1b\\", "\x1b]10;rgb:e5e5/e5e5/e5e5\x1b\\"},
		// What a program wrote must never come back as input.
		{"\x1b]2;evil\rrm -rf .\r\x07\x1b[21t", ""},
		{"\x1bP$qevil\x1b\\", ""},
		{"\x1b]52;c;?\x07", ""},
		{"\x05", ""},
	} {
		e := New(80, 24)
		_, _ = e.Write([]byte(c.input))
		if got := string(e.Reply()); got != c.want {
			t.Errorf("%q: %q, want %q", c.input, got, c.want)
		}
		if got := e.Reply(); got != nil {
			t.Errorf("%q: answered twice: %q", c.input, got)
		}
	}
	e := New(80, 24)
	_, _ = e.Write([]byte(strings.Repeat("\x1b[c", 10_000)))
	if n := len(e.Reply()); n == 0 || n > maxReply {
		t.Errorf("%d bytes of answers", n)
	}
}

func TestTitle(t *testing.T) {
	s, _ := shown(20, 2, "\x1b]2;a\x01b\u202e\xffc\x1b\\")
	if s.Title != "abc" {
		t.Errorf("%q", s.Title)
	}
	s, _ = shown(20, 2, "\x1b]0;"+strings.Repeat("é", 1000)+"\x07")
	if len(s.Title) > maxTitle || !utf8.ValidString(s.Title) {
		t.Errorf("%d bytes", len(s.Title))
	}
}

func TestLineEditor(t *testing.T) {
	e := New(20, 2)
	for _, step := range []struct {
		text string
		want bool
	}{
		{"> ", false}, {"\x1b[?2004h> ", true}, {"\x1b[?25l", false}, {"\x1b[?25h", true},
		{"\x1b[?2004l", false}, {"\x1b[?2004h", true}, {"\x1bc", false},
	} {
		e.Write([]byte(step.text))
		if got := e.LineEditor(); got != step.want {
			t.Errorf("after %q: %v", step.text, got)
		}
	}
}

func TestResize(t *testing.T) {
	e := New(10, 4)
	_, _ = e.Write([]byte("1\r\n2\r\n3\r\n4 你好"))
	e.Resize(3, 2)
	if got := e.Snapshot().Text(); got != "3\n4" {
		t.Errorf("smaller: %q", got)
	}
	check(t, e)
	e.Resize(20, 6)
	_, _ = e.Write([]byte("x\r\ny"))
	if got := e.Snapshot().Text(); got != "3\n4 x\ny" {
		t.Errorf("larger: %q", got)
	}
	check(t, e)

	e = New(10, 4)
	_, _ = e.Write([]byte("1\r\n2\r\n3\r\n4\x1b[?1049h"))
	e.Resize(10, 2)
	_, _ = e.Write([]byte("\x1b[?1049lx"))
	if got := e.Snapshot().Text(); got != "3\n4x" {
		t.Errorf("beneath the alternate screen: %q", got)
	}
	e.Resize(0, -5)
	e.Resize(1<<20, 1<<20)
	if e.cols != MaxCols || e.rows != MaxRows {
		t.Errorf("%dx%d", e.cols, e.rows)
	}
	check(t, e)
}

// check holds what must be true of every screen.
func check(t *testing.T, e *Emulator) {
	t.Helper()
	if len(e.grid) != e.rows || e.cur.x < 0 || e.cur.x >= e.cols || e.cur.y < 0 || e.cur.y >= e.rows {
		t.Fatalf("%dx%d with %d lines, cursor %d,%d", e.cols, e.rows, len(e.grid), e.cur.x, e.cur.y)
	}
	if e.top < 0 || e.bottom > e.rows || e.top >= e.bottom {
		t.Fatalf("region %d..%d of %d", e.top, e.bottom, e.rows)
	}
	for _, grid := range [][][]cell{e.grid, e.other} {
		for y, row := range grid {
			if len(row) != e.cols {
				t.Fatalf("line %d has %d columns of %d", y, len(row), e.cols)
			}
			for x, c := range row {
				if c.r == wideTail && (x == 0 || row[x-1].r <= 0 || e.cols > 1 && runeWidth(row[x-1].r) != 2) {
					t.Fatalf("half a character at %d,%d", x, y)
				}
				if c.r > 0 && e.cols > 1 && runeWidth(c.r) == 2 && (x+1 >= len(row) || row[x+1].r != wideTail) {
					t.Fatalf("a wide character without its right half at %d,%d", x, y)
				}
				if int(c.marks) > len(e.marks.sets) {
					t.Fatalf("unknown marks at %d,%d", x, y)
				}
			}
		}
	}
	if len(e.title) > maxTitle || len(e.parser.control) > maxControl || len(e.marks.sets) > maxSets {
		t.Fatal("a bound is broken")
	}
}

// FuzzEmulator feeds the same bytes whole and in pieces: the screen must be the
// same, whole and within its bounds.
func FuzzEmulator(f *testing.F) {
	for _, s := range []string{
		"plain\r\ntext", "\x1b[31mred\x1b[m", "你好\x1b[2GX\x1b[4hY", "\x1b[?1049h\x1b[2;3r\x1b[?6h\x1b[L\x1b[3M\x1b[2S",
		"e\u0301\u0302\x1b[3b", "\x1b]0;title\x1b\\\x1bPdcs\x1b\\\x1b[6n\x1b[c", "\x1b(0lqk\x0e\x1b)0x", "\xe4\xbd", "\x1b[1:2;38:2::1:2:3m",
		"\x1b[999999999999@\x1b[P\x1b[X\x1b[Z\x1b[I", "\x1b7\x1b8\x1bM\x1bD\x1bE\x1bH\x1bc\x1b#8",
	} {
		f.Add([]byte(s), uint8(3), uint8(20), uint8(6))
	}
	f.Fuzz(func(t *testing.T, data []byte, step, cols, rows uint8) {
		if len(data) > 2048 {
			t.Skip("long inputs only take time")
		}
		cols, rows = cols%40, rows%20
		whole, pieces := New(int(cols), int(rows)), New(int(cols), int(rows))
		_, _ = whole.Write(data)
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(step)%7+1)
			_, _ = pieces.Write(rest[:n])
			rest = rest[n:]
		}
		check(t, whole)
		a, b := whole.Snapshot(), pieces.Snapshot()
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("whole and in pieces differ:\n%q\n%q", a.Text(), b.Text())
		}
		if ra, rb := whole.Reply(), pieces.Reply(); string(ra) != string(rb) {
			t.Fatalf("answers differ: %q, %q", ra, rb)
		}
		if !utf8.ValidString(a.Text()) {
			t.Fatalf("invalid text %q", a.Text())
		}
		whole.Resize(int(rows), int(cols))
		check(t, whole)
		_, _ = whole.Write(data)
		check(t, whole)
		if step == 0 {
			if _, err := whole.Snapshot().PNG(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func ExampleEmulator() {
	e := New(20, 3)
	_, _ = e.Write([]byte("loading 10%\rloading 99%\x1b[2;5Hok"))
	fmt.Println(e.Snapshot().Text())
	// Output:
	// loading 99%
	//     ok
}
