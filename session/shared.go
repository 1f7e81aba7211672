package session

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// share gives the state the key and the directory of its configuration.
func (s *state) share(c Config) error {
	if c.Key != nil {
		sum := sha256.Sum256(append([]byte("mcp-sandbox key 1\n"), c.Key...))
		s.given = sum[:]
	}
	if c.Directory == nil {
		return nil
	}
	key, err := s.key()
	if err != nil {
		return err
	}
	s.entries = c.Directory
	ctx, leave := context.WithCancel(context.Background())
	s.empty, s.leave = func(id string) error { return emptyStore(ctx, c, id) }, leave
	s.lease = newLease(c.Directory, key, c.PeerURL, c.LeaseTTL, c.Log)
	return nil
}

// lockServer keeps a second server out of a state directory whose sessions are
// recorded elsewhere: what is left here would have two owners. A server that was
// killed here is known by it: its sessions are this server's, with their files, until
// others may take them too.
func (s *state) lockServer() error {
	f, err := os.OpenFile(filepath.Join(s.dir, "server.lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return errorf("permission_denied", err, "the state directory cannot be written; check --state-dir")
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return errorf("already_exists", nil, "another server has this state directory; servers of one store need a --state-dir each")
	}
	before, _ := io.ReadAll(io.LimitReader(f, 64))
	s.lease.former = string(before)
	if err := errors.Join(f.Truncate(0), writeAt(f, s.lease.ID)); err != nil {
		f.Close()
		return errorf("permission_denied", err, "the state directory cannot be written; check --state-dir")
	}
	s.server = f
	return nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// beginLease makes this server one of those that share the directory. A store that is
// away for a moment is waited for.
func (m *Manager) beginLease() error {
	l := m.state.lease
	if l == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*entryTime)
	defer cancel()
	if err := m.state.lockServer(); err != nil {
		return err
	}
	if err := l.begin(m.fence); err != nil {
		return errorf("internal", err, "the store cannot be reached; check --store")
	}
	l.watch(ctx)
	return nil
}

// Ready says whether sessions can be taken: false while the directory of several
// servers has been away for too long.
func (m *Manager) Ready() bool { return m.state.lease == nil || m.state.lease.valid() }

// fence ends every kept session without writing anything of it, for the directory is
// away or another server has taken over. Files stay, so that this server goes on where
// it was if nobody did.
func (m *Manager) fence() {
	over := map[string]*entry{}
	m.mu.Lock()
	for k, e := range m.sessions {
		select {
		case <-e.ready:
			if e.session != nil && e.session.claim != nil && e.leaving == nil {
				e.leaving = make(chan struct{})
				over[k] = e
			}
		default: // its start fails, as it cannot be saved
		}
	}
	m.mu.Unlock()
	var wg sync.WaitGroup
	for k, e := range over {
		wg.Go(func() {
			m.counts.Fenced.Add(1)
			_ = e.session.Close()
			m.finishEnd(k, e)
		})
	}
	wg.Wait()
}

// route is where a session was found to be.
type route struct {
	Holder
	found time.Duration
}

// heldElsewhere is the error of a session that another server holds, nil when this one has
// it or may take it.
func (m *Manager) heldElsewhere(key string) error {
	l, name := m.state.lease, m.nameOf(key)
	if l == nil || name == "" {
		return nil
	}
	if !l.valid() {
		return away(nil)
	}
	m.mu.Lock()
	_, here := m.sessions[key]
	r, known := m.routes[name]
	m.mu.Unlock()
	if here {
		return nil
	}
	if known && sinceBoot()-r.found < l.ttl/4 {
		return heldBy(name, r.Holder)
	}
	saved, err := m.state.load(name)
	if os.IsNotExist(err) || err == nil && (saved.Holder == "" || l.own(saved.Holder)) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), entryTime)
	defer cancel()
	h, err := l.alive(ctx, saved.Holder)
	if err != nil {
		return away(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if h == nil {
		delete(m.routes, name)
		return nil
	}
	if len(m.routes) > maxRoutes {
		clear(m.routes)
	}
	m.routes[name] = route{*h, sinceBoot()}
	return heldBy(name, *h)
}

// maxRoutes bounds what is remembered of sessions elsewhere.
const maxRoutes = 4096

// Unroute forgets where a session was found, after its holder did not answer.
func (m *Manager) Unroute(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.routes, name)
}

// Shared says whether there may be other servers, see Config.Directory.
func (m *Manager) Shared() bool { return m.state.lease != nil }

// Successor is this server's id where id is its own, or that of the server which was
// killed in its state directory.
func (m *Manager) Successor(id string) (now string, ok bool) {
	if l := m.state.lease; l != nil && l.own(id) {
		return l.ID, true
	}
	return "", false
}

// Peers are the other servers of the directory that live.
func (m *Manager) Peers() []Holder {
	if m.state.lease == nil {
		return nil
	}
	return m.state.lease.others()
}

// Answers says whether the server that a call was sent to may still answer it: its
// lease is not past, or it was started again and has the session.
func (m *Manager) Answers(ctx context.Context, at *Elsewhere) bool {
	h, err := m.state.lease.alive(ctx, at.ID)
	if err != nil || h != nil {
		return true
	}
	saved, _, err := m.state.loadEntry(ctx, at.Name)
	if err == nil && saved.Holder != "" {
		h, err = m.state.lease.alive(ctx, saved.Holder)
	}
	return err != nil && !os.IsNotExist(err) || h != nil && h.URL == at.URL
}

// Patience is how long a session of a server that is gone may have to be waited for.
func (m *Manager) Patience() time.Duration {
	if m.state.lease == nil {
		return 0
	}
	return m.state.lease.ttl + m.state.lease.ttl/2 + 2*time.Second
}

// Yield gives a quiet session up for another server that is asked for it; false when
// it is not quiet, not here, or a client of this server used it within quietFor.
func (m *Manager) Yield(name string, quietFor time.Duration) bool {
	key := ""
	m.mu.Lock()
	for k, e := range m.sessions {
		if m.nameOf(k) == name && m.quiet(e) && m.config.now().Sub(e.direct) > quietFor {
			key = k
		}
	}
	m.mu.Unlock()
	return key != "" && m.suspend(key)
}

// Direct notes that a client of this server, and not another server, used a session.
func (m *Manager) Direct(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.sessions[key]; e != nil {
		e.direct = m.config.now()
	}
}
