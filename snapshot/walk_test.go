package snapshot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestWalkIsCancelled: a walk ends when its context does, at whatever moment.
func TestWalkIsCancelled(t *testing.T) {
	root := t.TempDir()
	for i := range 40 {
		if err := os.MkdirAll(filepath.Join(root, fmt.Sprintf("d%d/sub/deep", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	tr, err := newTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		ctx, cancel := context.WithCancel(t.Context())
		w := tr.walk(ctx, 4, nil)
		n, ended := 0, make(chan error, 1)
		go func() {
			ended <- w.each(visitor{
				enter: func(*directory) (bool, error) {
					if n++; n == i%100 {
						cancel()
					}
					return true, nil
				},
				other:  func(string, *item) error { return nil },
				failed: func(_, _ string, err error) error { return err },
			})
		}()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatalf("a walk cancelled at its directory %d does not end", i%100)
		}
		cancel()
		w.stop()
	}
}
