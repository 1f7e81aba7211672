package ptyproc

import "testing"

func TestWithoutEcho(t *testing.T) {
	for _, c := range []struct{ text, typed, want string }{
		{"$ echo DONE\nDONE\n$ ", "echo DONE\r", "$ \nDONE\n$ "},
		{"$ echo DO", "echo DONE\r", "$ "},
		{"$ ", "echo DONE\r", "$ "},
		{"a\nb\na\nb\n", "a\rb\r", "\n\na\nb\n"},
		{"DONE\nDONE\n", "DONE\n", "\nDONE\n"},
		{"other DONE", "make\r", "other DONE"},
		{"other", "", "other"},
		{"é is é", "é\r", " is é"},
	} {
		if got := string(withoutEcho([]byte(c.text), []byte(c.typed))); got != c.want {
			t.Errorf("%q after typing %q: %q, want %q", c.text, c.typed, got, c.want)
		}
	}
}
