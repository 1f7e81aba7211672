package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestFileTools walks through every file tool as a model would.
func TestFileTools(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	c.ok("write_file", map[string]any{"path": "src/a.go", "content": "package a\n\nfunc A() int { return 1 }\n"})
	c.ok("write_file", map[string]any{"path": "run.sh", "content": "#!/bin/sh\necho ran\n", "executable": true})
	if got := c.sh("./run.sh; cat src/a.go | wc -l"); !strings.HasPrefix(got, "ran\n3") {
		t.Fatalf("got %q", got)
	}
	if r := c.ok("edit_file", map[string]any{"path": "src/a.go", "old_text": "return 1", "new_text": "return 2"}); !strings.Contains(r.text(), "+func A() int { return 2 }") {
		t.Fatalf("no diff: %q", r.text())
	}
	c.bad("edit_not_found", "edit_file", map[string]any{"path": "src/a.go", "old_text": "return 1", "new_text": "x"})
	c.ok("write_file", map[string]any{"path": "twice", "content": "a\na\n"})
	c.bad("edit_not_unique", "edit_file", map[string]any{"path": "twice", "old_text": "a", "new_text": "b"})
	c.ok("apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Update File: src/a.go\n@@\n-func A() int { return 2 }\n+func A() int { return 3 }\n*** Add File: b.txt\n+new\n*** End Patch\n"})
	c.bad("patch_failed", "apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Update File: src/a.go\n@@\n-not there\n+x\n*** End Patch\n"})
	if got := c.sh("grep -c 'return 3' src/a.go; cat b.txt"); got != "1\nnew\n" {
		t.Fatalf("got %q", got)
	}
	if r := c.ok("find_files", map[string]any{"pattern": "**/*.go"}); !strings.Contains(r.text(), "src/a.go") {
		t.Fatalf("find: %q", r.text())
	}
	if r := c.ok("search_text", map[string]any{"pattern": "return \\d", "glob": "*.go"}); !strings.Contains(r.text(), "src/a.go:3:") {
		t.Fatalf("search: %q", r.text())
	}
	c.ok("mkdir", map[string]any{"path": "x/y", "recursive": true})
	c.ok("mv", map[string]any{"path": "b.txt", "destination": "x/y/b.txt"})
	c.sh("cd x && tar czf ../x.tar.gz y")
	c.ok("extract_archive", map[string]any{"path": "x.tar.gz", "destination": "out"})
	if got := c.sh("cat out/y/b.txt"); got != "new\n" {
		t.Fatalf("got %q", got)
	}
	c.sh("ln -s /etc/passwd link")
	c.ok("rm", map[string]any{"path": "link"})
	c.ok("rm", map[string]any{"path": "x", "recursive": true})
	c.bad("invalid_argument", "rm", map[string]any{"path": ".", "recursive": true})
	if r := c.ok("ls", map[string]any{"path": ".", "depth": 2}); strings.Contains(r.text(), "x/y") || !strings.Contains(r.text(), "src/a.go") {
		t.Fatalf("ls: %q", r.text())
	}
	if r := c.ok("read_file", map[string]any{"path": "src/a.go", "offset": 3, "line_numbers": true}); !strings.Contains(r.text(), "\n3:func A()") {
		t.Fatalf("line numbers: %q", r.text())
	}
	// A 1x1 PNG comes back as an image.
	c.ok("write_file", map[string]any{"path": "dot.png", "encoding": "base64",
		"content": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="})
	r := c.ok("read_file", map[string]any{"path": "dot.png"})
	if n := len(r.Content); n != 2 || r.Content[1].Type != "image" || r.Content[1].MIMEType != "image/png" {
		t.Fatalf("image: %+v", r.Content)
	}
	if r := c.ok("read_file", map[string]any{"path": "src/a.go", "offset": -1}); !strings.Contains(r.text(), "return 3") || strings.Contains(r.text(), "package") {
		t.Fatalf("tail: %q", r.text())
	}
}

// TestSnapshotTools: undo of an rm -rf through the tools.
func TestSnapshotTools(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	c.sh("mkdir -p d/e; for i in $(seq 50); do echo $i > d/e/$i; done; ln -s d link; chmod 750 d")
	r := c.ok("snapshot_create", map[string]any{"label": "before"})
	var in struct {
		ID string `json:"snapshot_id"`
	}
	if err := json.Unmarshal(r.Structured, &in); err != nil || in.ID == "" {
		t.Fatalf("no id in %s: %v", r.Structured, err)
	}
	c.sh("rm -rf d/e link; echo x > new")
	if r := c.ok("snapshot_diff", map[string]any{"snapshot_id": in.ID}); !strings.Contains(r.text(), "removed d/e/50") || !strings.Contains(r.text(), "added new") {
		t.Fatalf("diff: %q", r.text())
	}
	if r := c.ok("snapshot_list", nil); !strings.Contains(r.text(), "before") {
		t.Fatalf("list: %q", r.text())
	}
	c.ok("snapshot_restore", map[string]any{"snapshot_id": in.ID})
	if got := c.sh("cat d/e/50 link/e/1; stat -c %a d; ls; touch d/e/1"); got != "50\n1\n750\nd\nlink\n" {
		t.Fatalf("got %q", got)
	}
	c.bad("snapshot_not_found", "snapshot_diff", map[string]any{"snapshot_id": "20200101T000000Z-000000"})
}

// TestReadOutput: what was cut can be read, whether it was kept in memory or
// spooled, by line and by pattern.
func TestReadOutput(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	for _, n := range []string{"2000", "400000"} {
		o := c.exec(map[string]any{"cmd": "seq 1 " + n, "max_output_tokens": 100, "yield_time_ms": 30000})
		if !o.Truncated || o.OutputID == "" {
			t.Fatalf("%s: %+v", n, o)
		}
		r := c.ok("read_output", map[string]any{"output_id": o.OutputID, "offset": 1000, "limit": 2})
		if !strings.HasSuffix(r.text(), "\n1000\n1001\n") {
			t.Errorf("%s: lines %q", n, r.text())
		}
		r = c.ok("read_output", map[string]any{"output_id": o.OutputID, "pattern": "^1[0-9]99$", "limit": 2})
		if !strings.HasSuffix(r.text(), "\n1099:1099\n1199:1199\n") {
			t.Errorf("%s: pattern %q", n, r.text())
		}
	}
	c.bad("not_found", "read_output", map[string]any{"output_id": "out_0000"})
	c.bad("invalid_argument", "read_output", map[string]any{"output_id": "out_0000", "pattern": "("})
}

// TestReadScreen: a full-screen program is seen as a person would see it.
func TestReadScreen(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	o := c.exec(map[string]any{"cmd": "printf '\\033[2J\\033[3;5Hhello \\033[1mbold\\033[0m'; read x", "tty": true, "yield_time_ms": 300, "cols": 40, "rows": 10})
	if o.SessionID == nil {
		t.Fatalf("ended: %+v", o)
	}
	waitFor(t, "the screen", func() bool {
		return strings.Contains(c.ok("read_screen", map[string]any{"session_id": *o.SessionID}).text(), "hello bold")
	})
	r := c.ok("read_screen", map[string]any{"session_id": *o.SessionID, "format": "png"})
	if len(r.Content) != 1 || r.Content[0].Type != "image" || len(r.Content[0].Data) < 100 {
		t.Fatalf("png: %+v", r.Content)
	}
	c.ok("kill_process", map[string]any{"session_id": *o.SessionID})
}
