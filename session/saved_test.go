package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"mcp-sandbox/audit"
	"mcp-sandbox/manifest"
)

func TestResume(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{Name: "n"})
	s, err := m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, "echo one > f")
	id, root := s.ID(), s.Root()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(savedFile(m, "n"))
	if err != nil {
		t.Fatal(err)
	}

	m = w.manager(Config{Name: "n"})
	bad := bytes.Replace(text, []byte(id[:8]), []byte("00000000"), 1)
	for name, b := range map[string][]byte{"changed": bad, "cut": text[:len(text)/2], "empty": nil, "more": append(slices.Clone(text), "{}"...), "not JSON": []byte("x")} {
		if err := os.WriteFile(savedFile(m, "n"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := m.Create(t.Context(), "k")
		wantCode(t, err, "invalid_argument")
		if err != nil && strings.Contains(err.Error(), "00000000") {
			t.Errorf("%s: the error shows the input: %v", name, err)
		}
	}
	other := newWorld(t).manager(Config{Name: "n"})
	if foreign, err := other.state.key(); err != nil {
		t.Fatal(err)
	} else if _, err = unseal(foreign, text); codeOf(err) != "invalid_argument" {
		t.Errorf("a state of another server: %v", err)
	}

	if err := os.WriteFile(savedFile(m, "n"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = m.Create(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if s.ID() != id || s.Root() != root || s.Running() {
		t.Errorf("another session: %s in %s, running %v", s.ID(), s.Root(), s.Running())
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := run(t, s, "cat f"); got != "one\n" {
		t.Errorf("f holds %q", got)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}

	// Another directory under the workspace's name is neither used nor removed.
	if err := errors.Join(os.Rename(root, root+".away"), os.Mkdir(root, 0o755), os.WriteFile(filepath.Join(root, "theirs"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	m = w.manager(Config{Name: "n"})
	_, err = m.Get(t.Context(), "k")
	wantCode(t, err, "session_not_found")
	w.manager(Config{}) // its sweep leaves it alone too
	if _, err := os.Stat(filepath.Join(root, "theirs")); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	// Gone: it comes back as it was at the last close.
	s, err = m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, s, "cat f"); got != "one\n" {
		t.Errorf("f came back as %q", got)
	}
	if err := s.Delete(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root + ".away"); err != nil {
		t.Errorf("a directory that was moved away is not ours any more: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(w.state, "snapshots")); len(left) != 0 {
		t.Errorf("snapshots left: %v", left)
	}
	if err := m.End("k"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(savedFile(m, "n")); !os.IsNotExist(err) {
		t.Errorf("the deleted session's state: %v", err)
	}
}

// TestForgedOwnership: what a state says of ownership deletes nothing (the
// reference removes whatever tree a payload with owned=true names).
func TestForgedOwnership(t *testing.T) {
	w := newWorld(t)
	victim := filepath.Join(w.temp, "victim")
	if err := os.MkdirAll(filepath.Join(victim, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := w.manager(Config{Name: "n"})
	s, err := m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	st := s.savedState()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	// Even signed with the right key.
	key, err := m.state.key()
	if err != nil {
		t.Fatal(err)
	}
	st.Workspace, st.Owned = victim, true
	forged, err := seal(key, st)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(savedFile(m, "n"), forged, 0o600); err != nil {
		t.Fatal(err)
	}
	m = w.manager(Config{Name: "n"})
	_, err = m.Get(t.Context(), "k")
	wantCode(t, err, "invalid_argument")
	if err := DeleteSaved(m.Config(), "n"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(victim, "sub")); err != nil {
		t.Errorf("a person's directory was touched: %v", err)
	}
}

// TestStateHasNoSecrets: neither values nor the manifest are in what is saved.
func TestStateHasNoSecrets(t *testing.T) {
	w := newWorld(t)
	t.Setenv("HOST_SECRET", "s3ntinel-env")
	file := filepath.Join(w.temp, "..", "secret")
	if err := os.WriteFile(file, []byte("s3ntinel-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	man, err := manifest.Parse([]byte(`{"environment": {"A": "s3ntinel-plain", "B": {"from_env": "HOST_SECRET"},
		"C": {"from_file": "secret"}, "D": {"value": "s3ntinel-eph", "ephemeral": true}},
		"entries": {"f": {"type": "file", "content": "s3ntinel-content"}}}`), false, filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	m := w.manager(Config{Name: "n", Manifest: man, Audit: audit.New(audit.Options{Sink: audit.NewWriter(&log)})})
	s, err := m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, s, "echo $A $B $C $D; cat f"); got != "s3ntinel-plain s3ntinel-env s3ntinel-file s3ntinel-eph\ns3ntinel-content" {
		t.Errorf("inside: %q", got)
	}
	for _, secret := range []string{"s3ntinel-env", "s3ntinel-file", "s3ntinel-eph"} {
		if got := m.Redactor().Text("x " + secret); strings.Contains(got, secret) {
			t.Errorf("logs would show %s", secret)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(w.state, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(p, "/snapshots/") {
			return err
		}
		b, err := os.ReadFile(p)
		if bytes.Contains(b, []byte("s3ntinel")) {
			t.Errorf("%s holds a value", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), "s3ntinel") {
		t.Errorf("the audit log holds a value:\n%s", &log)
	}
	var ops []string
	for d := json.NewDecoder(&log); d.More(); {
		var e audit.Event
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		ops = append(ops, e.Op+" "+e.Phase)
	}
	if want := "session.start start,session.start finish,session.close start,session.stop start,session.stop finish,session.close finish"; strings.Join(ops, ",") != want {
		t.Errorf("records: %v", ops)
	}
	if err := DeleteSaved(m.Config(), "n"); err != nil {
		t.Fatal(err)
	}
	w.empty(w.temp)
}

func TestServerKey(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{})
	a, err := m.state.key()
	if err != nil || len(a) != 32 {
		t.Fatal(a, err)
	}
	path := filepath.Join(w.state, "key")
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if b, err := m.state.key(); err != nil || !bytes.Equal(a, b) {
		t.Errorf("another key: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = m.state.key()
	wantCode(t, err, "permission_denied")
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("short"), 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = m.state.key()
	wantCode(t, err, "internal")
	if left, _ := filepath.Glob(path + ".*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func FuzzUnseal(f *testing.F) {
	key := bytes.Repeat([]byte{1}, 32)
	good, err := seal(key, savedState{SessionID: strings.Repeat("a", 32), Workspace: "/w"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"state":"{}","hmac_sha256":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := unseal(key, b)
		if err != nil {
			return
		}
		// Only what was signed comes through, in whatever dress.
		var e envelope
		if strictJSON(b, &e) != nil || st.Workspace != "/w" {
			t.Errorf("%q became %+v", b, st)
		}
	})
}

func TestSavedStateIsVersioned(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	b, err := seal(key, savedState{SessionID: strings.Repeat("b", 32)})
	if err != nil {
		t.Fatal(err)
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	e.Version = 2
	next, _ := json.Marshal(e)
	if _, err := unseal(key, next); codeOf(err) != "invalid_argument" || !strings.Contains(err.Error(), "knows 1") {
		t.Errorf("%v", err)
	}
	if _, err := unseal(key, b); err != nil {
		t.Error(err)
	}
}

// TestResumeOnAnotherDevice: the same directory under another device number, as
// after a restart of the machine, is resumed and can be deleted; another
// account's directory is not taken for it.
func TestResumeOnAnotherDevice(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{Name: "n"})
	s, err := m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, "echo one > f")
	renumber := func(m *Manager) {
		t.Helper()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := m.state.reopen(s.ID())
		if err != nil {
			t.Fatal(err)
		}
		defer r.f.Close()
		d := r.data
		d.Dev++
		if err := r.update(d); err != nil {
			t.Fatal(err)
		}
		r.f.Close()
	}
	renumber(m)
	m = w.manager(Config{Name: "n"})
	if s, err = m.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if got := run(t, s, "cat f"); got != "one\n" {
		t.Errorf("f holds %q", got)
	}
	if os.Geteuid() == 0 {
		renumber(m)
		fi, err := os.Stat(s.Root())
		if err != nil {
			t.Fatal(err)
		}
		uid := int(fi.Sys().(*syscall.Stat_t).Uid)
		if err := os.Chown(s.Root(), 1000, 1000); err != nil {
			t.Fatal(err)
		}
		m = w.manager(Config{Name: "n"})
		_, err = m.Get(t.Context(), "k")
		wantCode(t, err, "session_not_found")
		if err := os.Chown(s.Root(), uid, uid); err != nil {
			t.Fatal(err)
		}
		if _, err = m.Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := DeleteSaved(m.Config(), "n"); err != nil {
		t.Fatal(err)
	}
	w.empty(w.temp)
}
