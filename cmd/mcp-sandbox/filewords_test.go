package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestFileWords: what the file tools say lets a model go on without looking
// again.
func TestFileWords(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	if r := c.ok("rm", map[string]any{"path": "none/at/all", "recursive": true}); r.text() != "nothing to remove: none/at/all does not exist\n" {
		t.Errorf("%q", r.text())
	}
	c.bad("not_found", "rm", map[string]any{"path": "none"})
	if text := c.bad("not_found", "mkdir", map[string]any{"path": "a/b/c"}); !strings.Contains(text, "parent directory a does not exist; set recursive") {
		t.Errorf("%q", text)
	}
	// Modes are those of ls(1).
	c.sh("umask 022; mkdir d s t; touch f x suid; chmod 750 d; chmod 2755 s; chmod 1777 t; chmod +x x; chmod 4644 suid; ln -s f link; mkfifo p; mkdir n; chmod 1776 n")
	want := c.sh("ls -lA --time-style=+ . | awk 'NR > 1 {print $1, $6}'")
	tool := c.ok("ls", map[string]any{"all": true}).text()
	var got strings.Builder
	for line := range strings.Lines(tool) {
		fields := strings.Fields(line)
		fmt.Fprintln(&got, fields[0], strings.TrimSuffix(fields[3], "/"))
	}
	if got.String() != want {
		t.Errorf("ls tool:\n%sls(1):\n%s", got.String(), want)
	}
	// Where a patch changed the file, or why it did not.
	c.ok("write_file", map[string]any{"path": "p.py", "content": "def a():\n    pass\n\ndef b():\n    pass\n"})
	if text := c.bad("patch_failed", "apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Update File: p.py\n@@\n-    pass\n+    return\n*** End Patch\n"}); !strings.Contains(text, "two places (lines 2, 5)") {
		t.Errorf("%q", text)
	}
	if r := c.ok("apply_patch", map[string]any{"patch": "apply_patch <<'EOF'\n*** Begin Patch\n*** Update File: p.py\n@@ def b():\n-    pass\n+    x = 1\n+    return x\n*** End Patch\nEOF\n"}); r.text() != "update p.py (+2 -1) at line 5-6\n" {
		t.Errorf("%q", r.text())
	}
	c.ok("write_file", map[string]any{"path": "nb", "content": "a\u00a0= 1\n"})
	if text := c.bad("edit_not_found", "edit_file", map[string]any{"path": "nb", "old_text": "a = 1", "new_text": "x"}); !strings.Contains(text, "line 1, column 2: the file has U+00A0") {
		t.Errorf("%q", text)
	}
	c.sh(`printf 'a\r\nb\r\n' > ends`)
	if r := c.ok("edit_file", map[string]any{"path": "ends", "old_text": "a\r\nb\r\n", "new_text": "a\nb\n"}); !strings.Contains(r.text(), "[line ends: 2 CRLF before, 2 LF now]") {
		t.Errorf("%q", r.text())
	}
}

// TestSearchSaysWhatItLeftOut: no match is no proof where files were ignored or
// could not be read, and a tracked file is never ignored.
func TestSearchSaysWhatItLeftOut(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	c.sh("git init -q . 2>&1; printf 'dist/\\n*.log\\n' > .gitignore; mkdir -p dist nope; echo needle > dist/x.js; echo needle > kept.log; echo needle > a.log; echo NEEDLE.+ > b.txt; git add -f kept.log; echo needle > nope/y; echo needle > nr; chmod 0 nope nr")
	text := func(tool string, args map[string]any) string { return c.ok(tool, args).text() }
	for _, tc := range []struct {
		tool string
		args map[string]any
		want string
	}{
		{"search_text", map[string]any{"pattern": "needle"}, "kept.log:1:needle\n[ignored and left out: 1 file, 1 directory; all includes them]\n[could not be read: nr, nope]\n"},
		{"search_text", map[string]any{"pattern": "absent", "glob": "*.js"}, "no match\n[ignored and left out: 1 directory; all includes them]\n[could not be read: nope]\n"},
		{"search_text", map[string]any{"pattern": "needle", "all": true, "glob": "{a.log,*.js}"}, "a.log:1:needle\ndist/x.js:1:needle\n[could not be read: nope]\n"},
		{"search_text", map[string]any{"pattern": "needle.+", "ignore_case": true, "literal": true}, "b.txt:1:NEEDLE.+\n[ignored and left out: 1 file, 1 directory; all includes them]\n[could not be read: nr, nope]\n"},
		{"find_files", map[string]any{"pattern": "*.log"}, "kept.log\n[ignored and left out: 1 file, 1 directory; all includes them]\n[could not be read: nope]\n"},
		{"find_files", map[string]any{"pattern": "*.js", "all": true}, "dist/x.js\n[could not be read: nope]\n"},
	} {
		if got := text(tc.tool, tc.args); got != tc.want {
			t.Errorf("%s %v:\n%swant\n%s", tc.tool, tc.args, got, tc.want)
		}
	}
	if got := text("ls", map[string]any{"depth": 2}); !strings.Contains(got, "[could not be read: nope]") || strings.Contains(got, "more entries") {
		t.Errorf("ls: %s", got)
	}
	c.sh("chmod 755 nope")
}
