package session

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLeadsInto: the workspace is what a path leads to, however it is written.
func TestLeadsInto(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ws, out := filepath.Join(base, "ws"), filepath.Join(base, "out")
	for _, d := range []string{ws, out} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"alias": ws, "up": base, "relative": "ws/../ws", "nowhere": "none", "loop": "loop", "beside": out} {
		if err := os.Symlink(to, filepath.Join(base, name)); err != nil {
			t.Fatal(err)
		}
	}
	for p, want := range map[string]bool{
		ws: true, ws + "/r.git": true, ws + "2": false, out: false, out + "/not/there.git": false, base + "/beside/r.git": false,
		base + "/alias": true, base + "/alias/not/there.git": true, base + "/up/ws/r.git": true, base + "/up/out": false, base + "/relative/x": true,
		base + "/nowhere/x": true, base + "/loop": true, "/proc/self/cwd/r.git": true, "/dev/fd/7/r.git": true,
	} {
		if got := leadsInto(p, []string{ws, ""}); got != want {
			t.Errorf("%s: %v", p, got)
		}
	}
}
