package session

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mcp-sandbox/directory"
	"mcp-sandbox/snapshot"
)

// testTTL leaves a fence a second under a loaded machine.
const testTTL = 1500 * time.Millisecond

// bucket is what servers share: a directory and a store of snapshots.
type bucket struct {
	t   *testing.T
	dir string
	ttl time.Duration // of its servers' leases, testTTL when 0
	far time.Duration // how long reading an entry that begins with farPrefix takes
}

const farPrefix = "saved/client-far-"

func newBucket(t *testing.T) *bucket {
	if testing.Short() {
		t.Skip("who the user is decides nothing here")
	}
	return &bucket{t: t, dir: t.TempDir()}
}

func (b *bucket) store(id string) (snapshot.Store, error) {
	return snapshot.NewLocalStore(filepath.Join(b.dir, "snapshots", id))
}

// reach is one server's way to the bucket. cut makes it fail, blind hides other
// servers, so that their leases seem to be past.
type reach struct {
	directory.Directory
	cut, blind atomic.Bool
	far        time.Duration
}

var errCut = errors.New("cut off")

func (r *reach) Get(ctx context.Context, key string) ([]byte, string, error) {
	switch {
	case r.cut.Load():
		return nil, "", errCut
	case r.blind.Load() && strings.HasPrefix(key, serversPrefix):
		return nil, "", fs.ErrNotExist
	case strings.HasPrefix(key, farPrefix):
		select {
		case <-time.After(r.far):
		case <-ctx.Done():
			return nil, "", ctx.Err()
		}
	}
	return r.Directory.Get(ctx, key)
}

func (r *reach) PutIf(ctx context.Context, key string, value []byte, version string) (string, error) {
	if r.cut.Load() {
		return "", errCut
	}
	return r.Directory.PutIf(ctx, key, value, version)
}

func (r *reach) List(ctx context.Context, prefix string) ([]directory.Entry, error) {
	if r.cut.Load() {
		return nil, errCut
	}
	return r.Directory.List(ctx, prefix)
}

func (r *reach) Delete(ctx context.Context, key string) error {
	if r.cut.Load() {
		return errCut
	}
	return r.Directory.Delete(ctx, key)
}

// server is a manager with a machine of its own.
func (b *bucket) server(url string) (*Manager, *reach, *world) {
	b.t.Helper()
	w := newWorld(b.t)
	m, r := b.on(w, url)
	return m, r, w
}

func (b *bucket) on(w *world, url string) (*Manager, *reach) {
	b.t.Helper()
	return b.with(w, url, Config{})
}

// with is on with further settings.
func (b *bucket) with(w *world, url string, c Config) (*Manager, *reach) {
	b.t.Helper()
	r := &reach{Directory: directory.NewLocal(b.dir), far: b.far}
	c.NameOf, c.Directory, c.OpenStore, c.Key, c.PeerURL, c.LeaseTTL = KeptName, r, b.store, bytes.Repeat([]byte("k"), 32), url, cmp.Or(b.ttl, testTTL)
	m := w.manager(c)
	b.t.Cleanup(func() { r.cut.Store(false) })
	return m, r
}

