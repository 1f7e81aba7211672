package stage

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newTestStage is a stage of a project with the given files; its index is taken.
func newTestStage(t *testing.T, project map[string]string) (s *Stage, root, upper string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range project {
		putFile(t, root+"/"+name, text)
	}
	s, err := Take(t.TempDir(), root, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	settle(t)
	s.Scan(os.Getuid(), os.Getgid(), nil)
	s.ready()
	return s, root, s.Layers() + "/upper"
}

// settle waits, as what is as new as an index is unsure.
func settle(t *testing.T) {
	t.Helper()
	for made := time.Now(); time.Since(made) < 3*clockGrain; {
		time.Sleep(clockGrain)
	}
}

func putFile(t *testing.T, name, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func wantText(t *testing.T, name, text string) {
	t.Helper()
	if b, err := os.ReadFile(name); err != nil || string(b) != text {
		t.Errorf("%s is %q, %v, want %q", filepath.Base(name), b, err, text)
	}
}

func kinds(t *testing.T, s *Stage) (out []string) {
	t.Helper()
	all, err := s.Changes()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		out = append(out, string(c.Kind)+" "+c.Path)
	}
	return out
}

// TestStageOpaque: a directory that took the place of another hides what the project
// has at any depth, although the kernel marks only its top.
func TestStageOpaque(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"a/b/c/old": "old", "a/b/same": "same", "a/b/x": "x", "a/b/y": "y"})
	for name, text := range map[string]string{"a/b/same": "same", "a/b/x": "mine", "a/b/c/new": "new"} {
		putFile(t, upper+"/"+name, text)
	}
	if err := unix.Setxattr(upper+"/a", opaqueXattr, []byte("y"), 0); err != nil {
		t.Skipf("no user attributes here: %v", err)
	}
	want := []string{"added a/b/c/new", "removed a/b/c/old", "modified a/b/x", "removed a/b/y"}
	if got := kinds(t, s); !slices.Equal(got, want) {
		t.Fatalf("the changes are %q, want %q", got, want)
	}
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	wantText(t, upper+"/a/b/same", "same")
	if _, err := s.Discard([]string{"a/b/x", "a/b/y"}); err != nil {
		t.Fatal(err)
	}
	wantText(t, upper+"/a/b/x", "x")
	wantText(t, upper+"/a/b/y", "y")
	if res, err := s.Apply([]string{"."}, Choice{}); err != nil || len(res.Left) > 0 {
		t.Fatalf("%+v %v", res, err)
	}
	if _, err := os.Lstat(root + "/a/b/c/old"); err == nil {
		t.Error("old and new are mixed in the project")
	}
	wantText(t, root+"/a/b/c/new", "new")
	if got := kinds(t, s); len(got) > 0 {
		t.Errorf("after the apply: %q", got)
	}
}

// TestStageDiscardLink: what cannot be moved for a mode is given one, and never what a
// link of the session leads to.
func TestStageDiscardLink(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("modes bind only an ordinary user")
	}
	s, _, upper := newTestStage(t, nil)
	file := filepath.Join(t.TempDir(), "x")
	putFile(t, file, "x")
	if err := os.Mkdir(upper+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, upper+"/d/l"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(upper+"/d", 0o555); err != nil {
		t.Fatal(err)
	}
	if res, err := s.Discard([]string{"d/l"}); err != nil || len(res.Left) > 0 {
		t.Errorf("%+v %v", res, err)
	}
	if fi, err := os.Stat(upper + "/d"); err != nil || fi.Mode().Perm() != 0o555 {
		t.Errorf("the directory: %v %v", fi, err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o644 {
		t.Errorf("what the link leads to: %v %v", fi, err)
	}
	if res, err := s.Discard([]string{"d"}); err != nil || len(res.Left) > 0 || len(kinds(t, s)) > 0 {
		t.Errorf("%+v %v", res, err)
	}
}
