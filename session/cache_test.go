package session

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestCaches: a cache is of one principal in one root, one in use is never
// removed, and those used longest ago go first.
func TestCaches(t *testing.T) {
	s := &state{dir: t.TempDir()}
	open := func(principal, root string) *cacheUse {
		t.Helper()
		c, err := s.openCache(principal, root, -1, -1)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	fill := func(c *cacheUse) {
		t.Helper()
		// As Go leaves its module cache.
		dir := filepath.Join(c.dir, "go-mod", "m@v1")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 64<<10), 0o444); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	there := func(c *cacheUse) bool {
		_, err := os.Lstat(c.dir)
		return err == nil
	}
	a, again, other, b := open("", "/a"), open("", "/a"), open("p", "/a"), open("", "/b")
	if a.dir != again.dir || a.dir == other.dir || a.dir == b.dir {
		t.Fatal(a.dir, again.dir, other.dir, b.dir)
	}
	for i, c := range []*cacheUse{a, other, b} {
		fill(c)
		at := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(c.dir+".lock", at, at); err != nil {
			t.Fatal(err)
		}
	}
	const roomForTwo = 200 << 10
	for _, c := range []*cacheUse{a, other, b} {
		if err := c.close(roomForTwo); err != nil {
			t.Fatal(err)
		}
	}
	// a is the oldest, and in use by another session.
	if !there(a) || there(other) || !there(b) {
		t.Errorf("a %v, other %v, b %v", there(a), there(other), there(b))
	}
	if err := again.close(1); err != nil {
		t.Fatal(err)
	}
	if there(a) || there(b) {
		t.Error("caches beyond the limit are still there")
	}
	c := open("", "/c")
	fill(c)
	if removed, inUse, err := trimCaches(s.cachesDir(), 0); removed != 0 || inUse != 1 || err != nil {
		t.Error(removed, inUse, err)
	}
	if err := c.close(0); err != nil || !there(c) {
		t.Error(err, there(c))
	}
	if removed, inUse, err := CleanCaches(Config{StateDir: s.dir}); removed != 1 || inUse != 0 || err != nil || there(c) {
		t.Error(removed, inUse, err)
	}
	if left, err := os.ReadDir(s.cachesDir()); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
}
