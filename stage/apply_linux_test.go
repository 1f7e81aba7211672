package stage

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// newTestApplier is in the middle of an apply: all was listed, nothing applied.
func newTestApplier(t *testing.T, s *Stage, choice Choice) (*applier, []Change) {
	t.Helper()
	all, err := s.changes()
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.beginJournal()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.f.Close() })
	a := newApplier(s, j, choice, &Result{})
	for i := range all {
		a.all[all[i].Path] = &all[i]
	}
	return a, all
}

// TestStageMoved: what a running session changes between the list and the copy is not
// applied, whatever it was agreed to be.
func TestStageMoved(t *testing.T) {
	for what, change := range map[string]func(name string) error{
		"mode":    func(name string) error { return os.Chmod(name, 0o755) },
		"content": func(name string) error { return os.WriteFile(name, []byte("other"), 0o644) },
		"type": func(name string) error {
			if err := os.Remove(name); err != nil {
				return err
			}
			return os.Symlink("/etc", name)
		},
		"attributes, at the same time": func(name string) error { return unix.Setxattr(name, "user.a", []byte("other"), 0) },
	} {
		t.Run(what, func(t *testing.T) {
			s, root, upper := newTestStage(t, map[string]string{"x": "x"})
			putFile(t, upper+"/x", "mine")
			a, all := newTestApplier(t, s, Choice{})
			err := change(upper + "/x")
			if err == unix.ENOTSUP {
				t.Skip("no user attributes here")
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(what, "attributes") {
				var st unix.Stat_t
				if err := unix.Lstat(upper+"/x", &st); err != nil {
					t.Fatal(err)
				}
				all[0].now = sigOf(&st)
			}
			a.take(&all[0])
			if len(a.res.Done) > 0 || len(a.res.Left) != 1 || !strings.Contains(a.res.Left[0].Why, "look again") {
				t.Errorf("%+v", a.res)
			}
			wantText(t, root+"/x", "x")
			if names, _ := filepath.Glob(root + "/.*"); len(names) > 0 {
				t.Errorf("left: %q", names)
			}
		})
	}
}

// TestStageNote: what either side did after the exchange is neither applied nor the
// base of the next comparison.
func TestStageNote(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"x": "x", "gone": "x"})
	putFile(t, upper+"/x", "mine")
	if err := unix.Mknod(upper+"/gone", unix.S_IFCHR, 0); err != nil {
		t.Skipf("no marks of removed names here: %v", err)
	}
	a, all := newTestApplier(t, s, Choice{})
	for i := range all {
		c := &all[i]
		made := sig{}
		dir, err := treecopy.Open(int(s.root.Fd()), ".")
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(dir)
		step := journalEntry{Step: stepBuild, Dir: ".", Temp: treecopy.TempName(), Name: c.Path}
		if c.Kind == Removed {
			err = a.remove(c, dir, step)
		} else {
			made, err = a.put(c, dir, step)
		}
		if err != nil {
			t.Fatal(err)
		}
		putFile(t, root+"/"+c.Path, "theirs")
		if c.Path == "x" {
			putFile(t, upper+"/x", "more")
		}
		a.note(c, dir, c.Path, made)
	}
	after, err := s.changes()
	if err != nil || len(after) != 2 {
		t.Fatalf("%+v %v", after, err)
	}
	for _, c := range after {
		if c.Conflict == "" {
			t.Errorf("%s: the change in the project counts as the base", c.Path)
		}
	}
}

