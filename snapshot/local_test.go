package snapshot_test

import (
	"os"
	"path/filepath"
	"testing"

	"mcp-sandbox/snapshot"
	"mcp-sandbox/snapshot/storetest"
)

func TestLocalStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) snapshot.Store {
		s, err := snapshot.NewLocalStore(filepath.Join(t.TempDir(), "a", "store"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// AC-20: what the store holds is for its owner only.
func TestLocalStoreIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o777)
	if _, err := snapshot.NewLocalStore(dir); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(dir)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.NewLocalStore(link); err == nil {
		t.Error("a link was taken for the store")
	}
}
