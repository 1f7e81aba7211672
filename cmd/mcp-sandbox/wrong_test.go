package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// wrongSettings are values of the policy's flags that no session could be made
// with. %ws is the workspace; planted is a link in it that leads out.
var wrongSettings = []struct {
	flag, value string
	rest        []string
	exit        int
}{
	{"--confine", "sometimes", nil, exitUsage},
	{"--confine", "none", []string{"--min-confinement", "landlock"}, exitUsage},
	{"--min-confinement", "much", nil, exitUsage},
	{"--deny-read", "", nil, exitUsage},
	{"--deny-read", "[x", nil, exitUsage},
	{"--deny-read", "../up", nil, exitUsage},
	{"--deny-read", "%ws", nil, exitUsage},
	{"--protect", "/etc", nil, exitUsage},
	{"--protect", "../x", nil, exitUsage},
	{"--protect", ".", nil, exitUsage},
	{"--read", "relative", nil, exitUsage},
	{"--read", "/", nil, exitUsage},
	{"--read", "/proc/1", nil, exitUsage},
	{"--read", "%ws/missing", nil, exitFailure},
	{"--read", "%ws/planted", nil, exitUsage},
	{"--write", "relative", nil, exitUsage},
	{"--write", "/", nil, exitUsage},
	{"--write", "%ws/missing", nil, exitFailure},
	{"--write", "%ws/planted", nil, exitUsage},
}

// TestWrongSettingsEndTheServer: each ends every kind of server and exec before a
// client is heard, with the flag and the value in the text and the exit status
// that docs/troubleshooting.md gives.
func TestWrongSettingsEndTheServer(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ws := top + "/ws"
	if err := os.Mkdir(ws, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", ws+"/planted"); err != nil {
		t.Fatal(err)
	}
	tokens := top + "/tokens"
	if err := os.WriteFile(tokens, []byte("a:"+strings.Repeat("x", 40)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	starts := map[string][]string{
		"stdio": {"serve"},
		"http":  {"serve", "--transport", "http", "--listen", "127.0.0.1:0", "--token-file", tokens},
		"exec":  {"exec"},
	}
	doc, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrongSettings {
		if row := fmt.Sprintf("\n| %d | ", w.exit); !strings.Contains(string(doc), row) {
			t.Errorf("docs/errors.md has no exit code %d", w.exit)
		}
		value := strings.ReplaceAll(w.value, "%ws", ws)
		for name, start := range starts {
			args := append(append([]string{}, start...), "--state-dir", top+"/state", "--root", ws, w.flag, value)
			args = append(args, w.rest...)
			if name == "exec" {
				args = append(args, "--", "echo ran")
			}
			out, err := exec.Command(binary, args...).CombinedOutput()
			var status *exec.ExitError
			text := string(out)
			if !errors.As(err, &status) || status.ExitCode() != w.exit {
				t.Errorf("%s %s %q: %v, want exit status %d: %s", name, w.flag, value, err, w.exit, text)
			}
			if !strings.Contains(text, w.flag) || !strings.Contains(text, value) || strings.Contains(text, "ran\n") {
				t.Errorf("%s %s %q does not name the flag and the value: %s", name, w.flag, value, text)
			}
		}
	}
}
