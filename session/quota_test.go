package session

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func (m *Manager) live(key string) bool { return m.SessionID(key) != "" }

// TestIdleIsParkedAndResumed: idle ends a session only when nothing of it is at
// work, and its client's next call finds the files again.
func TestIdleIsParkedAndResumed(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{NameOf: KeptName, Idle: 40 * time.Millisecond})
	key := Key("ann", "1")
	s, done, err := m.Use(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, "echo mine > f")
	idleTwice := func() { // two whole sweeps after now
		n := m.sweeps.Load()
		until(t, "two sweeps", func() bool { return m.sweeps.Load() >= n+2 })
	}
	time.Sleep(50 * time.Millisecond)
	idleTwice()
	if !m.live(key) {
		t.Fatal("ended during a call")
	}
	r, err := s.Exec(t.Context(), ExecRequest{Cmd: "sleep 1000", Yield: 20 * time.Millisecond})
	if err != nil || r.Exit != nil {
		t.Fatal(err, r.Exit)
	}
	done()
	time.Sleep(50 * time.Millisecond)
	idleTwice()
	if !m.live(key) {
		t.Fatal("ended while a process ran")
	}
	if _, err := s.Kill(t.Context(), r.ID, 9); err != nil {
		t.Fatal(err)
	}
	until(t, "parked", func() bool { return !m.live(key) })
	if !m.Known(key) || m.Known(Key("bob", "1")) {
		t.Error("a parked session is known to its own client alone")
	}
	again, err := m.Get(t.Context(), key)
	if err != nil || again.ID() != s.ID() || again.Root() != s.Root() {
		t.Fatalf("not resumed: %v", err)
	}
	if b, _ := os.ReadFile(filepath.Join(again.Root(), "f")); string(b) != "mine\n" {
		t.Errorf("its file holds %q", b)
	}
	if err := m.Delete(key); err != nil {
		t.Fatal(err)
	}
	if m.Known(key) {
		t.Error("known after its end")
	}
	w.empty(w.temp)
	w.empty(filepath.Join(w.state, "saved"))
	w.empty(filepath.Join(w.state, "sessions"))
}

