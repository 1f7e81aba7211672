package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/directory"
	"mcp-sandbox/snapshot"
)

// TestRemovalIsEnded: a server that dies while it deletes a session leaves a mark that
// says whose snapshots have to go. Another server removes them, once the first is
// known to be gone, and no others; and so does whoever takes the name before.
func TestRemovalIsEnded(t *testing.T) {
	b, key, other, named := newBucket(t), Key("ann", "1"), Key("ann", "2"), Key("ann", "3")
	b.ttl = 5 * time.Second // a live server is not taken for dead under load
	one, reachOne, _ := b.server("http://one")
	two, _, _ := b.server("http://two")
	two.sweeper.stop()()
	ids := map[string]string{}
	for _, k := range []string{key, other, named} {
		s := get(t, one, k)
		run(t, s, "echo mine > f")
		if _, err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		ids[k] = s.ID()
	}
	left := func(k string) bool {
		store, err := b.store(ids[k])
		if err != nil {
			t.Fatal(err)
		}
		list, err := store.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		return len(list) > 0
	}
	sweep := func() {
		two.swept = time.Time{}
		two.sweepSaved(t.Context(), time.Now())
	}
	// It dies once it has begun to remove snapshots.
	one.state.empty = func(string) error {
		reachOne.cut.Store(true)
		return errCut
	}
	if err := one.Forget(key, false); err == nil {
		t.Error("a deletion that was cut off is no error")
	}
	reachOne.cut.Store(false)
	until(t, "the lease to be renewed", one.Ready)
	if err := one.Delete(named); err == nil {
		t.Error("a deletion that was cut off is no error")
	}
	// Its server may still be at it.
	reachOne.cut.Store(false)
	until(t, "the other lease", func() bool { return len(two.Peers()) == 1 })
	sweep()
	if !left(key) || !left(other) || !left(named) {
		t.Error("a live server's deletion was ended by another")
	}
	if h := refusedFor(t, two, named); h.URL != "http://one" || !left(named) {
		t.Errorf("a live server's deletion was ended by a call at another: %+v", h)
	}
	reachOne.cut.Store(true)
	until(t, "the lease to be past", func() bool { return len(two.Peers()) == 0 })
	get(t, two, named)
	if left(named) {
		t.Error("who took the name left its snapshots")
	}
	// What cannot be read says nothing.
	saved := two.state.empty
	two.state.empty = func(string) error { return errCut }
	sweep()
	if _, _, err := two.state.loadEntry(t.Context(), KeptName(key)); err != nil || !left(key) {
		t.Errorf("the mark went before the snapshots: %v", err)
	}
	two.state.empty = saved
	sweep() // the mark is its own now, and may be that of a removal that goes on
	sweep()
	if left(key) || !left(other) {
		t.Errorf("left of the deleted one: %v, of another: %v", left(key), left(other))
	}
	if _, _, err := two.state.loadEntry(t.Context(), KeptName(key)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mark stays: %v", err)
	}
	if !two.Gone(key, time.Time{}) || two.Known(key) {
		t.Error("the session is not unknown")
	}
}

// TestOwnRemovalIsEnded: what a server could not end itself it ends later.
func TestOwnRemovalIsEnded(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, reach, _ := b.server("http://one")
	one.sweeper.stop()()
	get(t, one, key)
	saved := one.state.empty
	one.state.empty = func(string) error { return errCut }
	if err := one.Delete(key); err == nil {
		t.Error("a deletion that failed is no error")
	}
	one.state.empty = saved
	there := func() bool { _, _, err := one.state.loadEntry(t.Context(), KeptName(key)); return err == nil }
	for i, want := range []bool{true, false} {
		one.swept = time.Time{}
		one.sweepSaved(t.Context(), time.Now())
		if there() != want {
			t.Errorf("after sweep %d: there is %v, want %v", i+1, !want, want)
		}
	}
	// A session is unknown for its age alone where it certainly is nowhere.
	one.config.Now = func() time.Time { return time.Now().Add(2 * unusedKept) }
	for _, cut := range []bool{false, true} {
		reach.cut.Store(cut)
		if other := Key("ann", fmt.Sprint(cut)); one.Gone(other, time.Now()) == cut {
			t.Errorf("with the directory away %v: gone %v", cut, cut)
		}
	}
}

// markedVersions notes the versions of what is written.
type markedVersions struct {
	directory.Directory
	seen []string
}

func (m *markedVersions) PutIf(ctx context.Context, key string, value []byte, version string) (string, error) {
	next, err := m.Directory.PutIf(ctx, key, value, version)
	m.seen = append(m.seen, next)
	return next, err
}

