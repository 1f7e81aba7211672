package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mcp-sandbox/sandbox"
)

// Key names a client: a principal and the handle of one of its
// connections or sandboxes. No principal can make the key of another: handles
// are compared only behind the principal's own name.
func Key(principal, handle string) string { return principal + "\x00" + handle }

// principalOf is "" for a key that was not made by Key.
func principalOf(key string) string {
	p, _, ok := strings.Cut(key, "\x00")
	if !ok {
		return ""
	}
	return p
}

// room says whether one more session may live. When it may not, idle names the
// principal's own least used session that could make room, "" if there is none:
// only the same principal's idle session is evicted. Callers hold m.mu.
func (m *Manager) room(key string) (idle string, err error) {
	p := principalOf(key)
	own := 0
	for k := range m.sessions {
		if principalOf(k) == p {
			own++
		}
	}
	if limit := m.config.MaxPerPrincipal; limit > 0 && own >= limit {
		return m.leastUsed(p), errorf("limit_reached", nil, "you have %d sessions; end one or ask the operator to raise --max-sessions-per-principal", own)
	}
	if len(m.sessions) >= m.config.MaxSessions {
		return m.leastUsed(p), errorf("limit_reached", nil, "there are already %d sessions, end one or raise --max-sessions", m.config.MaxSessions)
	}
	return "", nil
}

// leastUsed is the key of a principal's quiet session that was used the longest
// ago, "" if there is none that could come back. Callers hold m.mu.
func (m *Manager) leastUsed(principal string) (key string) {
	// Ending a session that cannot be resumed would lose its files.
	if m.config.NameOf == nil {
		return ""
	}
	oldest := time.Time{}
	for k, e := range m.sessions {
		if principalOf(k) == principal && m.quiet(e) && (key == "" || e.lastUsed.Before(oldest)) {
			key, oldest = k, e.lastUsed
		}
	}
	return key
}

// quiet says that nothing of a session runs. Callers hold m.mu.
func (m *Manager) quiet(e *entry) bool {
	if e.calls > 0 || e.leaving != nil {
		return false
	}
	select {
	case <-e.ready:
	default:
		return false
	}
	if e.session == nil {
		return false
	}
	return !slices.ContainsFunc(e.session.Processes(), stillRuns)
}

// stillRuns counts a command that left something running behind as running.
func stillRuns(p ProcessInfo) bool { return p.Exit == nil || p.BackgroundChildren > 0 }

// suspend ends an idle session, false when it is no longer idle.
func (m *Manager) suspend(key string) bool {
	m.mu.Lock()
	e := m.sessions[key]
	if e == nil || !m.quiet(e) {
		m.mu.Unlock()
		return false
	}
	e.leaving = make(chan struct{})
	m.mu.Unlock()
	m.counts.Suspended.Add(1)
	if err := e.session.Close(); err != nil {
		m.log.Warn("an idle session did not end cleanly", "session", e.session.id, "error", err)
	}
	m.finishEnd(key, e)
	return true
}

// Live counts sessions and running processes, in all, for metrics.
func (m *Manager) Live() (sessions, processes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.sessions {
		select {
		case <-e.ready:
		default:
			continue
		}
		if e.session == nil {
			continue
		}
		sessions++
		for _, p := range e.session.Processes() {
			if stillRuns(p) {
				processes++
			}
		}
	}
	return sessions, processes
}

// Known reports whether the client has a session, live or saved.
func (m *Manager) Known(key string) bool {
	m.mu.Lock()
	_, ok := m.sessions[key]
	m.mu.Unlock()
	if ok {
		return true
	}
	name := m.configFor(key).Name
	if name == "" {
		return false
	}
	_, err := m.state.load(name)
	return err == nil
}

// Forget is Delete, and remembers that a client that had a session is gone, so
// that its handle stays unknown, here and on every server of the state directory,
// until Config.MaxAge has passed.
// A client without a session leaves no mark unless making says that a call may
// be making one this moment. Codes: internal.
func (m *Manager) Forget(key string, making bool) error {
	name := m.configFor(key).Name
	if name == "" || !making && !m.Known(key) {
		return m.Delete(key)
	}
	if err := os.MkdirAll(filepath.Dir(m.state.gonePath(name)), 0o700); err != nil {
		return errorf("internal", err, "the state directory cannot be written, check --state-dir")
	}
	// The mark first: after a kill in between, the rest is removed by its age.
	err := writeOver(m.state.gonePath(name), nil)
	return errors.Join(err, m.Delete(key))
}

