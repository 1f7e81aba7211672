package workspace

import (
	"strings"
	"testing"
)

// TestMissingParent: an error about what was to be made names the directory that is not
// there, and a protected place is called protected.
func TestMissingParent(t *testing.T) {
	f, dir, _ := newFS(t, Options{Protect: []string{".cursor"}})
	put(t, dir, map[string]string{"a": "x"})
	for _, tc := range []struct {
		call func() error
		code string
		want string
	}{
		{func() error { _, err := f.Move(ctx, "a", "no/b"); return err }, codeNotFound, "no/b cannot be made because its parent directory no does not exist; make it first"},
		{func() error { _, err := f.Move(ctx, "gone", "b"); return err }, codeNotFound, "gone does not exist"},
		{func() error { _, err := f.Mkdir(ctx, "no/b", false); return err }, codeNotFound, "parent directory no does not exist; set recursive"},
		{func() error { _, err := f.Mkdir(ctx, ".cursor/rules", false); return err }, codeProtected, ".cursor"},
		{func() error { _, err := f.Move(ctx, "a", ".cursor/rules"); return err }, codeProtected, ".cursor"},
	} {
		err := tc.call()
		wantCode(t, err, tc.code)
		if err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v; it lacks %q", err, tc.want)
		}
	}
}
