package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mcp-sandbox/directory"
)

// claim is what keeps other servers from using a named session while this one does:
// in a state directory a lock on a file, in a shared directory the server's lease.
type claim struct {
	st   *state
	name string
	lock *os.File // nil with a lease

	mu      sync.Mutex
	version string // of the entry as this server last saw it, "" for none
	epoch   int64
	ends    bool        // the claim of a removal that its server did not end
	fences  int64       // of the lease, when this was taken
	lost    atomic.Bool // to another server

	// record is that of a session that was here before, and current says that its
	// workspace is as the last holder left it: nobody held it since.
	record  *record
	current bool

	// puts ends with the session, and what is then being stored of it holds putting.
	puts    context.Context
	endPuts context.CancelFunc
	putting sync.RWMutex
}

const (
	// entryTime bounds what is asked of the directory at once.
	entryTime = 15 * time.Second
	// endedTries and endedPause are how long an entry is waited for that a live server
	// is about to remove.
	endedTries = 20
	endedPause = 100 * time.Millisecond
)

func savedKey(name string) string { return "saved/" + name + ".json" }

// away is for a directory that does not answer: nothing was done.
func away(cause error) error {
	return errorf("already_exists", errors.Join(&Elsewhere{}, cause), "the session directory cannot be reached at the moment; retry in a moment")
}

func heldBy(name string, h Holder) error {
	return errorf("already_exists", &Elsewhere{Holder: h, Name: name}, "the session %q is in use by another server; end that one or choose another name", name)
}

// errLost: another server has taken the session over, or could have, so nothing of
// it may be told or stored.
func errLost() error {
	return errorf("session_not_found", nil, "the session was taken from this server during the call, and what was not stored before may be lost; call again, and look first at what this call has done")
}

