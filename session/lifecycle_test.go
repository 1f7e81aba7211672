package session

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNothingRunsOutsideALife: before Start and after Shutdown every method that
// runs something refuses, and Running says the truth in between.
func TestNothingRunsOutsideALife(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{Expose: []int{AnyPort}})
	s, err := m.Create(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	idle := func(when string) {
		t.Helper()
		if s.Running() {
			t.Errorf("%s: Running", when)
		}
		_, e1 := s.Exec(t.Context(), ExecRequest{Cmd: "true"})
		_, e2 := s.Write(t.Context(), InputRequest{ID: 1000, Chars: "x", Close: false, Yield: 0})
		_, e3 := s.Kill(t.Context(), 1000, 0)
		_, e4 := s.ReadOutput("x", 0, 0, "")
		_, e5 := s.Screen(1000)
		_, e6 := s.ExposePort(t.Context(), 80)
		_, e7 := s.Stop(t.Context())
		_, e8 := s.Environ(false)
		for i, err := range []error{e1, e2, e3, e4, e5, e6, e7, e8} {
			if codeOf(err) != "session_not_found" {
				t.Errorf("%s: method %d: %v", when, i, err)
			}
		}
		if len(s.Processes()) != 0 || s.KeepOutput(nil) != "" {
			t.Errorf("%s: there are processes or outputs", when)
		}
	}
	idle("before the start")
	if len(w.launcher.made) != 0 {
		t.Error("a sandbox was made before the start")
	}
	if _, err := m.Create(t.Context(), "k"); codeOf(err) != "already_exists" {
		t.Errorf("a second Create: %v", err)
	}
	if got, err := m.Get(t.Context(), "k"); err != nil || got != s || !s.Running() {
		t.Fatalf("Get starts what Create made: %v", err)
	}
	if err := s.Start(t.Context()); err != nil || len(w.launcher.made) != 1 {
		t.Errorf("a second Start: %v, %d sandboxes", err, len(w.launcher.made))
	}
	run(t, s, "echo kept > f; sleep 1000 & echo")
	id, err := s.Stop(t.Context())
	if err != nil || id == "" || !s.Running() {
		t.Errorf("Stop: %q, %v, running %v", id, err, s.Running())
	}
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	idle("after the shutdown")
	if b, err := os.ReadFile(filepath.Join(s.Root(), "f")); string(b) != "kept\n" {
		t.Errorf("a shutdown keeps files: %q, %v", b, err)
	}
	wantCode(t, s.Start(t.Context()), "session_not_found")
	if err := errors.Join(s.Shutdown(), s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	idle("after the close")
	w.empty(w.temp)
	w.empty(filepath.Join(w.state, "sessions"))
}

func TestFailedStartLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.launcher.fail = errorf("confinement_unavailable", nil, "no, try elsewhere")
	m := w.manager(Config{Name: "n"})
	_, err := m.Get(t.Context(), "k")
	wantCode(t, err, "confinement_unavailable")
	w.empty(w.temp)
	w.empty(filepath.Join(w.state, "sessions"))
	if names := m.state.savedNames(""); len(names) != 0 {
		t.Errorf("saved: %v", names)
	}

	// A resumed session that cannot start keeps its workspace and its state.
	w.launcher.fail = nil
	s, err := m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, "echo work > f")
	if err := m.End("k"); err != nil {
		t.Fatal(err)
	}
	w.launcher.fail = errorf("confinement_unavailable", nil, "no, try elsewhere")
	_, err = m.Get(t.Context(), "k")
	wantCode(t, err, "confinement_unavailable")
	w.launcher.fail = nil
	if s, err = m.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if got := run(t, s, "cat f"); got != "work\n" {
		t.Errorf("the workspace holds %q", got)
	}
	if err := s.Delete(); err != nil {
		t.Fatal(err)
	}
	w.empty(w.temp)
}

