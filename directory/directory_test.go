package directory_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mcp-sandbox/directory"
	"mcp-sandbox/directory/directorytest"
)

func TestLocal(t *testing.T) {
	directorytest.Run(t, func(t *testing.T) (directory.Directory, directory.Directory) {
		dir := t.TempDir()
		return directory.NewLocal(dir), directory.NewLocal(dir)
	})
}

// TestLocalIsPrivate: what another user could have written is not read, nor
// replaced, and a link is not followed.
func TestLocalIsPrivate(t *testing.T) {
	dir := t.TempDir()
	d := directory.NewLocal(dir)
	if _, err := d.PutIf(t.Context(), "saved/x", []byte("v"), ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "saved", "x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("x", filepath.Join(dir, "saved", "link")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"saved/x", "saved/link"} {
		if v, _, err := d.Get(t.Context(), key); err == nil {
			t.Errorf("%s: %q", key, v)
		}
		if _, err := d.PutIf(t.Context(), key, []byte("w"), ""); err == nil {
			t.Errorf("%s was replaced", key)
		}
	}
	// What a kill in the middle of a write left goes with the entry.
	half := filepath.Join(dir, "saved", "x.0123456789abcdef")
	if err := os.WriteFile(half, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), "saved/x"); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "saved", "x*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// careless is a store that takes the conditions and ignores some.
type careless struct {
	directory.Directory
	absent, match bool
}

func (c careless) PutIf(ctx context.Context, key string, value []byte, version string) (string, error) {
	if _, now, err := c.Get(ctx, key); err == nil && (c.absent && version == "" || c.match && version != "") {
		version = now
	}
	return c.Directory.PutIf(ctx, key, value, version)
}

var errAway = errors.New("away")

// failing answers some writes, and nothing after them.
type failing struct {
	directory.Directory
	answers int
}

func (f *failing) PutIf(ctx context.Context, key string, value []byte, version string) (string, error) {
	if f.answers--; f.answers < 0 {
		return "", errAway
	}
	return f.Directory.PutIf(ctx, key, value, version)
}

func (f *failing) Delete(ctx context.Context, key string) error {
	if f.answers < 0 {
		return errAway
	}
	return f.Directory.Delete(ctx, key)
}

func TestCheckFindsCarelessStores(t *testing.T) {
	for name, c := range map[string]careless{"If-None-Match": {absent: true}, "If-Match": {match: true}} {
		c.Directory = directory.NewLocal(t.TempDir())
		if err := directory.Check(t.Context(), c); !errors.Is(err, directory.ErrUnfit) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What does not answer tells nothing of its conditions, and is told once.
	for answers := range 4 {
		err := directory.Check(t.Context(), &failing{directory.NewLocal(t.TempDir()), answers})
		if !errors.Is(err, errAway) || errors.Is(err, directory.ErrUnfit) || strings.Count(err.Error(), errAway.Error()) != 1 {
			t.Errorf("away after %d writes: %v", answers, err)
		}
	}
	if err := directory.WriteOnce(filepath.Join(t.TempDir(), "f"), bytes.Repeat([]byte("x"), 32)); err != nil {
		t.Error(err)
	}
}
