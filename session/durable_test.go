package session

import (
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"
)

// newest gives the content of the last snapshot that the session's entry names, as
// another server would find it.
func (b *bucket) newest(t *testing.T, m *Manager, key string) (snapshotID string) {
	t.Helper()
	d, err := m.state.load(KeptName(key))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return d.Snapshot
}

// TestCommit: with Durable.Call the entry names a snapshot with every change whose
// Commit has returned; Commits at the same time share one, and one without a change
// writes nothing.
func TestCommit(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	w := newWorld(t)
	m, _ := b.with(w, "http://one", Config{Durable: Durable{Call: true}})
	s := get(t, m, key)
	if text := s.DurableText(); !strings.Contains(text, "before a call") {
		t.Errorf("%q", text)
	}
	run(t, s, "echo 1 > f")
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.newest(t, m, key) == "" {
		t.Error("nothing is stored")
	}
	// A file that was written a moment ago is read again, which may be stored once.
	until(t, "a commit without a change to write nothing", func() bool {
		before := b.newest(t, m, key)
		return s.Commit(t.Context()) == nil && b.newest(t, m, key) == before
	})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			run(t, s, "echo line >> g")
			if err := s.Commit(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	repo, err := s.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	list, err := repo.List(t.Context())
	if err != nil || len(list) < 2 || len(list) > 17 || list[len(list)-1].ID != b.newest(t, m, key) {
		t.Errorf("%d snapshots, the entry names %q, %v", len(list), b.newest(t, m, key), err)
	}
	if changes, err := repo.Diff(t.Context(), b.newest(t, m, key), "", ""); err != nil || len(changes) > 0 {
		t.Errorf("not stored: %v %v", changes, err)
	}
}

// TestCommitFails: what could not be stored is no success, and the next Commit stores it.
func TestCommitFails(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	w := newWorld(t)
	m, r := b.with(w, "http://one", Config{Durable: Durable{Call: true}})
	s := get(t, m, key)
	run(t, s, "echo 1 > f")
	r.cut.Store(true)
	if err := s.Commit(t.Context()); err == nil {
		t.Error("it claims to have stored")
	}
	if m.counts.CheckpointsFailed.Load() != 1 {
		t.Error("it was not counted")
	}
	r.cut.Store(false)
	if err := s.Commit(t.Context()); err != nil || b.newest(t, m, key) == "" {
		t.Errorf("%v", err)
	}
}

// TestUnreadIsNoSuccess: what the workspace's owner may not read is in no snapshot, and so
// no Commit says that it is stored; a hand-over says what is lost.
func TestUnreadIsNoSuccess(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	w := newWorld(t)
	m, _ := b.with(w, "http://one", Config{Durable: Durable{Call: true}})
	two, _, _ := b.server("http://two")
	s := get(t, m, key)
	run(t, s, "echo 1 > kept; mkdir d; echo 1 > d/in; echo 1 > f; chmod 0 f d")
	for range 2 {
		err := s.Commit(t.Context())
		wantCode(t, err, "snapshot_failed")
		if text := UnreadOf(err); !strings.Contains(text, "d, f;") {
			t.Errorf("%q", text)
		}
	}
	run(t, s, "chmod 755 d; chmod 644 f")
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, s, "echo 2 > g; chmod 0 g")
	if err := m.End(key); err != nil {
		t.Fatal(err)
	}
	moved := get(t, two, key)
	if got := run(t, moved, "cat kept f d/in; ls"); got != "1\n1\n1\nd\nf\nkept\n" {
		t.Errorf("%q", got)
	}
	if r := moved.TakeResumption(); r == nil || !strings.Contains(r.Text(), "could not be read when it was stored are lost: g") {
		t.Errorf("%+v", r)
	}
}

// TestOpenIsStored: what session_open writes is stored before its id is told, also where
// other changes are stored later.
func TestOpenIsStored(t *testing.T) {
	b := newBucket(t)
	for url, d := range map[string]Durable{"http://one": {Call: true}, "http://two": {}} {
		m, r := b.with(newWorld(t), url, Config{Durable: d})
		manifest := []byte(`{"entries":{"a.txt":{"type":"file","content":"x"}}}`)
		with, fork, other := Key(url, "sandbox:1"), Key(url, "sandbox:2"), Key(url, "sandbox:3")
		for _, o := range []struct {
			key string
			Opening
		}{{with, Opening{Manifest: manifest}}, {fork, Opening{Source: with, Snapshot: "latest"}}} {
			s, err := m.Open(t.Context(), o.key, o.Opening)
			if err != nil {
				t.Fatal(err)
			}
			repo, err := s.Snapshots()
			if err != nil {
				t.Fatal(err)
			}
			if id := b.newest(t, m, o.key); id == "" {
				t.Error("nothing is stored")
			} else if changes, err := repo.Diff(t.Context(), id, "", ""); err != nil || len(changes) > 0 {
				t.Errorf("not stored: %v %v", changes, err)
			}
		}
		r.cut.Store(true)
		if _, err := m.Open(t.Context(), other, Opening{Manifest: manifest}); err == nil {
			t.Error("opened without a store")
		}
		r.cut.Store(false)
	}
}

