package session

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mcp-sandbox/audit"
	"mcp-sandbox/sandbox"
)

// Manager makes sessions on first use and ends them. A key names a client: a
// stdio server has one, a network transport one for each principal and handle.
type Manager struct {
	config   Config
	launcher Launcher
	state    *state
	log      *slog.Logger

	mu       sync.Mutex
	sessions map[string]*entry
	closed   bool
	redactor *audit.Redactor
	secrets  []string
	resweep  *time.Timer
	sweeper  *sweeper // nil without ages
	// keeping is held while what a principal keeps is counted. Taken before mu.
	keeping sync.Mutex
	sweeps  atomic.Int64
	swept   time.Time         // the last time every entry of a shared directory was read
	ended   map[string]string // claims of the sessions that were being deleted then, by name
	counts  Counts
	saving  chan struct{}    // see Session.saveTurn
	routes  map[string]route // of sessions elsewhere, by name; guarded by mu
	gones   map[string]goneSeen
	warming chan struct{} // see BeginBaseline; nil without
	cool    context.CancelFunc

	stopInterval func() (wait func())
}

// entry is filled once; later callers wait on ready instead of starting
// a second sandbox for the same client.
type entry struct {
	ready   chan struct{}
	session *Session
	err     error

	// Guarded by Manager.mu.
	calls    int
	lastUsed time.Time
	keeps    bool          // counts as kept, see mayKeep
	direct   time.Time     // when a client of this server used it
	leaving  chan struct{} // set while it ends, closed when it has
}

// NewManager checks the configuration, opens the state directory and removes what
// servers that were killed left behind. No session is made yet.
// Codes: invalid_argument, not_found, not_a_directory, permission_denied, internal.
func NewManager(c Config, l Launcher) (*Manager, error) {
	named := c.StateDir != ""
	c, err := c.Resolve()
	if err != nil {
		return nil, err
	}
	st, err := openState(c.StateDir, named, c.Log)
	if err != nil {
		return nil, err
	}
	if c.Name != "" && st.temp {
		return nil, errors.Join(errorf("invalid_argument", nil, "a named session needs a state directory that stays; name one with --state-dir"), st.close())
	}
	if c.Staged && st.temp {
		return nil, errors.Join(errorf("invalid_argument", nil, "--staged needs a state directory that stays; name one with --state-dir"), st.close())
	}
	c.StateDir = st.dir
	if err := st.share(c); err != nil {
		return nil, errors.Join(err, st.close())
	}
	st.sweep(c.Log)
	m := &Manager{config: c, launcher: l, state: st, log: c.Log, saving: make(chan struct{}, savingAtOnce), sessions: map[string]*entry{}, routes: map[string]route{}, gones: map[string]goneSeen{}}
	m.addSecrets(c.secretEnv())
	if err := m.beginLease(); err != nil {
		return nil, errors.Join(err, st.close())
	}
	m.startSweeper()
	m.stopInterval = m.startInterval()
	// A server killed while it forked leaves a child that holds its locks until it
	// execs or dies, so what the first sweep passed over is looked at again, here
	// and at the end.
	m.resweep = time.AfterFunc(3*time.Second, func() { st.sweep(c.Log) })
	return m, nil
}

// Config is the configuration in force, defaults filled in.
func (m *Manager) Config() Config { return m.config }

// Get returns the client's session, making it on first use. A session whose
// sandbox died is replaced by a fresh one, and an error says so once, because
// its processes (and an owned workspace's files) are gone and the client must
// know.
func (m *Manager) Get(ctx context.Context, key string) (*Session, error) {
	s, done, err := m.Use(ctx, key)
	if err != nil {
		return nil, err
	}
	done()
	return s, nil
}

// Use is Get for the time of a call: until done is called the session counts as
// in use and is not ended for being idle.
func (m *Manager) Use(ctx context.Context, key string) (_ *Session, done func(), err error) {
	for {
		if err := m.heldElsewhere(key); err != nil {
			return nil, nil, err
		}
		e, err := m.hold(ctx, key, nil)
		if err != nil {
			return nil, nil, err
		}
		done := func() { m.release(e) }
		select {
		case <-e.ready:
		case <-ctx.Done():
			done()
			return nil, nil, errorf("cancelled", ctx.Err(), "the call was cancelled while the sandbox was starting; call again")
		}
		if e.err != nil {
			done()
			return nil, nil, e.err
		}
		if expired(e.session.until, m.config.now()) {
			done()
			return nil, nil, errors.Join(errorf("session_not_found", nil, "the time to live of this sandbox is over and it was deleted; open another with session_open"), m.Delete(key))
		}
		if err := m.dropLost(key, e); err != nil {
			done()
			return nil, nil, err
		}
		err = e.session.Start(ctx)
		if err == nil && e.session.Running() {
			if end, ok := e.session.uses.begin(); ok {
				return e.session, func() { end(); done() }, nil
			}
		}
		done()
		if err != nil && !e.session.over() {
			return nil, nil, err // made by Create, and not ready to start yet
		}
		if !m.beginEnd(key, e) {
			continue // another call has seen it too, or it was ended on purpose
		}
		m.counts.Lost.Add(1)
		_ = e.session.Close()
		m.finishEnd(key, e)
		return nil, nil, errorf("session_not_found", nil, "the sandbox of this session ended unexpectedly and its processes are gone; call again for a fresh one")
	}
}

