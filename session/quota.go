package session

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"mcp-sandbox/directory"
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
	if limit := cmp.Or(m.limitsOf(p).MaxSessions, m.config.MaxPerPrincipal); limit > 0 && own >= limit {
		return m.leastUsed(p), errorf("limit_reached", nil, "you have %d sessions; end one or ask the operator to raise --max-sessions-per-principal", own)
	}
	if len(m.sessions) >= m.config.MaxSessions {
		return m.leastUsed(p), errorf("limit_reached", nil, "there are already %d sessions; end one or raise --max-sessions", m.config.MaxSessions)
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
	name := m.nameOf(key)
	if name == "" {
		return false
	}
	if sandbox.CodeOf(m.heldElsewhere(key)) == "already_exists" {
		return true
	}
	_, err := m.state.load(name)
	return err == nil
}

// Forget is Delete, and remembers that a client that had a session is gone, so
// that its handle stays unknown, here and on every server of the state directory,
// until Config.MaxAge has passed, or for 31 days where that is 0.
// A client without a session leaves no mark unless making says that a call may
// be making one this moment. Codes: internal.
func (m *Manager) Forget(key string, making bool) error {
	name := m.nameOf(key)
	if name == "" || !making && !m.Known(key) {
		return m.Delete(key)
	}
	if err := m.heldElsewhere(key); err != nil {
		return err // the holder sets the mark
	}
	// The mark first: after a kill in between, the rest is removed by its age.
	ctx, cancel := context.WithTimeout(context.Background(), entryTime)
	defer cancel()
	_, err := m.state.entries.PutIf(ctx, goneKey(name), []byte("gone\n"), "")
	if errors.Is(err, directory.ErrConflict) {
		err = nil
	}
	m.mu.Lock()
	delete(m.gones, name)
	m.mu.Unlock()
	if err != nil {
		err = errorf("internal", err, "the state directory cannot be written; check --state-dir")
	}
	return errors.Join(err, m.Delete(key))
}

// Gone reports whether a client was forgotten. made is when its handle was, zero for
// one that had a session whatever happens: where sessions live for ever, their marks
// do not, and an old handle without a session is one that was forgotten.
func (m *Manager) Gone(key string, made time.Time) bool {
	name := m.nameOf(key)
	if name == "" {
		return false
	}
	return m.gone(name) || !made.IsZero() && m.config.MaxAge <= 0 && m.config.now().Sub(made) > unusedKept && m.none(key, name)
}

const (
	// unusedKept is for how long a handle may be without a session, where sessions have
	// no greatest age, and goneKept how long a mark is kept there: a day more than its
	// handle counts without one, for clocks that differ.
	unusedKept = 30 * 24 * time.Hour
	goneKept   = unusedKept + 24*time.Hour
)

// none says that a client certainly has no session anywhere.
func (m *Manager) none(key, name string) bool {
	m.mu.Lock()
	_, here := m.sessions[key]
	m.mu.Unlock()
	if here {
		return false
	}
	_, err := m.state.load(name)
	return os.IsNotExist(err)
}

// goneSeen is what a directory that servers share was found to say.
type goneSeen struct {
	gone bool
	at   time.Duration
}

// goneFor is for how long such an answer is trusted: every request of an MCP
// session asks.
const goneFor = 10 * time.Second

func (m *Manager) gone(name string) bool {
	if m.state.lease == nil {
		return m.state.gone(name)
	}
	m.mu.Lock()
	seen, ok := m.gones[name]
	m.mu.Unlock()
	if ok && sinceBoot()-seen.at < goneFor {
		return seen.gone
	}
	seen = goneSeen{m.state.gone(name), sinceBoot()}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.gones) > maxRoutes {
		clear(m.gones)
	}
	m.gones[name] = seen
	return seen.gone
}

func (s *state) gone(name string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), entryTime)
	defer cancel()
	_, _, err := s.entries.Get(ctx, goneKey(name))
	return err == nil
}

func goneKey(name string) string { return "saved/" + name + ".gone" }

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
	quit context.CancelFunc
	wg   sync.WaitGroup
	// saved is when the kept sessions were looked at.
	saved time.Time
}

