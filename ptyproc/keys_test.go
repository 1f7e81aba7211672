package ptyproc

import (
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	for name, want := range map[string][2]string{ // normal, application
		"Up": {"\x1b[A", "\x1bOA"}, "down": {"\x1b[B", "\x1bOB"}, "RIGHT": {"\x1b[C", "\x1bOC"}, "Left": {"\x1b[D", "\x1bOD"},
		"Home": {"\x1b[H", "\x1bOH"}, "End": {"\x1b[F", "\x1bOF"}, "C-Up": {"\x1b[1;5A", "\x1b[1;5A"}, "S-M-Left": {"\x1b[1;4D", "\x1b[1;4D"},
		"PageUp": {"\x1b[5~", ""}, "PgDn": {"\x1b[6~", ""}, "C-Delete": {"\x1b[3;5~", ""}, "Insert": {"\x1b[2~", ""},
		"F1": {"\x1bOP", ""}, "F2": {"\x1bOQ", ""}, "F5": {"\x1b[15~", ""}, "F12": {"\x1b[24~", ""}, "S-F1": {"\x1b[1;2P", ""}, "C-F5": {"\x1b[15;5~", ""},
		"Enter": {"\r", ""}, "Return": {"\r", ""}, "M-Enter": {"\x1b\r", ""}, "Tab": {"\t", ""}, "S-Tab": {"\x1b[Z", ""}, "BTab": {"\x1b[Z", ""},
		"Space": {" ", ""}, "C-Space": {"\x00", ""}, "Escape": {"\x1b", ""}, "Esc": {"\x1b", ""}, "Backspace": {"\x7f", ""}, "BSpace": {"\x7f", ""},
		"C-c": {"\x03", ""}, "c-C": {"\x03", ""}, "^C": {"\x03", ""}, "Ctrl-C": {"\x03", ""}, "Ctrl+c": {"\x03", ""}, "C-[": {"\x1b", ""}, "C-\\": {"\x1c", ""},
		"C-?": {"\x7f", ""}, "C-/": {"\x1f", ""}, "M-x": {"\x1bx", ""}, "Alt+x": {"\x1bx", ""}, "M-X": {"\x1bX", ""}, "C-M-a": {"\x1b\x01", ""},
		"q": {"q", ""}, "Q": {"Q", ""}, "-": {"-", ""}, "^": {"^", ""}, "S-a": {"A", ""}, "é": {"é", ""}, "M--": {"\x1b-", ""},
	} {
		keys, err := ParseKeys([]string{name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want[1] == "" {
			want[1] = want[0]
		}
		for i, application := range []bool{false, true} {
			if got := string(keys[0].bytes(application)); got != want[i] {
				t.Errorf("%s, application %v: %q, want %q", name, application, got, want[i])
			}
		}
	}
	for _, bad := range []string{"", "hello", "F13", "C-", "C-é", "Hyper-x", "Up Down", "\xff"} {
		if _, err := ParseKeys([]string{"Up", bad}); err == nil || !strings.Contains(err.Error(), "is not a key") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
