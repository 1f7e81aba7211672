package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestParallelWrites: two servers on one workspace and the shell write to one
// file at once; what was acknowledged is there.
func TestParallelWrites(t *testing.T) {
	root := t.TempDir()
	_ = os.Chmod(root, 0o755)
	var lines strings.Builder
	for i := range 20 {
		fmt.Fprintf(&lines, "line %d: old\n", i)
	}
	file := filepath.Join(root, "f")
	if err := os.WriteFile(file, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	giveToSandbox(t, root)
	servers := []*client{startServer(t, "--root", root), startServer(t, "--root", root)}
	for _, c := range servers {
		c.initialize("2025-11-25")
	}
	_, shell := servers[0].sendCall("exec_command", map[string]any{"cmd": "for i in $(seq 100); do echo shell $i. >> other; done", "yield_time_ms": 45000})
	type sent struct {
		c    *client
		ch   <-chan message
		want string
	}
	var all []sent
	send := func(c *client, tool, want string, args map[string]any) {
		_, ch := c.sendCall(tool, args)
		all = append(all, sent{c, ch, want})
	}
	for i := range 60 {
		c := servers[i%2]
		if i < 20 {
			send(c, "edit_file", fmt.Sprintf("line %d: new\n", i), map[string]any{"path": "f", "old_text": fmt.Sprintf("line %d: old\n", i), "new_text": fmt.Sprintf("line %d: new\n", i)})
		}
		for _, name := range []string{"f", "other", "new"} {
			line := fmt.Sprintf("%s appended %d.\n", name, i)
			send(c, "write_file", line, map[string]any{"path": name, "content": line, "mode": "append"})
		}
	}
	for i := range 10 {
		name, line := fmt.Sprintf("made %d", i), fmt.Sprintf("patched %d\n", i)
		send(servers[i%2], "apply_patch", line, map[string]any{"patch": "*** Begin Patch\n*** Add File: " + name + "\n+" + line + "*** End Patch\n"})
	}
	for _, s := range all {
		if r := s.c.result(s.c.await(s.ch)); r.IsError {
			t.Errorf("%q: %s", s.want, r.text())
		}
	}
	if r := servers[0].result(servers[0].await(shell)); r.IsError {
		t.Errorf("the shell: %s", r.text())
	}
	var text strings.Builder
	entries, _ := os.ReadDir(root)
	for _, e := range entries {
		b, _ := os.ReadFile(filepath.Join(root, e.Name()))
		text.Write(b)
	}
	for _, s := range all {
		if n := strings.Count(text.String(), s.want); n != 1 {
			t.Errorf("%q is there %d times", s.want, n)
		}
	}
	for i := range 100 {
		if want := fmt.Sprintf("shell %d.\n", i+1); strings.Count(text.String(), want) != 1 {
			t.Errorf("%q is lost", want)
		}
	}
}

// TestWritesKeepTheForm: encoding and line ends of a file outlive an append and
// are told when they do not outlive the call; a read-only file needs force.
func TestWritesKeepTheForm(t *testing.T) {
	root := t.TempDir()
	_ = os.Chmod(root, 0o755)
	for name, content := range map[string]string{
		"crlf": "a\r\nb\r\n", "utf16": "\xff\xfea\x00\n\x00", "latin1": "caf\xe9 au lait\n", "bom": "\xef\xbb\xbfa\n", "plain": "a\n", "ro": "x\n", "held": "x\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Chmod(filepath.Join(root, "ro"), 0o444)
	c := startServer(t, "--root", root)
	c.initialize("2025-11-25")
	for _, tc := range []struct{ name, add, want, note string }{
		{"crlf", "c\nd\n", "a\r\nb\r\nc\r\nd\r\n", "CRLF"},
		{"utf16", "é\n", "\xff\xfea\x00\n\x00\xe9\x00\n\x00", "utf-16le"},
		{"latin1", "é\n", "caf\xe9 au lait\n\xe9\n", "windows-1252"},
		{"bom", "b\n", "\xef\xbb\xbfa\nb\n", ""},
		{"plain", "é\n", "a\né\n", ""},
	} {
		text := c.ok("write_file", map[string]any{"path": tc.name, "content": tc.add, "mode": "append"}).text()
		if got, _ := os.ReadFile(filepath.Join(root, tc.name)); string(got) != tc.want {
			t.Errorf("%s: %q", tc.name, got)
		}
		if strings.Contains(text, "form of the file") != (tc.note != "") || !strings.Contains(text, tc.note) {
			t.Errorf("%s: %s", tc.name, text)
		}
	}
	if text := c.bad("invalid_argument", "write_file", map[string]any{"path": "latin1", "content": "\u65e5\n", "mode": "append"}); !strings.Contains(text, "windows-1252") {
		t.Errorf("%s", text)
	}
	if text := c.ok("write_file", map[string]any{"path": "utf16", "content": "x\n"}).text(); !strings.Contains(text, "was utf-16le with a byte order mark and is now utf-8") {
		t.Errorf("%s", text)
	}
	for _, call := range []struct {
		tool string
		args map[string]any
	}{
		{"write_file", map[string]any{"path": "ro", "content": "y\n"}},
		{"write_file", map[string]any{"path": "ro", "content": "y\n", "mode": "append"}},
		{"edit_file", map[string]any{"path": "ro", "old_text": "x", "new_text": "y"}},
		{"apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Update File: ro\n@@\n-x\n+y\n*** End Patch\n"}},
	} {
		if text := c.bad("permission_denied", call.tool, call.args); !strings.Contains(text, "force") {
			t.Errorf("%s: %s", call.tool, text)
		}
	}
	c.ok("edit_file", map[string]any{"path": "ro", "old_text": "x", "new_text": "y", "force": true})
	c.ok("write_file", map[string]any{"path": "ro", "content": "z\n", "mode": "append", "force": true})
	if got, _ := os.ReadFile(filepath.Join(root, "ro")); string(got) != "y\nz\n" {
		t.Errorf("%q", got)
	}
	// A program that holds the file open goes on writing to the same one.
	o := c.exec(map[string]any{"cmd": "exec 3>>held; echo up; read x; echo held >&3", "keep_stdin": true, "wait_for": "up"})
	c.ok("write_file", map[string]any{"path": "held", "content": "tool\n", "mode": "append"})
	c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "chars": "\n"})
	if got, _ := os.ReadFile(filepath.Join(root, "held")); string(got) != "x\ntool\nheld\n" {
		t.Errorf("held open: %q", got)
	}
}