func get(t *testing.T, m *Manager, key string) *Session {
	t.Helper()
	s, err := m.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refusedFor wants a session to be at another server, and gives which.
func refusedFor(t *testing.T, m *Manager, key string) Holder {
	t.Helper()
	_, err := m.Get(t.Context(), key)
	var e *Elsewhere
	if !errors.As(err, &e) || !errors.Is(err, ErrElsewhere) {
		t.Fatalf("%v, want a session elsewhere", err)
	}
	return e.Holder
}

// TestLostServerIsFollowed: a server that cannot renew its lease ends its sessions
// before another takes over from the last snapshot, and when it is back it takes part
// again with what the other has done.
func TestLostServerIsFollowed(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, reachOne, w := b.server("http://one")
	two, _, _ := b.server("http://two")
	s := get(t, one, key)
	run(t, s, "echo stored > f")
	if _, err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, s, "echo late > g")
	if h := refusedFor(t, two, key); h.URL != "http://one" {
		t.Errorf("the holder is %+v", h)
	}
	if !two.Known(key) || two.Known(Key("bob", "1")) {
		t.Error("what another server holds is not known")
	}

	reachOne.cut.Store(true)
	until(t, "the fence", func() bool { return one.counts.Fenced.Load() == 1 })
	if s.Running() || one.Ready() {
		t.Error("the fenced session runs on")
	}
	refusedFor(t, one, key)
	var at2 *Session
	until(t, "the other server to take over", func() (ok bool) {
		var err error
		at2, err = two.Get(t.Context(), key)
		return err == nil
	})
	if at2.ID() != s.ID() {
		t.Error("it is another session")
	}
	if got := run(t, at2, "cat f; ls"); got != "stored\nf\n" {
		t.Errorf("%q", got)
	}
	if r := at2.TakeResumption(); r == nil || r.From != "snapshot" || r.Snapshot == "" || r.Lost[0] != "later changes are lost" {
		t.Errorf("%+v", r)
	}
	run(t, at2, "echo two > f")

	reachOne.cut.Store(false)
	until(t, "the first server to be back", one.Ready)
	wantCode(t, s.Held(), "session_not_found")
	if h := refusedFor(t, one, key); h.URL != "http://two" {
		t.Errorf("the holder is %+v", h)
	}
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	one.Unroute(KeptName(key))
	back := get(t, one, key)
	if got := run(t, back, "cat f; ls"); got != "two\nf\n" {
		t.Errorf("%q", got)
	}
	if r := back.TakeResumption(); r == nil || strings.Contains(r.Text(), "changes are lost") {
		t.Errorf("%+v", r)
	}
	if left, _ := os.ReadDir(w.temp); len(left) != 1 {
		t.Errorf("workspaces here: %v", left)
	}
	if err := one.Delete(key); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "saved", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "snapshots", "*", "*", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	w.empty(w.temp)
}

// TestOwnComeback: nobody took the session over while its server was cut off, so it
// goes on with the files as they were.
func TestOwnComeback(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, reachOne, w := b.server("http://one")
	run(t, get(t, one, key), "echo unsaved > f")
	reachOne.cut.Store(true)
	until(t, "the fence", func() bool { return one.counts.Fenced.Load() == 1 })
	reachOne.cut.Store(false)
	until(t, "the store", one.Ready)
	again := get(t, one, key)
	if got := run(t, again, "cat f"); got != "unsaved\n" {
		t.Errorf("%q", got)
	}
	if r := again.TakeResumption(); r == nil || r.From != "workspace" {
		t.Errorf("%+v", r)
	}
	// The same after a stop that could not reach the store, by the next server of the
	// state directory, which another one of it cannot be at the same time.
	run(t, again, "echo more >> f")
	if _, err := NewManager(one.Config(), w.launcher); codeOf(err) != "already_exists" {
		t.Errorf("a second server with one state directory: %v", err)
	}
	reachOne.cut.Store(true)
	_ = one.Close()
	next, _ := b.on(w, "http://one")
	if got := run(t, get(t, next, key), "cat f"); got != "unsaved\nmore\n" {
		t.Errorf("%q", got)
	}
}

// TestForgottenServerFences: a server whose own entry is gone cannot know who has its
// sessions, and ends them before it is seen again.
func TestForgottenServerFences(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, reachOne, _ := b.server("http://one")
	s := get(t, one, key)
	run(t, s, "echo mine > f")
	if err := reachOne.Directory.Delete(t.Context(), serversPrefix+one.state.lease.ID); err != nil {
		t.Fatal(err)
	}
	until(t, "the fence", func() bool { return one.counts.Fenced.Load() == 1 })
	wantCode(t, s.Held(), "session_not_found")
	until(t, "the server to be back", one.Ready)
	if got := run(t, get(t, one, key), "cat f"); got != "mine\n" {
		t.Errorf("%q", got)
	}
}