// TestTakenSnapshotIsNamed: who has asked for a snapshot and got it finds its files
// elsewhere when the machine is lost, however often the session is stored otherwise.
func TestTakenSnapshotIsNamed(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	w := newWorld(t)
	m, r := b.with(w, "http://one", Config{})
	s := get(t, m, key)
	for _, text := range []string{"1", "2"} {
		run(t, s, "echo "+text+" > f")
		info, err := s.TakeSnapshot(t.Context(), text)
		if err != nil || b.newest(t, m, key) != info.ID {
			t.Errorf("the entry names %q, taken was %q, %v", b.newest(t, m, key), info.ID, err)
		}
	}
	r.cut.Store(true)
	if _, err := s.TakeSnapshot(t.Context(), "3"); err == nil {
		t.Error("a snapshot that no other server would find was told as taken")
	}
	r.cut.Store(false)
}

// TestInterval: with Durable.Interval changes are stored in the background, those of a
// running process too.
func TestInterval(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	w := newWorld(t)
	m, _ := b.with(w, "http://one", Config{Durable: Durable{Interval: 50 * time.Millisecond}})
	s := get(t, m, key)
	job, err := s.Exec(t.Context(), ExecRequest{Cmd: "while :; do date +%s%N > f; sleep 0.02; done", Yield: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "a snapshot", func() bool { return b.newest(t, m, key) != "" })
	first := b.newest(t, m, key)
	until(t, "another", func() bool { return b.newest(t, m, key) != first })
	if _, err := s.Kill(t.Context(), job.ID, 9); err != nil {
		t.Fatal(err)
	}
	change, err := s.BeginChange(t.Context(), Changes, nil)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, "echo last > f")
	change.End(t.Context())
	repo, err := s.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the last state", func() bool {
		changes, err := repo.Diff(t.Context(), b.newest(t, m, key), "", "")
		return err == nil && len(changes) == 0
	})
	if got := (Durable{Interval: 5 * time.Second}).lost(); !strings.Contains(got, "5s") {
		t.Errorf("%q", got)
	}
}

// TestClocksApart: servers whose clocks are an hour apart in either direction hold,
// pass on and take over sessions like others.
func TestClocksApart(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	shifted := func(by time.Duration) Config {
		return Config{Now: func() time.Time { return time.Now().Add(by) }, MaxAge: 24 * time.Hour, Idle: 30 * time.Minute}
	}
	one, reachOne := b.with(newWorld(t), "http://one", shifted(time.Hour))
	two, reachTwo := b.with(newWorld(t), "http://two", shifted(-time.Hour))
	s := get(t, one, key)
	for range 2 {
		run(t, s, "echo line >> f")
		if _, err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		from, to, cut := one, two, reachOne
		if !from.live(key) {
			from, to, cut = two, one, reachTwo
		}
		refusedFor(t, to, key)
		sweeps := from.sweeps.Load()
		until(t, "a sweep", func() bool { from.sweepByAge(); to.sweepByAge(); return from.sweeps.Load() >= sweeps })
		refusedFor(t, to, key)
		cut.cut.Store(true)
		until(t, "the other server to take over", func() (ok bool) {
			var err error
			s, err = to.Get(t.Context(), key)
			return err == nil
		})
		cut.cut.Store(false)
		until(t, "the first server to be back", from.Ready)
	}
	if got := run(t, s, "cat f"); got != "line\nline\n" {
		t.Errorf("%q", got)
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil {
		t.Error(err)
	}
}

// TestNamedSnapshotIsHeld: the snapshot that the entry names stays, however many
// others follow before the next is named.
func TestNamedSnapshotIsHeld(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, reachOne := b.with(newWorld(t), "http://one", Config{Retention: Retention{Count: 2}})
	two, _ := b.with(newWorld(t), "http://two", Config{})
	s := get(t, one, key)
	run(t, s, "echo named > f")
	if _, err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	repo, err := s.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		run(t, s, "echo more >> f")
		if _, err := repo.Create(t.Context(), SnapshotRequest{Auto: true}); err != nil {
			t.Fatal(err)
		}
	}
	reachOne.cut.Store(true)
	until(t, "the other server to take over", func() (ok bool) {
		s, err = two.Get(t.Context(), key)
		return err == nil
	})
	if got := run(t, s, "cat f"); got != "named\n" {
		t.Errorf("%q", got)
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil {
		t.Log(err) // the first cannot reach the bucket
	}
}
