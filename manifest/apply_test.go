package manifest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

// TestCheckout: what git wrote is copied by descriptors, so neither the subpath
// nor the checkout itself leads elsewhere; the caller's clone is removed, the
// staging directory too, and a refusal leaves the workspace empty.
func TestCheckout(t *testing.T) {
	for name, tc := range map[string]struct {
		subpath, code string
		clone         func(dir string) error
	}{
		"whole":            {"", "", func(string) error { return nil }},
		"subpath":          {"d/e", "", func(string) error { return nil }},
		"no such subpath":  {"d/x", "not_found", func(string) error { return nil }},
		"a file":           {"f", "not_found", func(string) error { return nil }},
		"a link to it":     {"l", "not_found", func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "l")) }},
		"through a link":   {"l/ssl", "not_found", func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "l")) }},
		"checkout a link":  {"", "not_found", func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Symlink("/etc", dir)) }},
		"the clone failed": {"", "exec_failed", nil},
	} {
		t.Run(name, func(t *testing.T) {
			checkout := filepath.Join(t.TempDir(), "repo")
			if err := errors.Join(os.MkdirAll(filepath.Join(checkout, "d", "e"), 0o755), os.WriteFile(filepath.Join(checkout, "f"), []byte("x"), 0o644),
				os.WriteFile(filepath.Join(checkout, "d", "e", "g"), []byte("x"), 0o644)); err != nil {
				t.Fatal(err)
			}
			base := t.TempDir()
			root, err := os.OpenRoot(base)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			removed := false
			m := &Manifest{Entries: map[string]Entry{"r": {Type: "git_repo", Repo: "o/n", Subpath: tc.subpath}}}
			done, err := m.Apply(t.Context(), Target{
				Root: root, Side: "side", UID: -1, GID: -1, Remove: root.RemoveAll,
				Clone: func(_ context.Context, path string, _ Entry) (string, func(), error) {
					if path != "r" {
						t.Errorf("the entry is called %q", path)
					}
					if tc.clone == nil {
						return "", nil, errorf("exec_failed", nil, "git failed")
					}
					return checkout, func() { removed = true }, tc.clone(checkout)
				},
			})
			if sandbox.CodeOf(err) != tc.code || err != nil && strings.Contains(err.Error(), checkout) {
				t.Fatalf("%v, want %q", err, tc.code)
			}
			if tc.clone != nil && !removed {
				t.Error("the clone was left")
			}
			names, _ := filepath.Glob(base + "/*")
			if tc.code != "" && len(names) != 0 {
				t.Errorf("left: %v", names)
			}
			want := map[string]int{"whole": 2, "subpath": 1}[name]
			if len(done.Receipts) != want {
				t.Errorf("%d files were written, want %d", len(done.Receipts), want)
			}
		})
	}
}
