package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLookingMakesNothing: what only looks leaves nothing behind, not in a state directory
// that is not there yet, in one that exists, nor where --audit-log points.
func TestLookingMakesNothing(t *testing.T) {
	for _, line := range []string{
		"sessions list", "sessions list --json", "sessions get absent f", "sessions delete absent", "sessions end --principal ann",
		"snapshots --root w list", "snapshots --root w show latest", "snapshots --root w check", "snapshots --root w export a.tar",
		"snapshots --root w restore latest", "snapshots --root w delete latest", "snapshots --root w prune",
		"review --root w", "review --root w --json", "review --root w --apply .", "review --list", "review --list --json",
		"clean", "clean --caches", "clean --stages", "clean --all",
		"doctor --root w", "doctor --json", "setup cursor --root w --print", "config cursor", "--version", "help limits",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			openPath(t, dir)
			for _, d := range []string{"w", "tmp", "there"} {
				if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			before := treeOf(t, dir)
			for _, state := range []string{"new", "there"} {
				cmd := exec.Command(binary, strings.Fields(line)...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir+"/tmp", "MCP_SANDBOX_STATE_DIR="+filepath.Join(dir, state), "MCP_SANDBOX_AUDIT_LOG="+dir+"/audit")
				out, _ := cmd.CombinedOutput()
				if code := cmd.ProcessState.ExitCode(); code != 0 && code != exitFailure && code != exitUsage {
					t.Errorf("status %d: %s", code, out)
				}
				if after := treeOf(t, dir); !slices.Equal(before, after) {
					t.Errorf("state %s: there is now\n%s\nafter\n%s", state, strings.Join(after, "\n"), out)
				}
				if strings.Contains(line, "--json") && strings.Contains(line, "list") && strings.TrimSpace(string(out)) != "[]" {
					t.Errorf("an empty list is %s", out)
				}
			}
			if fi, err := os.Stat(filepath.Join(dir, "there")); err != nil || fi.Mode().Perm() != 0o755 {
				t.Errorf("the directory that was there: %v %v", fi, err)
			}
		})
	}
}