// TestClaimsOfRemovalDiffer: the end of a removal loses to a call that took the name from
// the same mark, also at the same server, and each mark it writes is a new version.
func TestClaimsOfRemovalDiffer(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, _, _ := b.server("http://one")
	one.sweeper.stop()()
	get(t, one, key)
	saved, name := one.state.empty, KeptName(key)
	one.state.empty = func(string) error { return errCut }
	if err := one.Delete(key); err == nil {
		t.Error("a deletion that failed is no error")
	}
	one.state.empty = saved
	mark, version, err := one.state.loadEntry(t.Context(), name)
	if err != nil || !mark.Ended {
		t.Fatalf("%+v %v", mark, err)
	}
	late := one.state.removalOf(name, mark, version)
	s := get(t, one, key)
	wantCode(t, late.remove(mark.SessionID), "session_not_found")
	if d, _, err := one.state.loadEntry(t.Context(), name); err != nil || d.Ended || d.SessionID != s.ID() {
		t.Errorf("the session that took the name lost its entry: %+v %v", d, err)
	}
	if err := one.End(key); err != nil {
		t.Fatal(err)
	}
	d, version, err := one.state.loadEntry(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	noted := &markedVersions{Directory: one.state.entries}
	one.state.entries = noted
	if err := one.state.removalOf(name, d, version).remove(d.SessionID); err != nil {
		t.Fatal(err)
	}
	one.state.entries = noted.Directory
	if len(noted.seen) != 2 || noted.seen[0] == noted.seen[1] {
		t.Errorf("the versions of both marks: %q", noted.seen)
	}
}

// slowStore holds what is stored and removed until it is told, or is ended.
type slowStore struct {
	snapshot.Store
	began chan struct{} // one for each
	on    chan struct{} // closed to go on
}

func (s slowStore) wait(ctx context.Context) error {
	s.began <- struct{}{}
	select {
	case <-s.on:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s slowStore) Put(ctx context.Context, key string, r io.ReadSeeker, size int64) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.Store.Put(ctx, key, r, size)
}

func (s slowStore) Delete(ctx context.Context, key string) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.Store.Delete(ctx, key)
}

// silentStore is a slowStore for what is read, too.
type silentStore struct{ slowStore }

func (s silentStore) List(ctx context.Context, prefix string) ([]snapshot.Object, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	return s.Store.List(ctx, prefix)
}

func (s silentStore) Has(ctx context.Context, key string) (bool, error) {
	if err := s.wait(ctx); err != nil {
		return false, err
	}
	return s.Store.Has(ctx, key)
}

func (s silentStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, key, off, n)
}

// TestNobodyWaitsForStoreAfterEnd: a store that takes requests and does not answer keeps
// no call longer than its session lives.
func TestNobodyWaitsForStoreAfterEnd(t *testing.T) {
	b, key := newBucket(t), Key("ann", "1")
	one, _, _ := b.server("http://one")
	s := get(t, one, key)
	store, err := b.store(s.ID())
	if err != nil {
		t.Fatal(err)
	}
	slow := silentStore{slowStore{Store: store, began: make(chan struct{}, 1), on: make(chan struct{})}}
	fenced := fencedStore{slow, s.claim}
	asked := map[string]func() error{
		"list":   func() error { _, err := fenced.List(t.Context(), ""); return err },
		"has":    func() error { _, err := fenced.Has(t.Context(), "a"); return err },
		"get":    func() error { _, err := fenced.Get(t.Context(), "a", 0, -1); return err },
		"delete": func() error { return fenced.Delete(t.Context(), "a") },
	}
	got := make(chan error, len(asked))
	for _, ask := range asked {
		go func() { got <- ask() }()
		<-slow.began
	}
	if err := one.End(key); err != nil {
		t.Error(err)
	}
	for range asked {
		select {
		case err := <-got:
			wantCode(t, err, "session_not_found")
		case <-time.After(10 * time.Second):
			t.Fatal("a request waits for the store")
		}
	}
}

// TestNothingIsStoredAfterRemoval: a call that outlives its session adds no snapshot
// that nobody would remove.
func TestNothingIsStoredAfterRemoval(t *testing.T) {
	b := newBucket(t)
	one, _, _ := b.server("http://one")
	for _, end := range []struct {
		what string
		do   func(key string) error
	}{{"delete", one.Delete}, {"end", one.End}} {
		key := Key("ann", end.what)
		s := get(t, one, key)
		store, err := b.store(s.ID())
		if err != nil {
			t.Fatal(err)
		}
		slow := slowStore{Store: store, began: make(chan struct{}, 1), on: make(chan struct{})}
		fenced, put := fencedStore{slow, s.claim}, make(chan error, 1)
		go func() { put <- fenced.Put(t.Context(), "late", strings.NewReader("x"), 1) }()
		<-slow.began
		if err := end.do(key); err != nil {
			t.Errorf("%s: %v", end.what, err)
		}
		wantCode(t, <-put, "session_not_found")
		close(slow.on)
		wantCode(t, fenced.Put(t.Context(), "later", strings.NewReader("x"), 1), "session_not_found")
		if list, err := store.List(t.Context(), "late"); err != nil || len(list) > 0 {
			t.Errorf("%s: left %v %v", end.what, list, err)
		}
	}
}

// TestRemovalTakesManyAtOnce: snapshots of thousands of objects are removed in time, and
// a stop waits for none of them.
func TestRemovalTakesManyAtOnce(t *testing.T) {
	store, err := snapshot.NewLocalStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const objects = 3 * removedAtOnce
	for i := range objects {
		if err := store.Put(t.Context(), fmt.Sprintf("o%d", i), strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, stop := range []bool{true, false} {
		slow := slowStore{Store: store, began: make(chan struct{}, objects), on: make(chan struct{})}
		st := &state{}
		c := Config{Directory: directory.NewLocal(t.TempDir()), Key: []byte(strings.Repeat("k", 32)), OpenStore: func(string) (snapshot.Store, error) { return slow, nil }}
		if err := st.share(c); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- st.empty("any") }()
		until(t, "many removals at once", func() bool { return len(slow.began) == removedAtOnce })
		if stop {
			st.stopEmptying()
		} else {
			close(slow.on)
		}
		if err := <-done; errors.Is(err, context.Canceled) != stop || (err != nil) != stop {
			t.Errorf("stopped %v: %v", stop, err)
		}
		st.stopEmptying()
	}
	if list, err := store.List(t.Context(), ""); err != nil || len(list) > 0 {
		t.Errorf("left: %v %v", list, err)
	}
}
