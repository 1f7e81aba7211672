package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSettingsAreOutOfReach: a file that sets the policy of the next session is
// refused where a session could change it, however it is named.
func TestSettingsAreOutOfReach(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	openPath(t, top)
	for _, d := range []string{"ws/deep", "write", "read", "outside"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"ws/c", "ws/deep/c", "write/c", "read/c", "outside/c"} {
		put(t, top+"/"+f+".toml", "")
		put(t, top+"/"+f+".json", "{}")
	}
	for name, to := range map[string]string{"outside/in": "../ws/c", "ws/out": "../outside/c"} {
		for _, ext := range []string{".toml", ".json"} {
			if err := os.Symlink(to+ext, top+"/"+name+ext); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink("ws/deep", top+"/dir"); err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	for _, tc := range []struct {
		flag, file string
		refused    bool
	}{
		{"--config", "ws/c.toml", true},
		{"--config", "ws/deep/../c.toml", true},
		{"--config", "dir/c.toml", true},
		{"--config", "write/c.toml", true},
		{"--config", "outside/in.toml", true},
		{"--config", "ws/out.toml", true},
		{"--config", "read/c.toml", false},
		{"--config", "outside/c.toml", false},
		{"--manifest", "ws/c.json", true},
		{"--manifest", "outside/in.json", true},
		{"--manifest", "ws/out.json", true},
		{"--manifest", "outside/c.json", false},
	} {
		out, err := h.try(append([]string{"exec", "--root", top + "/ws", "--write", top + "/write", "--read", top + "/read", tc.flag, top + "/" + tc.file}, append(levelArgs(), "--", "echo ran")...)...)
		if refused := err != nil && strings.Contains(out, "lies where"); refused != tc.refused || !tc.refused && !strings.Contains(out, "ran") {
			t.Errorf("%s %s: %v %s", tc.flag, tc.file, err, out)
		}
	}
}