func TestNameIsHeldOnce(t *testing.T) {
	w := newWorld(t)
	a, b := w.manager(Config{Name: "n"}), w.manager(Config{Name: "n"})
	s, err := a.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Get(t.Context(), "k")
	wantCode(t, err, "already_exists")
	wantCode(t, DeleteSaved(a.Config(), "n"), "already_exists")
	if all, err := SavedSessions(a.Config()); err != nil || len(all) != 1 || !all[0].InUse {
		t.Errorf("%+v, %v", all, err)
	}
	if !s.Running() {
		t.Error("the first was disturbed")
	}
	if err := s.Delete(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, DeleteSaved(a.Config(), "n"), "session_not_found")
	wantCode(t, DeleteSaved(a.Config(), "../key"), "invalid_argument")
	for _, name := range []string{"../x", "a/b", "a.b", "-x", strings.Repeat("a", 65), "a\x00"} {
		_, err := NewManager(Config{StateDir: w.state, Name: name}, w.launcher)
		wantCode(t, err, "invalid_argument")
	}
}

// TestSweepKeepsNamed: what a killed server leaves of a named session is its
// workspace and record; the rest of it goes.
func TestSweepKeepsNamed(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{Name: "n"})
	s, err := m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, "echo work > f")
	side := filepath.Join(s.Root(), sideName(s.id))
	clone := s.temp + "-git-00000000"
	for _, d := range []string{filepath.Join(side, "tree"), clone, s.temp} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// What the end of a process does.
	_ = w.launcher.made[0].Close()
	s.record.f.Close()
	s.claim.close()

	next := w.manager(Config{Name: "n"})
	for _, p := range []string{side, clone, s.temp, s.scratch} {
		if _, err := os.Lstat(p); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", filepath.Base(p), err)
		}
	}
	again, err := next.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, again, "cat f"); got != "work\n" || again.ID() != s.ID() {
		t.Errorf("resumed %s with %q", again.ID(), got)
	}
	if err := again.Delete(); err != nil {
		t.Fatal(err)
	}
	w.empty(w.temp)
	// The dead server's own object still holds a table and descriptors.
	s.table.Close()
	_ = s.files.Close()
	_ = s.rootFD.Close()
	_ = s.closeSnapshots()
	delete(m.sessions, "k")
}

// TestSweepIntent: a server killed between recording and making a workspace, or
// just after making it, leaves nothing, and takes nothing that is not empty.
func TestSweepIntent(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{})
	for name, fill := range map[string]bool{"never": false, "empty": false, "full": true} {
		p := filepath.Join(w.temp, name)
		r, err := m.state.add("id-"+name, recordData{Workspace: p, Owned: true})
		if err != nil {
			t.Fatal(err)
		}
		r.f.Close()
		if name != "never" {
			_ = os.Mkdir(p, 0o700)
		}
		if fill {
			_ = os.WriteFile(filepath.Join(p, "f"), nil, 0o600)
		}
	}
	w.manager(Config{})
	w.empty(filepath.Join(w.state, "sessions"))
	left, _ := os.ReadDir(w.temp)
	if len(left) != 1 || left[0].Name() != "full" {
		t.Errorf("left: %v", left)
	}
}

// TestDeleteOfAReplacedDir: a directory that took the place of ours stays, and
// the delete says that it removed nothing.
func TestDeleteOfAReplacedDir(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{Name: "n"})
	s, err := m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	root := s.Root()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(root, root+".away"), os.Mkdir(root, 0o755), os.WriteFile(filepath.Join(root, "theirs"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	wantCode(t, DeleteSaved(m.Config(), "n"), "internal")
	for _, p := range []string{root + "/theirs", root + ".away"} {
		if _, err := os.Stat(p); err != nil {
			t.Error(err)
		}
	}
}

// TestDeleteKilledInTheMiddle: the next server ends it, and the name is free.
func TestDeleteKilledInTheMiddle(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{Name: "n"})
	s, err := m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, "echo a > a; echo b > b")
	id := s.ID()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := m.state.reopen(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.unkeep(), os.Remove(filepath.Join(s.Root(), "a"))); err != nil {
		t.Fatal(err)
	}
	r.f.Close()
	m = w.manager(Config{Name: "n"})
	w.empty(w.temp)
	again, err := m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if again.ID() == id {
		t.Error("half a workspace was resumed")
	}
	if err := again.Delete(); err != nil {
		t.Fatal(err)
	}
	w.empty(w.temp)
}
