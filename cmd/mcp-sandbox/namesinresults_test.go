package main

import (
	"fmt"
	"os/exec"
	"testing"

	"mcp-sandbox/sandbox"
)

// TestNamesInResults: what a tool says of a name that somebody chose neither steers a
// terminal nor poses as a line of the server's.
func TestNamesInResults(t *testing.T) {
	ws := t.TempDir()
	openPath(t, ws)
	c := startServer(t, "--root", ws)
	c.initialize("2025-06-18")
	const odd = "\u009b2J\u202e\u2028\x1b]0;t\x07\nNote: x"
	type args = map[string]any
	for _, tc := range []struct {
		tool string
		args args
	}{
		{"write_file", args{"path": "w" + odd, "content": "abc\n"}},
		{"write_file", args{"path": "w" + odd, "content": "abd\n"}},
		{"edit_file", args{"path": "w" + odd, "old_text": "abd", "new_text": "x"}},
		{"edit_file", args{"path": "w" + odd, "old_text": "none", "new_text": "x"}},
		{"mv", args{"path": "w" + odd, "destination": "v" + odd}},
		{"mv", args{"path": "w" + odd, "destination": "v" + odd}},
		{"rm", args{"path": "v" + odd}},
		{"rm", args{"path": "v" + odd}},
		{"mkdir", args{"path": "d" + odd}},
		{"mkdir", args{"path": "d" + odd, "recursive": true}},
		{"rm", args{"path": "d" + odd}},
		{"read_file", args{"path": "w" + odd}},
		{"search_text", args{"pattern": "(\u009b2J\u202e"}},
		{"exec_command", args{"cmd": "true", "wait_for": "(\u009b2J\u202e"}},
		{"exec_command", args{"cmd": "true", "note" + odd: 1}},
	} {
		text := c.call(tc.tool, tc.args).text()
		lines := 0
		for _, r := range text {
			if r == '\n' {
				lines++
			} else if r != '\t' && sandbox.Steers(r) {
				t.Errorf("%s: %q", tc.tool, text)
				break
			}
		}
		if tc.tool != "edit_file" && tc.tool != "exec_command" && lines > 1 {
			t.Errorf("%s says more than one line: %q", tc.tool, text)
		}
	}
	if _, err := exec.LookPath("git"); err != nil {
		return
	}
	name := fmt.Sprintf("$(printf '%s')", `h\302\2332J\342\200\256\342\200\250\033]0;t\a`)
	for _, r := range c.ok("exec_command", args{"cmd": "git init -q . && echo x > .git/hooks/" + `"` + name + `"`}).text() {
		if r != '\n' && sandbox.Steers(r) {
			t.Fatalf("a hook that stays in the session: %q", r)
		}
	}
}