func (m *Manager) startSweeper() {
	c := m.config
	if c.Idle <= 0 && c.MaxAge <= 0 && c.NameOf == nil {
		return
	}
	every := 30 * time.Second
	for _, age := range []time.Duration{c.Idle, c.MaxAge} {
		if age > 0 {
			every = min(every, max(age/4, 10*time.Millisecond))
		}
	}
	ctx, quit := context.WithCancel(context.Background())
	m.sweeper = &sweeper{quit: quit}
	repeat := func(do func()) {
		m.sweeper.wg.Go(func() {
			t := time.NewTicker(every)
			defer t.Stop()
			for {
				do()
				select {
				case <-t.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	repeat(func() { m.sweepByAge(); m.sweeps.Add(1) })
	// By itself: in a bucket it may take minutes, and meanwhile sessions are saved.
	repeat(func() { m.sweepKept(ctx) })
}

// stop has the sweeper begin nothing more; wait then waits for it.
func (s *sweeper) stop() (wait func()) {
	if s == nil {
		return func() {}
	}
	s.quit()
	return s.wg.Wait
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
		case c.MaxAge > 0 && now.Sub(e.session.created) > c.MaxAge || expired(e.session.until, now):
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
}

// sweepKept looks at the kept sessions where that is due, until ctx ends.
func (m *Manager) sweepKept(ctx context.Context) {
	if now := m.config.now(); m.config.NameOf != nil && m.savedDue(now) {
		m.sweepSaved(ctx, now)
	}
}

// savedEvery is how often kept sessions that nobody uses are looked at: each is a
// file to read, and there may be thousands.
const savedEvery = 5 * time.Minute

// savedDue is for the sweeper alone.
func (m *Manager) savedDue(now time.Time) bool {
	every := savedEvery
	if age := m.config.MaxAge; age > 0 {
		every = min(every, age/4)
	}
	if last := m.sweeper.saved; !last.IsZero() && now.Sub(last) < every && !now.Before(last) {
		return false
	}
	m.sweeper.saved = now
	return true
}

func (m *Manager) tooOld(made, now time.Time) bool {
	return m.config.MaxAge > 0 && now.Sub(made) > m.config.MaxAge
}

// sweptAtOnce bounds the entries that are read at the same time.
const sweptAtOnce = 8

// sweepSaved deletes kept sessions past their age that nobody came back for, and
// those forgotten by a server that had no time to finish.
func (m *Manager) sweepSaved(ctx context.Context, now time.Time) {
	if m.state.lease != nil {
		// Every entry is read, so not as often.
		if now.Sub(m.swept) < forgetAfter*m.state.lease.ttl || !m.state.lease.valid() {
			return
		}
		m.swept = now
	}
	short, cancel := context.WithTimeout(ctx, 2*entryTime)
	defer cancel()
	gone := map[string]bool{}
	entries := m.state.savedEntries(short, keptPrefix)
	for _, e := range entries {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(e.Key, "saved/"), ".gone"); ok {
			if gone[name] = true; m.tooOld(e.Modified, now) || m.config.MaxAge <= 0 && now.Sub(e.Modified) > goneKept {
				_ = m.state.entries.Delete(short, e.Key)
			}
		}
	}
	var mu sync.Mutex
	claims, ended, whole := map[string]string{}, map[string]string{}, true
	one := func(name string) {
		within, cancel := context.WithTimeout(ctx, entryTime)
		defer cancel()
		d, _, err := m.state.loadEntry(within, name)
		mu.Lock()
		if err == nil {
			claims[d.SessionID] = d.Claim
		}
		if err == nil && d.Ended {
			ended[name] = d.Claim
		}
		whole = whole && (err == nil || os.IsNotExist(err))
		mu.Unlock()
		if err == nil && d.Ended {
			if err := m.state.endRemoval(within, name, m.ended[name] == d.Claim); err != nil {
				m.log.Warn("the deletion of a session could not be ended", "error", err)
			}
			return
		}
		if ctx.Err() != nil || !gone[name] && (err != nil || !m.tooOld(d.Created, now) && !expired(d.Until, now)) {
			return
		}
		if err := m.state.deleteSaved(m.config, name, false); err != nil && sandbox.CodeOf(err) != "already_exists" {
			m.log.Warn("a saved session past its age could not be deleted", "error", err)
		}
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(e.Key, "saved/"), ".json"); ok {
			names = append(names, name)
		}
	}
	atOnce(sweptAtOnce, names, ctx.Done(), one)
	if ctx.Err() != nil {
		return
	}
	m.ended = ended
	if m.state.lease == nil || !whole || len(entries) == 0 {
		return
	}
	if err := m.state.sweepShared(claims); err != nil {
		m.log.Warn("an outdated workspace could not be removed", "error", err)
	}
}
