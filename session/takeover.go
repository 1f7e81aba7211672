package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/snapshot"
)

// shareWorkspace makes, adopts or copies the workspace of a session that is held by
// lease.
func (s *Session) shareWorkspace(ctx context.Context) error {
	c := s.claim
	if s.resumed == nil {
		// Claimed before anything of it is made.
		err := c.save(ctx, savedState{SessionID: s.id, Created: s.created.UTC(), Owned: true})
		if c.lost.Load() {
			return heldBy(c.name, Holder{})
		}
		if err != nil {
			return away(err)
		}
		if err := s.makeRoot(); err != nil {
			return err
		}
		return s.noteClaim()
	}
	if c.current {
		return s.adoptWorkspace(ctx)
	}
	if r := c.record; r != nil {
		// What is here is what it was before another server had the session.
		c.record = nil
		if err := errors.Join(s.state.removeRemains(s.id, r.data), r.removeWorkspace(), r.remove()); err != nil {
			s.log.Warn("an outdated workspace could not be removed", "error", err)
		}
	}
	return s.copyWorkspace(ctx)
}

// copyWorkspace brings the workspace of another server here, from its snapshot, to the
// same path where that is free.
func (s *Session) copyWorkspace(ctx context.Context) (err error) {
	s.snapshotID, s.owned, s.recreated = s.resumed.Snapshot, true, true
	if s.root, err = ownedRootPath(s.config.TempDir, s.id); err != nil {
		return errorf("internal", err, "the temporary workspace could not be made; check that the temporary directory exists and has room")
	}
	if _, err := os.Lstat(s.root); err == nil {
		s.root += fmt.Sprintf("-%d", s.claim.epoch) // of a stopped server of this machine
	}
	if s.record, err = s.state.add(s.id, recordData{Workspace: s.root, Owned: true, Temp: s.temp}); err != nil {
		return errorf("internal", err, "the session could not be recorded in the state directory; check --state-dir")
	}
	err = os.Mkdir(s.root, 0o700)
	if err == nil {
		_, _, err = chownToSandbox(s.root)
	}
	if err == nil {
		err = s.openRoot()
	}
	if err == nil {
		_, err = s.restoreLast(ctx)
	}
	if err == nil {
		err = s.noteClaim()
	}
	if err != nil {
		// So that the next try does not find half of it.
		err = errors.Join(err, s.record.removeWorkspace(), s.record.remove())
		s.record = nil
		if sandbox.CodeOf(err) == "" {
			err = errorf("internal", err, "the workspace could not be brought here; check the temporary directory")
		}
		return err
	}
	s.log.Info("the session was taken over from another server", "snapshot", s.snapshotID)
	return nil
}

// noteClaim marks the workspace as the one of this claim, so that a later server of
// this state directory can go on with it.
func (s *Session) noteClaim() error {
	d := s.record.data
	d.Claims = []string{s.claim.mark()}
	return s.record.update(d)
}

// giveUp lets any server take the session, whose snapshot has everything.
func (s *Session) giveUp() error {
	if s.state.lease == nil {
		return nil
	}
	st := s.savedState()
	st.Clean = true
	return s.saveStateAs(st)
}

// Held says whether the session is still this server's, so that what a call has done
// counts.
func (s *Session) Held() error {
	if s.claim.held() {
		return nil
	}
	return errLost()
}

// fencedStore keeps a server whose lease is past from changing the snapshots of a
// session that another one may have, and a call that outlives its session from adding
// some after they were removed.
type fencedStore struct {
	snapshot.Store
	claim *claim
}

func (f fencedStore) Put(ctx context.Context, key string, r io.ReadSeeker, size int64) error {
	if !f.claim.held() {
		return errLost()
	}
	return f.claim.storing(ctx, func(ctx context.Context) error { return f.Store.Put(ctx, key, r, size) })
}

func (f fencedStore) Delete(ctx context.Context, key string) error {
	if !f.claim.held() {
		return errLost()
	}
	ctx, cancel := f.claim.untilEnd(ctx)
	defer cancel()
	return f.claim.ended(f.Store.Delete(ctx, key))
}

func (f fencedStore) List(ctx context.Context, prefix string) ([]snapshot.Object, error) {
	ctx, cancel := f.claim.untilEnd(ctx)
	defer cancel()
	list, err := f.Store.List(ctx, prefix)
	return list, f.claim.ended(err)
}

func (f fencedStore) Has(ctx context.Context, key string) (bool, error) {
	ctx, cancel := f.claim.untilEnd(ctx)
	defer cancel()
	has, err := f.Store.Has(ctx, key)
	return has, f.claim.ended(err)
}

func (f fencedStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	ctx, cancel := f.claim.untilEnd(ctx)
	r, err := f.Store.Get(ctx, key, off, n)
	if err != nil {
		cancel()
		return nil, f.claim.ended(err)
	}
	return fencedReader{r, cancel}, nil
}

// fencedReader is an object that is read until the session's end at most.
type fencedReader struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (r fencedReader) Close() error {
	defer r.cancel()
	return r.ReadCloser.Close()
}

// Window is that of the store, see package snapshot.
func (f fencedStore) Window() int64 {
	if w, ok := f.Store.(interface{ Window() int64 }); ok {
		return w.Window()
	}
	return 0
}

const (
	// emptyTime bounds the removal of one session's snapshots.
	emptyTime = 30 * time.Second
	// removedAtOnce are its requests at a time: snapshots are thousands of objects.
	removedAtOnce = 16
)

// emptyStore removes all snapshots of a session. It tries every one, and its error is
// that of the first that could not be removed.
func emptyStore(ctx context.Context, c Config, id string) error {
	ctx, cancel := context.WithTimeout(ctx, emptyTime)
	defer cancel()
	store, err := c.OpenStore(id)
	if err != nil {
		return err
	}
	list, err := store.List(ctx, "")
	if err != nil {
		return err
	}
	var failed atomic.Pointer[error]
	atOnce(removedAtOnce, list, ctx.Done(), func(o snapshot.Object) {
		if err := store.Delete(ctx, o.Key); err != nil {
			failed.CompareAndSwap(nil, &err)
		}
	})
	if err := failed.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

// holds says whether a live server has the session.
func (s *state) holds(name string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), entryTime)
	defer cancel()
	d, _, err := s.loadEntry(ctx, name)
	if err != nil || d.Holder == "" {
		return false
	}
	h, err := s.lease.alive(ctx, d.Holder)
	return err != nil || h != nil
}

// sweepShared removes what is left on this machine of sessions that went on at
// others. claims has the last claim of every session by its id.
func (s *state) sweepShared(claims map[string]string) error {
	names, err := filepath.Glob(filepath.Join(s.dir, "sessions", "*.json"))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		r, err := lockRecord(name)
		if err != nil || r == nil {
			continue // live
		}
		id := filepath.Base(name[:len(name)-len(".json")])
		if !r.data.Kept || slices.Contains(r.data.Claims, claims[id]) {
			r.f.Close()
			continue
		}
		errs = append(errs, s.removeRemains(id, r.data), r.removeWorkspace(), r.remove())
	}
	return errors.Join(errs...)
}
