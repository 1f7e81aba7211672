package main

import (
	"bytes"
	"encoding/base64"
	"image/png"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPicture keeps the picture of docs/commands.md what the binary really shows: a
// terminal of a session, drawn by read_screen. MCP_SANDBOX_TEST_UPDATE=1 draws
// it again; otherwise the same commands are typed and what a reader is promised
// must be on the screen.
func TestPicture(t *testing.T) {
	if testing.Short() {
		t.Skip("the full run draws it, at the full level")
	}
	for _, p := range []string{"bash", "curl", "python3"} {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("MCP_SANDBOX_TEST_NOSKIP") == "1" {
				t.Fatal(err)
			}
			t.Skipf("the picture shows %s, which is not here", p)
		}
	}
	const file = "../../docs/terminal.png"
	c := startServer(t)
	c.initialize("2025-11-25")
	o := c.exec(map[string]any{"cmd": `exec env PS1='\[\e[1;32m\]$\[\e[0m\] ' bash --norc -i`, "tty": true, "cols": 84, "rows": 22, "yield_time_ms": 3000})
	if o.SessionID == nil {
		t.Fatalf("%+v", o)
	}
	text := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", text)
		}
	})
	for _, line := range []string{
		"pwd; whoami; echo hello > note; ls",
		"ls -A /home; cat /etc/shadow",
		"echo x >> /etc/passwd",
		"cat /proc/1/environ | wc -c; ps ax | wc -l",
		"curl -sS https://example.com",
		"python3 -m http.server 8000 -d . >/dev/null 2>&1 & sleep 1",
		"curl -s http://127.0.0.1:8000/note",
	} {
		c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "chars": line + "\r", "yield_time_ms": 250})
		waitFor(t, "the prompt", func() bool {
			text = c.ok("read_screen", map[string]any{"session_id": *o.SessionID}).text()
			return strings.Contains(text, line) && strings.HasSuffix(strings.TrimSpace(text), "$")
		})
	}
	for _, want := range []string{"sandbox", "/etc/passwd:", "Could not resolve host"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q on the screen:\n%s", want, text)
		}
	}
	shot := c.ok("read_screen", map[string]any{"session_id": *o.SessionID, "format": "png"})
	var drawn []byte
	for _, p := range shot.Content {
		if p.Type == "image" {
			drawn, _ = base64.StdEncoding.DecodeString(p.Data)
		}
	}
	if _, err := png.Decode(bytes.NewReader(drawn)); err != nil {
		t.Fatalf("no picture: %v", err)
	}
	if os.Getenv("MCP_SANDBOX_TEST_UPDATE") == "1" {
		if err := os.WriteFile(file, drawn, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(kept)); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}
