package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFileControls: control characters of files reach no client as they are, from no
// tool: a single NUL in a result ends conversations, and a sequence steers the
// terminal of who shows it.
func TestFileControls(t *testing.T) {
	root := t.TempDir()
	odd := "q\x00\x1b]52;c;aGk=\x07\b\x7f\u0085q"
	late := strings.Repeat("a line of text\n", 2000) + odd + "\n"
	put(t, filepath.Join(root, "late"), late)
	put(t, filepath.Join(root, "steers"), "x\x1b]2;t\x07\n")
	put(t, filepath.Join(root, "plain"), "a\r\nb\f\r\n\tc\n")
	put(t, filepath.Join(root, "e\x1b[1m\n"), "x\n")
	openPath(t, root)
	c := startServer(t, "--root", root, "--structured", "on")
	c.initialize("2025-11-25")
	for _, call := range []struct {
		tool string
		args map[string]any
		want string
	}{
		{"snapshot_create", nil, "files"},
		{"read_file", map[string]any{"path": "late", "offset": -1}, `q\x00\x1b]52;c;aGk=\x07\x08\x7f\x85q`},
		{"read_file", map[string]any{"path": "late", "offset": -1}, `6 control characters are shown as \xNN: encoding base64 has the bytes`},
		{"search_text", map[string]any{"pattern": "aGk"}, `late:2001:q\x00`},
		{"edit_file", map[string]any{"path": "late", "old_text": "aGk=", "new_text": "zz"}, `+q\x00\x1b]52;c;zz\x07`},
		{"edit_file", map[string]any{"path": "late", "old_text": "q\x00\x1b]52;c;zz now", "new_text": "zz"}, "edit_not_found"},
		{"write_file", map[string]any{"path": "steers", "content": "y\n"}, "wrote steers"},
		{"snapshot_diff", map[string]any{"snapshot_id": "latest"}, `-x\x1b]2;t\x07`},
		{"mv", map[string]any{"path": "e\x1b[1m\n", "destination": "f\x1b[1m\n"}, `moved e\x1b[1m\x0a to f\x1b[1m\x0a`},
		{"write_file", map[string]any{"path": "f\x1b[1m\n", "content": "y"}, `wrote f\x1b[1m\x0a`},
		{"rm", map[string]any{"path": "f\x1b[1m\n"}, `removed f\x1b[1m\x0a`},
		{"mkdir", map[string]any{"path": "d\x1b"}, `made d\x1b`},
		{"ls", nil, `d\x1b`},
		{"find_files", map[string]any{"pattern": "*"}, "late"},
		{"read_file", map[string]any{"path": "plain"}, "a\r\nb\f\r\n\tc\n"},
	} {
		r := c.call(call.tool, call.args)
		text := r.text()
		if !strings.Contains(text, call.want) {
			t.Errorf("%s %v answers %q, without %q", call.tool, call.args, text, call.want)
		}
		var structured any
		if len(r.Structured) > 0 {
			if err := json.Unmarshal(r.Structured, &structured); err != nil {
				t.Fatal(err)
			}
			eachString(structured, func(s string) { text += s })
		}
		// Names in data are as they are: programs go by them.
		for _, bad := range []string{"\x00", "\x1b]", "\x07", "\b", "\x7f", "\u0085"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s %v: the reply has %q", call.tool, call.args, bad)
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(root, "late")); err != nil || string(b) != strings.Replace(late, "aGk=", "zz", 1) {
		t.Errorf("the file ends with %q, %v", b[max(0, len(b)-40):], err)
	}
}

func eachString(v any, fn func(string)) {
	switch v := v.(type) {
	case string:
		fn(v)
	case []any:
		for _, e := range v {
			eachString(e, fn)
		}
	case map[string]any:
		for _, e := range v {
			eachString(e, fn)
		}
	}
}

// TestLandlockHasNoNetwork: a level without a loopback of its own says that there is none.
func TestLandlockHasNoNetwork(t *testing.T) {
	c := startServer(t, append(atLandlock(), "--root", t.TempDir())...)
	c.initialize("2025-11-25")
	text := c.ok("session_info", nil).text()
	if !strings.Contains(text, "\nnetwork: none\n") || strings.Contains(text, "ports are reachable") {
		t.Errorf("%s", text)
	}
}