// TestStageGiveBack: where what the project had cannot get its name again, it stays, is
// named, and the next review puts it back.
func TestStageGiveBack(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"x": "x"})
	putFile(t, upper+"/x", "mine")
	a, all := newTestApplier(t, s, Choice{})
	dir := int(s.root.Fd())
	step := journalEntry{Step: stepTake, Dir: ".", Temp: treecopy.TempName(), Name: "x"}
	if err := a.j.note(step); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(root+"/x", root+"/"+step.Temp); err != nil {
		t.Fatal(err)
	}
	putFile(t, root+"/x", "newer")
	a.clear(dir, step, all[0].now.ino)
	if len(a.res.Left) != 1 || a.res.Left[0].Path != step.Temp {
		t.Errorf("%+v", a.res.Left)
	}
	if err := a.j.end(); err != nil {
		t.Fatal(err)
	}
	wantText(t, root+"/"+step.Temp, "x")
	if err := os.Remove(root + "/x"); err != nil {
		t.Fatal(err)
	}
	j, err := s.beginJournal()
	if err != nil {
		t.Fatal(err)
	}
	if err := j.end(); err != nil {
		t.Fatal(err)
	}
	wantText(t, root+"/x", "x")
}

// TestStageProtectedBelow: a repository does not go with its directory, and one without
// a work tree is protected on either side.
func TestStageProtectedBelow(t *testing.T) {
	s, _, upper := newTestStage(t, map[string]string{"sub/.git/HEAD": "x", "plain/x": "x", "up/bare/HEAD": "x", "up/bare/objects/x": "x", "up/bare/refs/x": "x", "bare/HEAD": "x", "bare/objects/x": "x", "bare/refs/x": "x"})
	for _, name := range []string{"sub", "plain", "up"} {
		if err := unix.Mknod(upper+"/"+name, unix.S_IFCHR, 0); err != nil {
			t.Skipf("no marks of removed names here: %v", err)
		}
	}
	for _, name := range []string{"bare/config", "new/HEAD", "new/objects/x", "new/refs/x", "new/hooks/x"} {
		putFile(t, upper+"/"+name, "mine")
	}
	all, err := s.Changes()
	if err != nil {
		t.Fatal(err)
	}
	var free []string
	for _, c := range all {
		if !c.Protected {
			free = append(free, c.Path)
		}
	}
	if want := []string{"new", "plain"}; !slices.Equal(free, want) {
		t.Errorf("not protected: %q, want %q", free, want)
	}
}

// TestStageMergeAsks: a merge agrees to the conflict alone, and to the text that was
// read.
func TestStageMergeAsks(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"x": "1\n2\n"})
	putFile(t, upper+"/x", "1\n2\nmine\n")
	putFile(t, root+"/x", "theirs\n1\n2\n")
	s.Protects = func(string) bool { return true }
	merged, sum := "theirs\n1\n2\nmine\n", func() string {
		all, err := s.Changes()
		if err != nil || len(all) != 1 || all[0].Conflict == "" {
			t.Fatalf("%+v %v", all, err)
		}
		old, now, _ := s.Texts(&all[0])
		return Sum(&all[0], old, now)
	}
	if res, err := s.ApplyMerged("x", merged, sum(), Choice{}); err != nil || len(res.Done) > 0 || !strings.Contains(res.Left[0].Why, "protected") {
		t.Errorf("%+v %v", res, err)
	}
	a, all := newTestApplier(t, s, Choice{Protected: true, Conflicts: true})
	a.text, a.old = &merged, "theirs\n1\n2\n"
	dir := int(s.root.Fd())
	if err := a.putText(dir, "x", "built"); err != nil {
		t.Fatal(err)
	}
	putFile(t, root+"/x", "saved\n1\n2\n")
	if err := a.compare(&all[0], dir, "x"); err == nil {
		t.Error("a save after the text was read is not noticed")
	}
	if err := a.putText(dir, "x", "built2"); err == nil {
		t.Error("another text was merged")
	}
	if err := a.j.end(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(root + "/built"); err != nil {
		t.Fatal(err)
	}
	putFile(t, root+"/x", "theirs\n1\n2\n")
	if res, err := s.ApplyMerged("x", merged, sum(), Choice{Protected: true}); err != nil || len(res.Done) != 1 {
		t.Errorf("%+v %v", res, err)
	}
	wantText(t, root+"/x", merged)
	wantText(t, upper+"/x", merged)
}