// loadEntry reads a named session's state; os.ErrNotExist when there is none.
func (s *state) loadEntry(ctx context.Context, name string) (savedState, string, error) {
	b, version, err := s.entries.Get(ctx, savedKey(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return savedState{}, "", fs.ErrNotExist
	case err != nil && s.lease != nil:
		return savedState{}, "", away(err)
	case err != nil:
		return savedState{}, "", errorf("permission_denied", err, "the saved session %q cannot be read; check the state directory", name)
	}
	key, err := s.key()
	if err != nil {
		return savedState{}, "", err
	}
	st, err := unseal(key, b)
	if err != nil {
		return savedState{}, "", err
	}
	// An entry put under another name would bring back another session.
	if st.Name != name {
		return savedState{}, "", errorf("invalid_argument", nil, "the saved session %q belongs to another name and cannot be resumed; delete it and start a new one", name)
	}
	return st, version, nil
}

// load is loadEntry for who only looks; an ended session is none.
func (s *state) load(name string) (savedState, error) {
	ctx, cancel := context.WithTimeout(context.Background(), entryTime)
	defer cancel()
	st, _, err := s.loadEntry(ctx, name)
	if err == nil && st.Ended {
		err = fs.ErrNotExist
	}
	return st, err
}

// claim takes a named session for this server, and gives its state, nil when there
// is none yet. Codes: already_exists (ErrElsewhere) and those of load.
func (s *state) claim(name string) (*claim, *savedState, error) {
	ctx, cancel := context.WithTimeout(context.Background(), entryTime)
	defer cancel()
	c := &claim{st: s, name: name}
	if s.lease != nil {
		c.puts, c.endPuts = context.WithCancel(context.Background())
		saved, err := c.take(ctx)
		return c, saved, err
	}
	var err error
	if c.lock, err = s.lockName(name); err != nil {
		return nil, nil, err
	}
	saved, version, err := s.loadEntry(ctx, name)
	switch {
	case os.IsNotExist(err):
		return c, nil, nil
	case err != nil:
		c.close()
		return nil, nil, err
	}
	c.version = version
	return c, &saved, nil
}

// mark names this claim among all that there ever were of the session.
func (c *claim) mark() string {
	m := fmt.Sprintf("%s/%d", c.st.lease.ID, c.epoch)
	if c.ends {
		// A call of the same server may claim the name meanwhile, from the same entry.
		m += "/end"
	}
	return m
}

// take is claim by the lease.
func (c *claim) take(ctx context.Context) (*savedState, error) {
	l := c.st.lease
	c.fences = l.fences.Load()
	for try := 0; ; try++ {
		if !l.valid() {
			return nil, away(nil)
		}
		saved, version, err := c.st.loadEntry(ctx, c.name)
		switch {
		case os.IsNotExist(err):
			c.version, c.epoch = "", 1
			return nil, nil
		case err != nil:
			return nil, err
		case saved.Ended:
			h, err := l.alive(ctx, saved.Holder)
			switch {
			case err != nil:
				return nil, away(err)
			case h != nil && try < endedTries:
				time.Sleep(endedPause)
				continue
			case h != nil && !l.own(h.ID):
				return nil, heldBy(c.name, *h)
			}
			if err := c.st.empty(saved.SessionID); err != nil {
				return nil, errorf("already_exists", errors.Join(&Elsewhere{}, err), "what the ended session of this name left in the store could not be removed; retry in a moment")
			}
			c.version, c.epoch = version, saved.Epoch+1
			return nil, nil
		case saved.Holder != "" && !l.own(saved.Holder):
			switch h, err := l.alive(ctx, saved.Holder); {
			case err != nil:
				return nil, away(err)
			case h != nil:
				return nil, heldBy(c.name, *h)
			}
		}
		c.epoch = saved.Epoch + 1
		if err := c.findRecord(saved); err != nil {
			return nil, err
		}
		next := saved
		next.Clean = false
		err = c.write(ctx, next, version)
		switch {
		case err == nil:
			return &saved, nil
		case errors.Is(err, directory.ErrConflict) && try < endedTries:
			c.close()
			continue // somebody else was faster, or this very write arrived twice
		}
		c.close()
		return nil, away(err)
	}
}

// findRecord looks whether the session was here before. The claim is noted before it
// is made: a server killed in between still knows the workspace for the latest.
func (c *claim) findRecord(saved savedState) (err error) {
	c.record, err = c.st.reopen(saved.SessionID)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	d := c.record.data
	_, gone := os.Lstat(d.Workspace)
	if c.current = gone == nil && saved.Claim != "" && slices.Contains(d.Claims, saved.Claim); !c.current {
		return nil
	}
	d.Claims = []string{saved.Claim, c.mark()}
	return c.record.update(d)
}

// write puts the state as this claim's where the entry has the version.
func (c *claim) write(ctx context.Context, st savedState, version string) error {
	if l := c.st.lease; l != nil {
		st.Epoch, st.Claim = c.epoch, c.mark()
		if !st.Clean {
			st.Holder = l.ID
		}
	}
	key, err := c.st.key()
	if err != nil {
		return err
	}
	b, err := seal(key, st)
	if err != nil {
		return err
	}
	next, err := c.st.entries.PutIf(ctx, savedKey(c.name), b, version)
	if err == nil {
		c.version = next
	}
	return err
}

// save replaces the state. With st.Clean it also gives the session up. Codes:
// already_exists where the lease or the directory is away, session_not_found once
// another server has the session.
func (c *claim) save(ctx context.Context, st savedState) error {
	ctx, cancel := context.WithTimeout(ctx, entryTime)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	st.Name = c.name
	for range 3 {
		switch {
		case c.over():
			return errLost()
		case c.st.lease != nil && !c.st.lease.valid():
			return away(nil)
		}
		err := c.write(ctx, st, c.version)
		if !errors.Is(err, directory.ErrConflict) {
			return err
		}
		b, version, err := c.st.entries.Get(ctx, savedKey(c.name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			version = ""
		case err != nil:
			return err
		case c.st.lease != nil:
			// Its own write may have arrived that seemed to fail.
			if key, err := c.st.key(); err != nil {
				return err
			} else if now, err := unseal(key, b); err != nil || now.Claim != c.mark() || now.Ended {
				c.lost.Store(true)
				return errLost()
			}
		}
		c.version = version
	}
	return away(directory.ErrConflict)
}

// remove takes the entry of the session with this id away. With a lease it is first
// replaced by a mark that says whose snapshots have to go, so that a server that is
// killed meanwhile leaves nothing unknown: whoever replaces or removes the mark has
// removed them. Every write has the condition that the entry is this claim's, so
// another holder's is never removed.
func (c *claim) remove(id string) error {
	if c.st.lease == nil {
		ctx, cancel := context.WithTimeout(context.Background(), entryTime)
		defer cancel()
		err := c.st.entries.Delete(ctx, savedKey(c.name))
		// While the lock is held, see lockName.
		return errors.Join(err, ignoreMissing(os.Remove(c.st.lockPath(c.name))))
	}
	c.mu.Lock()
	there := c.version != ""
	c.mu.Unlock()
	if !there {
		return nil
	}
	c.endStoring()
	ended := savedState{Ended: true, SessionID: id}
	if err := c.save(context.Background(), ended); err != nil {
		return err
	}
	if err := c.st.empty(id); err != nil {
		return errorf("internal", err, "the snapshots of the ended session could not be removed from the store; a server of the store does it later")
	}
	// Once more, as that may have taken long enough for others to take the name; and
	// with other content, as equal ones may have one version.
	ended.Saved = time.Now().UTC()
	if err := c.save(context.Background(), ended); err != nil {
		return err
	}
	// It has no condition, so it has to be over before another server may take the name.
	ctx, cancel := context.WithTimeout(context.Background(), min(entryTime, c.st.lease.left()))
	defer cancel()
	return c.st.entries.Delete(ctx, savedKey(c.name))
}

// storing runs put until the session ends; after that it is refused.
func (c *claim) storing(ctx context.Context, put func(context.Context) error) error {
	c.putting.RLock()
	defer c.putting.RUnlock()
	ctx, cancel := c.untilEnd(ctx)
	defer cancel()
	err := c.puts.Err()
	if err == nil {
		err = put(ctx)
	}
	return c.ended(err)
}

// untilEnd is a context that ends with the session, so that nobody waits for a store
// that does not answer when nothing can come of it.
func (c *claim) untilEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.puts, cancel)
	return ctx, func() { stop(); cancel() }
}

