package stage

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// TestEnded: another session takes the stage when the one before has ended, and what that
// one asks of it then is refused, not done.
func TestEnded(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"a": "project\n"})
	putFile(t, upper+"/a", "session\n")
	if got := kinds(t, s); len(got) != 1 {
		t.Fatalf("%q", got)
	}
	for range 2 {
		if err := s.End(); err != nil {
			t.Fatal(err)
		}
	}
	next, err := Take(filepath.Dir(filepath.Dir(s.dir)), root, "", time.Now())
	if err != nil {
		t.Fatalf("the stage is not free: %v", err)
	}
	defer next.Close()
	result := func(_ Result, err error) error { return err }
	for name, err := range map[string]error{
		"changes":       func() error { _, err := s.Changes(); return err }(),
		"empty":         func() error { _, err := s.Empty(); return err }(),
		"apply":         result(s.Apply([]string{"."}, Choice{})),
		"apply listed":  result(s.ApplyListed(map[string]string{"a": "x"}, Choice{})),
		"apply hunks":   result(s.ApplyHunks("a", []int{0}, "", Choice{})),
		"apply merged":  result(s.ApplyMerged("a", "text", "", Choice{})),
		"discard":       result(s.Discard([]string{"."})),
		"discard parts": result(s.DiscardHunks("a", []int{0}, "")),
		"discard list":  result(s.DiscardListed(map[string]string{"a": "x"})),
		"prune":         s.Prune(),
	} {
		if !errors.Is(err, ErrEnded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantText(t, root+"/a", "project\n")
	wantText(t, upper+"/a", "session\n")
}
