package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCleanAll: what is left is shown, removed only when somebody says so and no
// server works with it, and what is not a server's stays.
func TestCleanAll(t *testing.T) {
	root, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	openPath(t, root)
	put(t, filepath.Join(root, "f"), "x")
	giveToSandbox(t, root)
	clean := func(args ...string) (string, int) {
		cmd := exec.Command(binary, append([]string{"clean", "--state-dir", state}, args...)...)
		out, err := cmd.CombinedOutput()
		return string(out), exitCode(err)
	}
	if out, code := clean(); code != 0 || !strings.Contains(out, "nothing is left") {
		t.Errorf("%d, %s", code, out)
	}
	c := startServer(t, "--root", root, "--state-dir", state, "--session", "kept")
	c.initialize("2025-11-25")
	c.exec(map[string]any{"cmd": "rm f"})
	if out, code := clean("--all", "--yes"); code == 0 || !strings.Contains(out, "end them first") || !strings.Contains(out, "that live") {
		t.Errorf("with a server: %d, %s", code, out)
	}
	c.stop()
	put(t, filepath.Join(state, "mine"), "x")
	out, code := clean()
	for _, want := range []string{"snapshots ", "saved ", "key ", "--all"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%d, no %q in %s", code, want, out)
		}
	}
	if out, code := clean("--all"); code != 2 || !strings.Contains(out, "use --yes") {
		t.Errorf("without anybody to ask: %d, %s", code, out)
	}
	if out, code := clean("--all", "--yes"); code != 0 || !strings.Contains(out, "removed") {
		t.Errorf("%d, %s", code, out)
	}
	left, err := os.ReadDir(state)
	if err != nil || len(left) != 1 || left[0].Name() != "mine" {
		t.Errorf("%v, %v", left, err)
	}
}

// TestCleanForeign: a directory that only has names like those of a state directory
// is left as it is.
func TestCleanForeign(t *testing.T) {
	for name, files := range map[string][]string{
		"data":        {"sessions/mine.json", "caches/mine"},
		"a key":       {"key", "saved/mine"},
		"empty files": {"snapshots/.keep"},
		"a socket":    {"mine.sock"},
	} {
		dir := t.TempDir()
		for _, f := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755); err != nil {
				t.Fatal(err)
			}
			text := "{}"
			if strings.HasSuffix(f, ".keep") {
				text = ""
			}
			put(t, filepath.Join(dir, f), text)
		}
		out, err := exec.Command(binary, "clean", "--all", "--yes", "--state-dir", dir).CombinedOutput()
		if name == "a socket" {
			if err != nil || !strings.Contains(string(out), "nothing is left") {
				t.Errorf("%s: %v, %s", name, err, out)
			}
		} else if exitCode(err) != 2 || !strings.Contains(string(out), "name a state directory") {
			t.Errorf("%s: %v, %s", name, err, out)
		}
		for _, f := range files {
			if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
