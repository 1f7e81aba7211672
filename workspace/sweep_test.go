package workspace

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSweep: what killed servers left goes, in every directory; what a living one
// is about to give its name, and what only looks similar, stays.
func TestSweep(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	f.needNames.Store(true)
	put(t, dir, map[string]string{"a": "one", "d/e/f": "deep", ".mcp-sandbox-restore-x/f": "private", stagedPrefix + "user": "a name of somebody's own"})
	stays := snapshotTree(t, dir)
	p, err := f.walk("d/g", walkOptions{write: true, mayMiss: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	live, err := f.prepare(ctx, p, replacement{content: []byte("on its way")})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"", "d", "d/e"} {
		put(t, dir, map[string]string{filepath.Join(d, stagedName()): "half"})
	}
	if n, err := f.Sweep(ctx); n != 3 || err != nil {
		t.Errorf("%d swept, %v", n, err)
	}
	if err := live.commitNew(); err != nil {
		t.Errorf("a living server's file: %v", err)
	}
	live.discard()
	if err := os.Remove(dir + "/d/g"); err != nil {
		t.Error(err)
	}
	if now := snapshotTree(t, dir); len(now) != len(stays) {
		t.Errorf("%v, not %v", now, stays)
	}
	for _, own := range []string{".mcp-sandbox-restore-x", stagedPrefix + "user"} {
		if err := os.RemoveAll(filepath.Join(dir, own)); err != nil {
			t.Error(err)
		}
	}
}
