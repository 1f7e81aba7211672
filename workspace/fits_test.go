package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMaxFile: no way of writing makes a file longer than it may be, and one that
// is longer already can be made shorter.
func TestMaxFile(t *testing.T) {
	grant := filepath.Join(t.TempDir(), "granted")
	if err := os.WriteFile(grant, []byte("12345678"), 0o644); err != nil {
		t.Fatal(err)
	}
	asked := int64(0)
	f, dir, _ := newFS(t, Options{MaxFile: 10, Grants: []Grant{{Path: grant}}, Grow: func(n int64) error {
		if asked += n; n > 9 {
			return fail(codeLimit, "no room")
		}
		return nil
	}})
	put(t, dir, map[string]string{"eight": "12345678", "two": "12345678", "long": strings.Repeat("long\n", 8)})
	if err := os.Link(filepath.Join(dir, "two"), filepath.Join(dir, "names")); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string, mode WriteMode, code string) {
		t.Helper()
		_, err := f.WriteFile(ctx, WriteRequest{Path: path, Content: []byte(text), Mode: mode})
		wantCode(t, err, code)
	}
	write("new", "12345678901", "", codeTooLarge)
	write("new", "1234567890", "", codeLimit)
	write("new", "123456789", "", "")
	write("eight", "901", WriteAppend, codeTooLarge)
	write("two", "901", WriteAppend, codeTooLarge)
	write(grant, "901", WriteAppend, codeTooLarge)
	write(grant, "12345678901", "", codeTooLarge)
	if asked != 19 {
		t.Errorf("room for %d bytes was asked for", asked)
	}
	write("eight", "90", WriteAppend, "")
	write(grant, "1234567890", "", "")
	if asked != 21 {
		t.Errorf("room for %d bytes was asked for", asked)
	}
	_, err := f.EditFile(ctx, EditRequest{Path: "long", OldText: "long", NewText: "longer", ReplaceAll: true})
	wantCode(t, err, codeTooLarge)
	_, err = f.EditFile(ctx, EditRequest{Path: "long", OldText: "long", NewText: "l", ReplaceAll: true})
	wantCode(t, err, "")
	for name, want := range map[string]string{"eight": "1234567890", "two": "12345678", "long": strings.Repeat("l\n", 8)} {
		if got := get(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s holds %q", name, got)
		}
	}
}
