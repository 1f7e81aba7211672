package snapshot

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nameRules hides and protects by name at any depth, with all below.
type nameRules struct{ hides, protects string }

func (r nameRules) has(path, name string) bool {
	return name != "" && strings.Contains("/"+path+"/", "/"+name+"/")
}
func (r nameRules) Hides(path string, _, _, _ uint64) bool { return r.has(path, r.hides) }
func (r nameRules) Protects(path string) bool              { return r.has(path, r.protects) }

// TestPolicyOfRestoreAndDiff: what a snapshot taken before the rules holds is
// neither shown nor brought back, and what is protected is neither changed nor
// removed, alone, in a directory that goes, or in one that comes back.
func TestPolicyOfRestoreAndDiff(t *testing.T) {
	var rules nameRules
	w := newWorld(t, Options{Rules: func(context.Context) Rules { return rules }})
	for _, f := range []string{"keep", "key", "gone/key", "gone/b", "hooks/pre", "lost/hooks/pre", "lost/x"} {
		w.write(f, "old")
	}
	old := w.create("before")
	rules = nameRules{"key", "hooks"}
	in := w.create("with rules")
	if in.SkippedCount != 2 {
		t.Errorf("skipped: %+v", in.Skipped)
	}
	for _, s := range in.Skipped {
		if s.Reason != skipHidden {
			t.Errorf("%+v", s)
		}
	}
	os.RemoveAll(w.path("gone"))
	os.RemoveAll(w.path("lost"))
	w.write("key", "NEWSECRET")
	w.write("hooks/pre", "hardened by the user")
	w.write("hooks/new", "by the user")
	w.write("fresh/hooks/h", "by the user")
	w.write("fresh/x", "by a command")
	text, err := w.repo.DiffText(context.Background(), old.ID, "", "", 0)
	must(t, err)
	changes, err := w.repo.Diff(context.Background(), old.ID, "", "")
	must(t, err)
	for _, c := range changes {
		if strings.HasSuffix(c.Path, "key") {
			t.Errorf("the diff tells of %s", c.Path)
		}
	}
	if strings.Contains(text, "NEWSECRET") || strings.Contains(text, "key") {
		t.Error(text)
	}
	for _, scope := range []string{"key", "hooks", "hooks/pre", "gone/key", "fresh/hooks", ""} {
		w.restore(old.ID, scope)
		for p, want := range map[string]string{
			"key": "NEWSECRET", "hooks/pre": "hardened by the user", "hooks/new": "by the user", "fresh/hooks/h": "by the user",
			"gone/key": "", "lost/hooks/pre": "",
		} {
			b, err := os.ReadFile(w.path(p))
			if string(b) != want || want != "" && err != nil {
				t.Errorf("after restoring %q: %s is %q, want %q", scope, p, b, want)
			}
		}
	}
	for p, want := range map[string]bool{"gone/b": true, "lost/x": true, "fresh/x": false} {
		if _, err := os.Stat(w.path(p)); (err == nil) != want {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// TestStageIsOutOfReach: nothing of a restore is built in the workspace where a
// directory outside serves, none of it stays, and what a killed server left goes.
func TestStageIsOutOfReach(t *testing.T) {
	top := t.TempDir()
	stages := filepath.Join(top, "stage")
	w := newWorld(t, Options{StageDirs: []string{"/proc/none", stages}})
	w.write("d/a", "old")
	in := w.create("x")
	os.RemoveAll(w.path("d"))
	left := filepath.Join(stages, stagePrefix+"left")
	must(t, os.MkdirAll(filepath.Join(left, "new", "1"), 0o700))
	done := make(chan struct{})
	seen := make(chan string, 1)
	go func() {
		defer close(seen)
		for {
			select {
			case <-done:
				return
			default:
			}
			list, _ := os.ReadDir(w.ws)
			for _, e := range list {
				if strings.HasPrefix(e.Name(), stagePrefix) && !strings.HasSuffix(e.Name(), "-probe") {
					seen <- e.Name()
					return
				}
			}
		}
	}()
	w.restore(in.ID, "")
	close(done)
	if name, ok := <-seen; ok {
		t.Errorf("%s was in the workspace", name)
	}
	if list, err := os.ReadDir(stages); err != nil || len(list) > 0 {
		t.Errorf("left: %v, %v", list, err)
	}
	if b, _ := os.ReadFile(w.path("d/a")); string(b) != "old" {
		t.Errorf("%q", b)
	}
}
