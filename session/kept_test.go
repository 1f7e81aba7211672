package session

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestKeptIsBounded: a principal keeps so many sessions, running, idle or of an
// earlier server, and nobody else's count.
func TestKeptIsBounded(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{NameOf: KeptName, MaxKept: 3})
	get := func(p, h string) error { _, err := m.Get(t.Context(), Key(p, h)); return err }
	for _, h := range []string{"1", "2"} {
		if err := get("ann", h); err != nil {
			t.Fatal(err)
		}
	}
	if !m.suspend(Key("ann", "1")) {
		t.Fatal("not idle")
	}
	// Made and not started: not saved yet, but it has its place.
	if _, err := m.Create(t.Context(), Key("ann", "3")); err != nil {
		t.Fatal(err)
	}
	err := get("ann", "4")
	wantCode(t, err, "limit_reached")
	if !strings.Contains(err.Error(), "you keep 3 sandboxes") {
		t.Error(err)
	}
	_, err = m.Create(t.Context(), Key("ann", "5"))
	wantCode(t, err, "limit_reached")
	if locks, _ := filepath.Glob(filepath.Join(w.state, "saved", "*.lock")); len(locks) != 3 {
		t.Errorf("a refused name left its lock: %q", locks)
	}
	for _, own := range []string{"1", "2", "3"} {
		if err := get("ann", own); err != nil {
			t.Errorf("its own %s: %v", own, err)
		}
	}
	if err := get("bob", "1"); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = w.manager(Config{NameOf: KeptName, MaxKept: 3})
	wantCode(t, get("ann", "4"), "limit_reached")
	if err := m.Delete(Key("ann", "2")); err != nil {
		t.Fatal(err)
	}
	if err := get("ann", "4"); err != nil {
		t.Errorf("after one was ended: %v", err)
	}
	wantCode(t, get("ann", "6"), "limit_reached")
	for _, k := range []string{Key("ann", "1"), Key("ann", "3"), Key("ann", "4"), Key("bob", "1")} {
		if err := m.Delete(k); err != nil {
			t.Error(err)
		}
	}
	w.empty(w.temp)
}

// TestKeptAtOnce: of those who come at the same time just as many get a place as
// there are, and a start that fails gives its place back.
func TestKeptAtOnce(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{NameOf: KeptName, MaxKept: 2})
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { _, errs[i] = m.Create(t.Context(), Key("ann", strconv.Itoa(i))) })
	}
	wg.Wait()
	var made []string
	for i, err := range errs {
		if err == nil {
			made = append(made, Key("ann", strconv.Itoa(i)))
			continue
		}
		wantCode(t, err, "limit_reached")
	}
	if len(made) != 2 {
		t.Fatalf("%d of 8 were made, want 2", len(made))
	}
	for _, k := range made {
		if err := m.Delete(k); err != nil {
			t.Error(err)
		}
	}
	broken := filepath.Join(w.state, "saved")
	for range 3 {
		if err := os.RemoveAll(broken); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(broken, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := m.Get(t.Context(), Key("ann", "x"))
		wantCode(t, err, "internal")
		if err := os.Remove(broken); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range []string{"y", "z"} {
		if _, err := m.Get(t.Context(), Key("ann", h)); err != nil {
			t.Error(err)
		}
	}
}