// dropLost ends a session that another server has taken over.
func (m *Manager) dropLost(key string, e *entry) error {
	if e.session.claim.held() {
		return nil
	}
	if e.session.claim.over() && m.beginEnd(key, e) {
		m.counts.Fenced.Add(1)
		_ = e.session.Close()
		m.finishEnd(key, e)
	}
	return away(nil)
}

// hold finds or makes the client's entry, a new one as o says, and counts the
// caller as using it.
func (m *Manager) hold(ctx context.Context, key string, o *Opening) (*entry, error) {
	for {
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			return nil, errorf("session_not_found", nil, "the server is stopping; start it again")
		}
		e, ok := m.sessions[key]
		if ok && e.leaving == nil {
			e.calls++
			m.mu.Unlock()
			return e, nil
		}
		if ok {
			// Its name and directory are free again only when it is gone.
			gone := e.leaving
			m.mu.Unlock()
			select {
			case <-gone:
				continue
			case <-ctx.Done():
				return nil, errorf("cancelled", ctx.Err(), "the call was cancelled while the session was ending; call again")
			}
		}
		idle, err := m.room(key)
		if err == nil {
			e = &entry{ready: make(chan struct{}), calls: 1, lastUsed: m.config.now()}
			m.sessions[key] = e
			// Detached from the first caller, whose cancel must not end the session for
			// the callers that wait.
			go m.fill(context.WithoutCancel(ctx), key, e, o)
			m.mu.Unlock()
			return e, nil
		}
		m.mu.Unlock()
		if idle == "" || !m.suspend(idle) {
			return nil, err
		}
	}
}

func (m *Manager) release(e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.calls--
	e.lastUsed = m.config.now()
}

// beginEnd marks an entry as ending, so that later calls wait for the end;
// false when it is ending already or is no longer the client's.
func (m *Manager) beginEnd(key string, e *entry) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[key] != e || e.leaving != nil {
		return false
	}
	e.leaving = make(chan struct{})
	return true
}

func (m *Manager) finishEnd(key string, e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, key)
	close(e.leaving)
}

func (m *Manager) fill(ctx context.Context, key string, e *entry, o *Opening) {
	s, err := m.open(ctx, key, o)
	if err == nil {
		if err = s.Start(ctx); err != nil {
			_ = s.Close()
			s = nil
		}
	}
	e.session, e.err = s, err
	if err != nil {
		if !m.config.TellsStart {
			m.log.Error("session could not be started", "error", err, "cause", errors.Unwrap(err))
		}
		// Not remembered: the next call retries, as the cause may have been temporary.
		m.drop(key, e)
	}
	close(e.ready)
}

// configFor is the configuration of one client's session.
func (m *Manager) configFor(key string) Config {
	c := m.config
	c.principal = principalOf(key)
	c.Name = m.nameOf(key)
	c.apply(m.limitsOf(c.principal))
	return c
}

// nameOf is the name of the session of key, "" where it is not kept. The calls that need
// no more than it do not copy the configuration.
func (m *Manager) nameOf(key string) string {
	if m.config.NameOf != nil {
		return m.config.NameOf(key)
	}
	return m.config.Name
}