// Gone reports whether a client was forgotten.
func (m *Manager) Gone(key string) bool {
	name := m.configFor(key).Name
	if name == "" {
		return false
	}
	return m.state.gone(name)
}

func (s *state) gone(name string) bool {
	_, err := os.Lstat(s.gonePath(name))
	return err == nil
}

func (s *state) gonePath(name string) string { return filepath.Join(s.dir, "saved", name+".gone") }

// Secret is for what a transport signs. It is the same for every server of a state
// directory, and another in every other one, also where both have one key: an id
// that another directory's server has made leads to nothing here, and must be
// unknown instead of an empty session.
func (m *Manager) Secret() ([]byte, error) {
	key, err := m.state.key()
	if err != nil {
		return nil, err
	}
	own, err := m.state.instance()
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte("mcp-sandbox state directory 1\n"))
	h.Write(own)
	return h.Sum(nil), nil
}

// sweeper ends sessions by age.
type sweeper struct {
	once sync.Once
	quit chan struct{}
	wg   sync.WaitGroup
}

func (m *Manager) startSweeper() {
	c := m.config
	if c.Idle <= 0 && c.MaxAge <= 0 {
		return
	}
	every := 30 * time.Second
	for _, age := range []time.Duration{c.Idle, c.MaxAge} {
		if age > 0 {
			every = min(every, max(age/4, 10*time.Millisecond))
		}
	}
	m.sweeper = &sweeper{quit: make(chan struct{})}
	m.sweeper.wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			m.sweepByAge()
			m.sweeps.Add(1)
			select {
			case <-t.C:
			case <-m.sweeper.quit:
				return
			}
		}
	})
}

func (s *sweeper) stop() {
	if s != nil {
		s.once.Do(func() { close(s.quit) })
		s.wg.Wait()
	}
}

func (m *Manager) sweepByAge() {
	c := m.config
	now := c.now()
	var idle, old []string
	m.mu.Lock()
	for k, e := range m.sessions {
		select {
		case <-e.ready:
		default:
			continue
		}
		switch {
		case e.session == nil || e.leaving != nil:
		case c.MaxAge > 0 && now.Sub(e.session.created) > c.MaxAge:
			old = append(old, k)
		case c.Idle > 0 && now.Sub(e.lastUsed) > c.Idle && m.quiet(e):
			idle = append(idle, k)
		}
	}
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, k := range old {
		wg.Go(func() {
			if err := m.Delete(k); err != nil {
				m.log.Warn("a session past its age did not end cleanly", "error", err)
			}
		})
	}
	for _, k := range idle {
		wg.Go(func() { m.suspend(k) })
	}
	wg.Wait()
	if c.NameOf != nil {
		m.saveQuiet(now)
	}
	if c.NameOf != nil && c.MaxAge > 0 {
		m.sweepSaved(now)
	}
}

// sweepSaved deletes kept sessions past their age that nobody came back for, and
// those forgotten by a server that had no time to finish.
func (m *Manager) sweepSaved(now time.Time) {
	marks, _ := filepath.Glob(filepath.Join(m.state.dir, "saved", keptPrefix+"*.gone"))
	for _, mark := range marks {
		if fi, err := os.Lstat(mark); err == nil && now.Sub(fi.ModTime()) > m.config.MaxAge {
			_ = os.Remove(mark)
		}
	}
	for _, name := range m.state.savedNames() {
		if !strings.HasPrefix(name, keptPrefix) {
			continue
		}
		d, err := m.state.load(name)
		if !m.state.gone(name) && (err != nil || now.Sub(d.Created) <= m.config.MaxAge) {
			continue
		}
		if err := m.state.deleteSaved(m.config, name); err != nil && sandbox.CodeOf(err) != "already_exists" {
			m.log.Warn("a saved session past its age could not be deleted", "error", err)
		}
	}
}