// TestIfUnchanged: a write that goes by a version is refused as soon as anybody
// has changed the file, and tells the next version.
func TestIfUnchanged(t *testing.T) {
	root := t.TempDir()
	openPath(t, root)
	put(t, filepath.Join(root, "f"), "one\n")
	put(t, filepath.Join(root, "large"), strings.Repeat("large\n", 2<<20))
	giveToSandbox(t, root)
	c := startServer(t, "--root", root)
	c.initialize("2025-11-25")
	versionIn := func(text string) string {
		t.Helper()
		m := regexp.MustCompile(`, version ([0-9a-f]{12})`).FindStringSubmatch(strings.SplitN(text, "\n", 2)[0])
		if m == nil {
			t.Fatalf("no version in %.200q", text)
		}
		return m[1]
	}
	read := func(path string) string {
		return versionIn(c.ok("read_file", map[string]any{"path": path, "limit": 1}).text())
	}

	v := read("f")
	if again := read("f"); again != v {
		t.Errorf("the version of an unchanged file was %s and is %s", v, again)
	}
	v = versionIn(c.ok("edit_file", map[string]any{"path": "f", "old_text": "one", "new_text": "two", "if_unchanged": v}).text())
	if now := read("f"); now != v {
		t.Errorf("an edit told the version %s, a read tells %s", v, now)
	}
	v = versionIn(c.ok("write_file", map[string]any{"path": "f", "content": "three\n", "if_unchanged": v}).text())
	if now := read("f"); now != v {
		t.Errorf("a write told the version %s, a read tells %s", v, now)
	}
	for name, change := range map[string]func(){
		"a command":           func() { c.exec(map[string]any{"cmd": "echo more >> f"}) },
		"one of equal length": func() { c.exec(map[string]any{"cmd": "sed s/o/0/ f > g && cat g > f"}) },
		"a tool":              func() { c.ok("write_file", map[string]any{"path": "f", "content": "tool\n"}) },
		"a missing file":      func() { c.ok("rm", map[string]any{"path": "f"}) },
	} {
		c.ok("write_file", map[string]any{"path": "f", "content": "one two\n"})
		v := read("f")
		change()
		was, _ := os.ReadFile(filepath.Join(root, "f"))
		for _, mode := range []string{"overwrite", "append"} {
			if text := c.bad("conflict", "write_file", map[string]any{"path": "f", "content": "lost\n", "mode": mode, "if_unchanged": v}); !strings.Contains(text, v) {
				t.Errorf("%s, %s: %s", name, mode, text)
			}
		}
		if name != "a missing file" {
			c.bad("conflict", "edit_file", map[string]any{"path": "f", "old_text": "o", "new_text": "u", "replace_all": true, "if_unchanged": v})
		}
		if now, _ := os.ReadFile(filepath.Join(root, "f")); string(now) != string(was) {
			t.Errorf("%s: a refused write left %q", name, now)
		}
	}
	c.bad("invalid_argument", "write_file", map[string]any{"path": "fresh", "content": "", "mode": "create", "if_unchanged": v})

	v = read("large")
	c.exec(map[string]any{"cmd": "printf L | dd of=large conv=notrunc status=none"})
	c.bad("conflict", "edit_file", map[string]any{"path": "large", "old_text": "Large", "new_text": "x", "if_unchanged": v})
	c.ok("edit_file", map[string]any{"path": "large", "old_text": "Large", "new_text": "x", "if_unchanged": read("large")})
}