// open resumes the named session if there is one, and makes a new one otherwise.
func (m *Manager) open(ctx context.Context, key string, o *Opening) (*Session, error) {
	c := m.configFor(key)
	c.opening = o
	if c.Name == "" {
		return m.create(ctx, c, nil, nil)
	}
	// A call that was accepted before its client ended the session must not
	// recreate it.
	if c.NameOf != nil && m.gone(c.Name) {
		return nil, errorf("session_not_found", nil, "this session was ended; begin a new one")
	}
	held, saved, err := m.state.claim(c.Name)
	if err != nil {
		return nil, err
	}
	if saved == nil {
		if err := m.mayKeep(key); err != nil {
			held.unused()
			return nil, err
		}
		return m.create(ctx, c, nil, held)
	}
	fresh := m.state.lease != nil && saved.Saved.IsZero()
	if o != nil && !fresh {
		held.close()
		return nil, errAlreadyOpen()
	}
	if m.state.lease != nil {
		if held.current && !fresh || saved.Snapshot != "" {
			return m.create(ctx, c, saved, held)
		}
		// Its machine was lost before anything was stored.
		s, err := m.create(ctx, c, nil, held)
		if err == nil && !fresh {
			s.created, s.until = saved.Created, saved.Until
			s.noteNothing()
		}
		return s, err
	}
	// A server that was killed while it made the session: nothing of it was used,
	// and the record went with the sweep.
	if _, err := os.Lstat(m.state.recordPath(saved.SessionID)); os.IsNotExist(err) && !exists(saved.Workspace, saved.Owned) {
		m.log.Warn("the saved session was never whole, a new one is made", "name", c.Name)
		return m.create(ctx, c, nil, held)
	}
	return m.create(ctx, c, saved, held)
}

// exists says whether an owned workspace is there; a caller's directory decides
// nothing.
func exists(path string, owned bool) bool {
	_, err := os.Lstat(path)
	return owned && err == nil
}

func (m *Manager) drop(key string, e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[key] == e {
		delete(m.sessions, key)
	}
}

// End closes one client's session; unknown keys are not an error. What a named
// one holds is kept, and the client's next call resumes it.
func (m *Manager) End(key string) error { return m.end(key, (*Session).Close) }

// Delete ends one client's session for good: its workspace, if the server made it, its
// snapshots and its saved state are removed. Unknown keys are not an error.
func (m *Manager) Delete(key string) error {
	err := m.end(key, (*Session).Delete)
	if name := m.nameOf(key); name != "" {
		if e := m.state.deleteSaved(m.config, name, false); e != nil && sandbox.CodeOf(e) != "session_not_found" {
			err = errors.Join(err, e)
		}
	}
	return err
}

func (m *Manager) end(key string, finish func(*Session) error) error {
	for {
		m.mu.Lock()
		e, ok := m.sessions[key]
		if !ok {
			m.mu.Unlock()
			return nil
		}
		gone := e.leaving
		if gone == nil {
			e.leaving = make(chan struct{})
		}
		m.mu.Unlock()
		if gone != nil {
			<-gone
			continue
		}
		<-e.ready
		var err error
		if e.session != nil {
			err = finish(e.session)
		}
		m.finishEnd(key, e)
		return err
	}
}

// Close ends every session at the same time and gives the first failures.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	keys := make([]string, 0, len(m.sessions))
	for k := range m.sessions {
		keys = append(keys, k)
	}
	m.mu.Unlock()
	m.state.stopEmptying()
	// Their checkpoints end with the sessions, so they are not waited for before.
	swept, stored := m.sweeper.stop(), m.stopInterval()
	if m.cool != nil {
		m.cool()
	}

	errs := make([]error, len(keys))
	var wg sync.WaitGroup
	for i, k := range keys {
		wg.Go(func() { errs[i] = m.End(k) })
	}
	wg.Wait()
	swept()
	stored()
	if m.warming != nil {
		<-m.warming
	}
	if m.config.NameOf != nil && m.config.MaxAge > 0 && m.state.lease == nil {
		m.sweepSaved(context.Background(), m.config.now())
	}
	if m.resweep.Stop() {
		m.state.sweep(m.log)
	}
	return errors.Join(append(errs, m.state.close(), m.config.Audit.Close())...)
}

// Auditor is the audit log, nil when there is none.
func (m *Manager) Auditor() *audit.Auditor { return m.config.Audit }

// SessionID is the id of a client's session, "" while it has none.
func (m *Manager) SessionID(key string) string {
	m.mu.Lock()
	e := m.sessions[key]
	m.mu.Unlock()
	if e == nil {
		return ""
	}
	select {
	case <-e.ready:
		if e.session != nil {
			return e.session.id
		}
	default:
	}
	return ""
}

// Redactor knows every secret the sessions of this manager were given.
func (m *Manager) Redactor() *audit.Redactor {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.redactor
}

func (m *Manager) addSecrets(values []string) {
	if len(values) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secrets = append(m.secrets, values...)
	slices.Sort(m.secrets)
	m.secrets = slices.Compact(m.secrets)
	m.redactor = audit.NewRedactor(m.secrets)
}

func newID() string { return randomHex(16) }