// ended replaces an error that the session's end has caused.
func (c *claim) ended(err error) error {
	if err != nil && c.puts.Err() != nil {
		return errorf("session_not_found", err, "the session was ended during the call, and what was not stored before may be lost; call again, and look first at what this call has done")
	}
	return err
}

// endStoring ends what is being stored of the session, and has nothing follow.
func (c *claim) endStoring() {
	if c == nil || c.endPuts == nil {
		return
	}
	c.endPuts()
	c.putting.Lock()
	defer c.putting.Unlock()
}

// endRemoval does the rest of a remove that its server did not end. again says that
// the mark is known to be an old one; else a live server is left to do it.
func (s *state) endRemoval(ctx context.Context, name string, again bool) error {
	d, version, err := s.loadEntry(ctx, name)
	if err != nil || !d.Ended {
		return err
	}
	if !again || !s.lease.own(d.Holder) {
		if h, err := s.lease.alive(ctx, d.Holder); err != nil || h != nil {
			return err
		}
	}
	return s.removalOf(name, d, version).remove(d.SessionID)
}

// removalOf is the claim that ends the removal which d, at this version, is the mark of.
func (s *state) removalOf(name string, d savedState, version string) *claim {
	return &claim{st: s, name: name, fences: s.lease.fences.Load(), version: version, epoch: d.Epoch + 1, ends: true}
}

// unused gives back a name that nothing was made under.
func (c *claim) unused() {
	if c.lock != nil {
		_ = os.Remove(c.st.lockPath(c.name))
	}
	c.close()
}

// close gives back what the claim holds of this machine.
func (c *claim) close() {
	if c == nil {
		return
	}
	if c.lock != nil {
		_ = c.lock.Close()
	}
	if c.record != nil {
		_ = c.record.f.Close()
		c.record = nil
	}
}

// held says whether the session may still be used and its results be told.
func (c *claim) held() bool {
	return c == nil || c.st.lease == nil || !c.over() && c.st.lease.valid()
}

// over says whether the session is not this claim's any more: another server has it,
// or could have had it.
func (c *claim) over() bool {
	return c.lost.Load() || c.st.lease != nil && c.fences != c.st.lease.fences.Load()
}