// TestAgeDeletes: the oldest age ends a session whatever it does, live or saved.
func TestAgeDeletes(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{NameOf: KeptName})
	// The test sweeps by itself, with a clock and an age that change.
	m.sweeper.stop()()
	for _, h := range []string{"live", "saved"} {
		s, err := m.Get(t.Context(), Key("ann", h))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Exec(t.Context(), ExecRequest{Cmd: "sleep 1000", Yield: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.End(Key("ann", "saved")); err != nil {
		t.Fatal(err)
	}
	if !m.Known(Key("ann", "saved")) {
		t.Fatal("an ended session is kept")
	}
	now := time.Now().Add(time.Hour)
	m.config.MaxAge, m.config.Now = 2*time.Hour, func() time.Time { return now }
	m.sweepByAge()
	m.sweepKept(t.Context())
	if !m.live(Key("ann", "live")) || !m.Known(Key("ann", "saved")) {
		t.Fatal("ended before its age")
	}
	now = now.Add(2 * time.Hour)
	m.sweepByAge()
	m.sweepKept(t.Context())
	if m.Known(Key("ann", "live")) || m.Known(Key("ann", "saved")) {
		t.Error("lives past its age")
	}
	w.empty(w.temp)
	w.empty(filepath.Join(w.state, "saved"))
}

// TestMarksDoNotStay: where sessions live for ever, the marks of ended ones do not, and
// their handles stay unknown: an old one without a session is one that was ended.
func TestMarksDoNotStay(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{NameOf: KeptName})
	m.sweeper.stop()()
	made := time.Now()
	ended, kept, fresh := Key("ann", "ended"), Key("ann", "kept"), Key("ann", "fresh")
	for _, k := range []string{ended, kept} {
		if _, err := m.Get(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(m.Forget(ended, false), m.End(kept)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after              time.Duration
		marks              int
		ended, kept, fresh bool
	}{
		{unusedKept - time.Hour, 1, true, false, false},
		{unusedKept + time.Hour, 1, true, false, true},
		{goneKept + time.Hour, 0, true, false, true},
		{100 * goneKept, 0, true, false, true},
	} {
		now := made.Add(c.after)
		m.config.Now = func() time.Time { return now }
		m.sweepSaved(t.Context(), now)
		if marks, _ := filepath.Glob(filepath.Join(w.state, "saved", "*.gone")); len(marks) != c.marks {
			t.Errorf("after %v: %d marks, want %d", c.after, len(marks), c.marks)
		}
		for k, want := range map[string]bool{ended: c.ended, kept: c.kept, fresh: c.fresh} {
			if got := m.Gone(k, made); got != want {
				t.Errorf("after %v: %q gone: %v, want %v", c.after, k, got, want)
			}
		}
	}
	if !m.Known(kept) {
		t.Error("a kept session went")
	}
}

// TestQuotas: a principal's full quota makes room by parking its own quiet
// session, never one at work and never somebody else's.
func TestQuotas(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{NameOf: KeptName, MaxSessions: 3, MaxPerPrincipal: 2})
	get := func(p, h string) error { _, err := m.Get(t.Context(), Key(p, h)); return err }
	for _, h := range []string{"1", "2"} {
		if err := get("ann", h); err != nil {
			t.Fatal(err)
		}
	}
	_, done, err := m.Use(t.Context(), Key("ann", "2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := get("ann", "3"); err != nil {
		t.Fatalf("no room was made: %v", err)
	}
	if m.live(Key("ann", "1")) || !m.live(Key("ann", "2")) || !m.live(Key("ann", "3")) {
		t.Error("the wrong session was parked")
	}
	_, done3, err := m.Use(t.Context(), Key("ann", "3"))
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, get("ann", "4"), "limit_reached")
	if err := get("bob", "1"); err != nil {
		t.Fatal(err)
	}
	// All three places are taken, two by ann at work; carl has nothing to park.
	wantCode(t, get("carl", "1"), "limit_reached")
	if !m.live(Key("bob", "1")) {
		t.Error("bob's quiet session went for carl")
	}
	done()
	done3()
	if n, _ := m.Live(); n != 3 {
		t.Errorf("%d live", n)
	}
	// Without names a parked session could not come back, so none is parked.
	plain := w.manager(Config{MaxSessions: 1})
	if _, err := plain.Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	_, err = plain.Get(t.Context(), "b")
	wantCode(t, err, "limit_reached")
}

// TestRestartResumes: the next server of the state directory finds the session, and
// only under its own key; a handle that looks like another principal's does not.
func TestRestartResumes(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{NameOf: KeptName})
	key := Key("ann", "1")
	s, err := m.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, "echo mine > f")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = w.manager(Config{NameOf: KeptName})
	for _, other := range []string{Key("bob", "1"), Key("", "ann\x001"), "ann"} {
		if m.Known(other) {
			t.Errorf("%q is known", other)
		}
	}
	s, err = m.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if run(t, s, "cat f") != "mine\n" {
		t.Error("another session")
	}
	if err := m.Delete(key); err != nil {
		t.Fatal(err)
	}
	w.empty(w.temp)
}

func TestWorkspaceLimit(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{WorkspaceLimit: 1 << 20})
	s, err := m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.HasRoom(); err != nil {
		t.Fatal(err)
	}
	r, err := s.Exec(t.Context(), ExecRequest{Cmd: "head -c 4000000 /dev/zero > big; sync; exec sleep 1000", Yield: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	told := r.Notices
	until(t, "the grower is killed", func() bool {
		r, err := s.Write(t.Context(), InputRequest{ID: r.ID, Yield: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, r.Notices...)
		return r.Exit != nil
	})
	if !strings.Contains(strings.Join(told, "\n"), "workspace") {
		t.Errorf("nobody was told: %q", told)
	}
	wantCode(t, s.HasRoom(), "limit_reached")
	if err := os.Remove(filepath.Join(s.Root(), "big")); err != nil {
		t.Fatal(err)
	}
	if err := s.HasRoom(); err != nil {
		t.Errorf("after making room: %v", err)
	}
}
