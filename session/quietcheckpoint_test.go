package session

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestQuietSessionsAreSaved: a quiet session is checkpointed once, and its end has
// nothing left to save; what is begun later is saved again.
func TestQuietSessionsAreSaved(t *testing.T) {
	now := time.Now()
	w := newWorld(t)
	m := w.manager(Config{NameOf: KeptName, Now: func() time.Time { return now }})
	key := Key("ann", "1")
	s, done, err := m.Use(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	snapshots := func() int {
		t.Helper()
		repo, err := s.Snapshots()
		if err != nil {
			t.Fatal(err)
		}
		all, err := repo.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	write := func(text string) {
		t.Helper()
		c, err := s.BeginChange(t.Context(), Changes, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.Root(), "f"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c.End(t.Context())
	}
	write("one")
	m.saveQuiet(now.Add(time.Hour))
	if s.allSaved() {
		t.Error("saved during a call")
	}
	done()
	before := snapshots()
	m.saveQuiet(now.Add(quietBefore / 2))
	if s.allSaved() || snapshots() != before {
		t.Error("saved before it was quiet for long")
	}
	for range 3 {
		m.saveQuiet(now.Add(time.Hour))
	}
	if !s.allSaved() || snapshots() != before+1 {
		t.Errorf("saved %v, %d snapshots after %d", s.allSaved(), snapshots(), before)
	}
	write("two")
	if s.allSaved() {
		t.Error("a change after the checkpoint counts as saved")
	}
	m.saveQuiet(now.Add(time.Hour))
	last := snapshots()
	if err := m.End(key); err != nil {
		t.Fatal(err)
	}
	if s, err = m.Get(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if got := snapshots(); got != last {
		t.Errorf("the end took a snapshot of what was saved: %d after %d", got, last)
	}
	if b, err := os.ReadFile(filepath.Join(s.Root(), "f")); err != nil || string(b) != "two" {
		t.Errorf("%q %v", b, err)
	}
	write("three")
	if err := m.End(key); err != nil {
		t.Fatal(err)
	}
	if s, err = m.Get(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if got := snapshots(); got != last+1 {
		t.Errorf("the end saved nothing of a change: %d after %d", got, last)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}
