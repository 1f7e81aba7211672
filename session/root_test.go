package session

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

func codeOf(err error) string {
	return sandbox.CodeOf(err)
}

func TestCheckRoot(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(base, "homes", "me")
	project := filepath.Join(home, "project")
	state := filepath.Join(base, "var", "state")
	for _, d := range []string{project, filepath.Join(state, "sessions")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(base, "link")
	if err := os.Symlink(project, link); err != nil {
		t.Fatal(err)
	}
	slash := filepath.Join(base, "slash")
	if err := os.Symlink("/", slash); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	for _, tc := range []struct{ path, code, mention string }{
		{project, "", ""},
		{link, "", ""},
		{"", "invalid_argument", "empty"},
		{"a\x00b", "invalid_argument", "NUL"},
		{"/", "invalid_argument", "whole machine"},
		{slash, "invalid_argument", "whole machine"},
		{"/usr", "invalid_argument", "system directory"},
		{"/tmp", "invalid_argument", "system directory"},
		{home, "invalid_argument", "home directory"},
		{filepath.Dir(home), "invalid_argument", "holds the home directory"},
		{base, "invalid_argument", "holds the home directory"},
		{state, "invalid_argument", "own state"},
		{filepath.Dir(state), "invalid_argument", "own state"},
		{filepath.Join(state, "sessions"), "invalid_argument", "own state"},
		{filepath.Join(base, "missing"), "not_found", "create it"},
		{file, "not_a_directory", "not a directory"},
	} {
		got, err := CheckRoot(tc.path, state)
		if codeOf(err) != tc.code || (err != nil && !strings.Contains(err.Error(), tc.mention)) {
			t.Errorf("%q: %v, want %s ... %s", tc.path, err, tc.code, tc.mention)
		}
		if err == nil && got != project {
			t.Errorf("%q resolved to %q", tc.path, got)
		}
	}
}

func addRecord(t *testing.T, st *state, id string, f *os.File, path string, owned bool) *record {
	t.Helper()
	r, err := st.add(id, recordData{Workspace: path, Owned: owned})
	if err == nil {
		err = r.identify(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSweep: a dead server's owned workspace goes, and nothing else: not a live
// session's, not a directory swapped in under the name, not a kept one.
func TestSweep(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	base := t.TempDir()
	st, err := openState(filepath.Join(base, "state"), true, log)
	if err != nil {
		t.Fatal(err)
	}
	open := func(name string) (string, *os.File) {
		p := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Join(p, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := openRoot(p)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return p, f
	}
	dead := func(id, path string, f *os.File, owned bool) {
		r := addRecord(t, st, id, f, path, owned)
		if _, err := st.scratch(id); err != nil {
			t.Fatal(err)
		}
		r.f.Close() // what the end of a process does to its lock
	}
	orphan, f := open("orphan")
	if err := os.Chmod(filepath.Join(orphan, "sub"), 0); err != nil {
		t.Fatal(err)
	}
	dead("a", orphan, f, true)
	kept, f := open("kept")
	dead("b", kept, f, false)
	swapped, f := open("swapped")
	dead("c", swapped, f, true)
	if err := os.Rename(swapped, swapped+".old"); err != nil {
		t.Fatal(err)
	}
	swapped, _ = open("swapped")
	live, f := open("live")
	// Kept to the end: a record that is collected loses its lock with its file.
	lives := addRecord(t, st, "d", f, live, true)
	t.Cleanup(func() { lives.f.Close() })
	if err := os.WriteFile(filepath.Join(st.dir, "sessions", "junk.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}

	st.sweep(log)
	for path, want := range map[string]bool{orphan: false, kept: true, swapped: true, live: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", path, err, want)
		}
	}
	left, _ := filepath.Glob(filepath.Join(st.dir, "sessions", "*"))
	if len(left) != 1 || filepath.Base(left[0]) != "d.json" {
		t.Errorf("records left: %v", left)
	}
}

func TestStateDirIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := openState(dir, true, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(dir)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Fatalf("mode %v, %v", fi.Mode(), err)
	}
}

func TestEnvironLastWins(t *testing.T) {
	got := strings.Join(lastWins([]string{"A=1", "B=2", "A=3"}), " ")
	if got != "A=3 B=2" {
		t.Fatalf("got %q", got)
	}
}
