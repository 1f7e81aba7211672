package main

import (
	"fmt"
	"os"
	"path/filepath"
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
	servers[0].await(shell)
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
		{"latin1", "é\n", "caf\xe9 au lait\n\xe9\n", "iso-8859-1"},
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
	if text := c.bad("invalid_argument", "write_file", map[string]any{"path": "latin1", "content": "\u65e5\n", "mode": "append"}); !strings.Contains(text, "iso-8859-1") {
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
