package tools

import (
	"strings"
	"testing"
	"unicode"
)

func TestPlain(t *testing.T) {
	bar := strings.Repeat("\r 10% [=    ]", 99) + "\r100% [=====]\n"
	up := "a 1\nb 1\nc 1\n" + strings.Repeat("\x1b[3A\x1b[2K\ra 2\n\x1b[2K\rb 2\n\x1b[2K\rc 2\n", 60)
	for _, c := range []struct {
		name, in, want   string
		controls, frames int
	}{
		{"plain", "a\tb\n界😀\n", "a\tb\n界😀\n", 0, 0},
		{"line ends", "a\r\nb\r\r\nc\n", "a\r\nb\r\nc\n", 0, 0},
		{"bytes", "a\x00b\x01\x08\x1bcc\x7f", `a\x00b\x01\x08c\x7f`, 4, 0},
		{"nul", "a\x00b", `a\x00b`, 1, 0},
		{"colours", "\x1b[1;31mred\x1b[0m \x1b[38;5;1mx\x1b[m\n", "red x\n", 0, 0},
		{"titles", "\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b]52;c;aGk=\x07", "ab", 0, 0},
		{"modes", "\x1b[?2004h$ \x1b[?1h\x1b=\x1b(B", "$ ", 0, 0},
		{"bar", bar, "100% [=====]\n", 0, 99},
		{"bar without end", "1%\r2%\r3%\r", "3%", 0, 2},
		{"shorter frame", "downloading\rdone\n", "done\n", 0, 1},
		{"up", up, "a 2\nb 2\nc 2\n", 0, 180},
		{"overstrike", "N\bNA\bA", "NA", 0, 0},
		{"prompt", "\x1b[1G\x1b[0J> \x1b[3G", "> ", 0, 0},
		{"retyped", "abc\b\b\x1b[K", "a", 0, 0},
		{"cut off", "a\x1b[3", "a", 0, 0},
		{"lone escape", "a\x1b\nb", "a\\x1b\nb", 1, 0},
		{"c1", "a\u009bb", `a\x9bb`, 1, 0},
	} {
		if got := plain(c.in); got.text != c.want || got.controls != c.controls || got.frames != c.frames {
			t.Errorf("%s: %q %d %d, want %q %d %d", c.name, got.text, got.controls, got.frames, c.want, c.controls, c.frames)
		}
	}
}

// FuzzPlain: whatever comes, no control character but tab and line ends remains.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"a\x00b\x01\x08\x1b\x1bc\x7f", "\x1b[3A\x1b[2Kx\r\n", "\x1b]0;t\x07", "\x1b[999999999C x", "\x1b[5A\x1b[Jy\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, text := range []string{plain(s).text, escaped(s)} {
			text = strings.ReplaceAll(text, "\r\n", "\n")
			if i := strings.IndexFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }); i >= 0 {
				t.Fatalf("%q has a control character at %d", text, i)
			}
		}
	})
}