// TestPassedOverHolderLoses: a holder that another server took for dead cannot write
// any more, tells no result, and drops the session.
func TestPassedOverHolderLoses(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, _, _ := b.server("http://one")
	two, reachTwo, _ := b.server("http://two")
	s := get(t, one, key)
	run(t, s, "echo stored > f")
	first, err := s.Stop(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reachTwo.blind.Store(true)
	until(t, "the other server to take over", func() bool { _, err := two.Get(t.Context(), key); return err == nil })
	reachTwo.blind.Store(false)
	run(t, get(t, two, key), "echo two > f")
	run(t, s, "echo one > f")
	if s.Held() != nil {
		t.Error("it was found out too soon to try")
	}
	_, err = s.Stop(t.Context())
	wantCode(t, err, "session_not_found")
	wantCode(t, s.Held(), "session_not_found")
	if d, err := two.state.load(KeptName(key)); err != nil || d.Snapshot != first || d.Epoch != 2 {
		t.Errorf("%+v %v", d, err)
	}
	refusedFor(t, one, key)
	if s.Running() || one.counts.Fenced.Load() != 1 {
		t.Error("it was not dropped")
	}
	if h := refusedFor(t, one, key); h.URL != "http://two" {
		t.Errorf("%+v", h)
	}
}

// TestOneServerBegins: of servers that begin a session at the same time one does.
func TestOneServerBegins(t *testing.T) {
	b := newBucket(t)
	one, _, _ := b.server("http://one")
	two, _, _ := b.server("http://two")
	for i := range 5 {
		key := Key("ann", string(rune('a'+i)))
		errs := make(chan error, 2)
		for _, m := range []*Manager{one, two} {
			go func() { _, err := m.Get(t.Context(), key); errs <- err }()
		}
		a, b := <-errs, <-errs
		if (a == nil) == (b == nil) || !errors.Is(errors.Join(a, b), ErrElsewhere) {
			t.Errorf("%v, %v", a, b)
		}
		if one.live(key) == two.live(key) {
			t.Error("not at one server")
		}
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil {
		t.Error(err)
	}
}

// TestNothingStoredYet: a machine that is lost before a session was stored loses its
// files, and says so; the address is not lost.
func TestNothingStoredYet(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, reachOne, _ := b.server("http://one")
	two, _, _ := b.server("http://two")
	run(t, get(t, one, key), "echo early > f")
	reachOne.cut.Store(true)
	var s *Session
	until(t, "the other server to take over", func() (ok bool) {
		var err error
		s, err = two.Get(t.Context(), key)
		return err == nil
	})
	if got := run(t, s, "ls"); got != "" {
		t.Errorf("%q", got)
	}
	if r := s.TakeResumption(); r == nil || r.From != "nothing" || !strings.Contains(r.Text(), "files are lost") {
		t.Errorf("%+v", r)
	}
}

// TestForgottenEverywhere: what one server has ended for good is unknown at the other,
// and what another one holds is ended there.
func TestForgottenEverywhere(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, _, _ := b.server("http://one")
	two, _, _ := b.server("http://two")
	get(t, one, key)
	if err := two.Forget(key, true); !errors.Is(err, ErrElsewhere) {
		t.Errorf("%v", err)
	}
	if two.state.gone(KeptName(key)) {
		t.Error("marked by who does not hold it")
	}
	if err := one.Forget(key, false); err != nil {
		t.Fatal(err)
	}
	if !one.Gone(key, time.Time{}) || !two.Gone(key, time.Time{}) {
		t.Error("not gone")
	}
	two.Unroute(KeptName(key))
	_, err := two.Get(t.Context(), key)
	wantCode(t, err, "session_not_found")
}

// TestYield: a holder gives up what is quiet and used by nobody directly.
func TestYield(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, _, _ := b.server("http://one")
	two, _, _ := b.server("http://two")
	s := get(t, one, key)
	run(t, s, "echo mine > f")
	job, err := s.Exec(t.Context(), ExecRequest{Cmd: "sleep 1000", Yield: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if one.Yield(KeptName(key), 0) {
		t.Error("given up with a process")
	}
	if _, err := s.Kill(t.Context(), job.ID, 9); err != nil {
		t.Fatal(err)
	}
	one.Direct(key)
	if one.Yield(KeptName(key), time.Hour) || one.Yield("client-none", 0) {
		t.Error("given up while in use")
	}
	until(t, "the session to be given up", func() bool { return one.Yield(KeptName(key), 0) })
	if got := run(t, get(t, two, key), "cat f"); got != "mine\n" {
		t.Errorf("%q", got)
	}
}

// TestOutdatedWorkspaceIsRemoved: what a session that went on elsewhere left here goes.
func TestOutdatedWorkspaceIsRemoved(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, _, w := b.server("http://one")
	two, _, _ := b.server("http://two")
	one.sweeper.stop()()
	run(t, get(t, one, key), "echo mine > f")
	if err := one.End(key); err != nil {
		t.Fatal(err)
	}
	one.config.MaxAge = time.Hour
	one.sweepSaved(t.Context(), time.Now())
	if left, _ := os.ReadDir(w.temp); len(left) != 1 {
		t.Errorf("a parked workspace that is current: %v", left)
	}
	get(t, two, key)
	one.swept = time.Time{}
	one.sweepSaved(t.Context(), time.Now())
	w.empty(w.temp)
	if left, _ := filepath.Glob(filepath.Join(w.state, "sessions", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestStopWaitsForNoSweep: while thousands of entries are read, sessions are saved when
// they are quiet, and a stop saves them at once.
func TestStopWaitsForNoSweep(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	b.far = 2 * time.Second
	local := directory.NewLocal(b.dir)
	for i := range 100 {
		if _, err := local.PutIf(t.Context(), fmt.Sprintf("%s%d.json", farPrefix, i), []byte("x"), ""); err != nil {
			t.Fatal(err)
		}
	}
	one, _ := b.with(newWorld(t), "http://one", Config{Idle: time.Hour, Durable: Durable{Interval: 20 * time.Millisecond}})
	run(t, get(t, one, key), "echo stored > f")
	until(t, "the other sweep", func() bool { return one.sweeps.Load() > 0 })
	began := time.Now()
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the stop took %v", took)
	}
	two, _ := b.with(newWorld(t), "http://two", Config{})
	if got := run(t, get(t, two, key), "cat f"); got != "stored\n" {
		t.Errorf("%q", got)
	}
}

// TestForeignServerEntry: an entry that our key has not signed sends no call anywhere.
func TestForeignServerEntry(t *testing.T) {
	b := newBucket(t)
	one, reachOne, _ := b.server("http://one")
	if _, err := reachOne.PutIf(t.Context(), serversPrefix+"evil", []byte(`{"text":"{\"id\":\"evil\",\"url\":\"http://evil\",\"count\":1}","hmac_sha256":"00"}`), ""); err != nil {
		t.Fatal(err)
	}
	one.state.lease.watch(t.Context())
	if p := one.Peers(); len(p) != 0 {
		t.Errorf("%v", p)
	}
}

// TestElsewhereText: no server is blamed for a directory that is away.
func TestElsewhereText(t *testing.T) {
	for want, err := range map[string]error{
		"the session directory cannot be reached at the moment; retry": away(errCut),
		"in use at another server; retry":                              heldBy("n", Holder{ID: "x", URL: "http://x"}),
	} {
		if got := ElsewhereText(fmt.Errorf("a call: %w", err)); !errors.Is(err, ErrElsewhere) || !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
