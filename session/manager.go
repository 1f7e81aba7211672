package session

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
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
	redactor *Redactor
	secrets  []string
}

// entry is filled once; those who come second wait on ready instead of starting
// a second sandbox for the same client.
type entry struct {
	ready   chan struct{}
	session *Session
	err     error
}

// NewManager checks the configuration, opens the state folder and removes what
// servers that were killed left behind. No session is made yet.
// Codes: invalid_argument, not_found, not_a_directory, permission_denied, internal.
func NewManager(c Config, l Launcher) (*Manager, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 64
	}
	if c.Network == "" {
		c.Network = "loopback"
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	named := c.StateDir != ""
	if !named {
		c.StateDir = DefaultStateDir()
	}
	if c.StateDir != "" {
		abs, err := filepath.Abs(c.StateDir)
		if err != nil {
			return nil, errorf("invalid_argument", err, "the state folder cannot be made absolute, name it in full")
		}
		c.StateDir = abs
	}
	if c.Root != "" {
		root, err := CheckRoot(c.Root, c.StateDir)
		if err != nil {
			return nil, err
		}
		c.Root = root
	}
	if err := c.CheckPrivate(); err != nil {
		return nil, err
	}
	st, err := openState(c.StateDir, named, c.Log)
	if err != nil {
		return nil, err
	}
	c.StateDir = st.dir
	st.sweep(c.Log)
	m := &Manager{config: c, launcher: l, state: st, log: c.Log, sessions: map[string]*entry{}}
	m.addSecrets(c.secretEnv())
	return m, nil
}

// Config is the configuration in force, defaults filled in.
func (m *Manager) Config() Config { return m.config }

// Get returns the client's session, making it on first use. A session whose
// sandbox died is replaced by a fresh one, and an error says so once, because
// its processes (and an owned workspace's files) are gone and the client must
// know.
func (m *Manager) Get(ctx context.Context, key string) (*Session, error) {
	for {
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			return nil, errorf("session_not_found", nil, "the server is stopping, start it again")
		}
		e, ok := m.sessions[key]
		if !ok {
			if len(m.sessions) >= m.config.MaxSessions {
				m.mu.Unlock()
				return nil, errorf("limit_reached", nil, "there are already %d sessions, end one or raise --max-sessions", m.config.MaxSessions)
			}
			e = &entry{ready: make(chan struct{})}
			m.sessions[key] = e
			// Detached from the first caller: its cancel must not take the session
			// from those who wait behind it.
			go m.fill(context.WithoutCancel(ctx), key, e)
		}
		m.mu.Unlock()

		select {
		case <-e.ready:
		case <-ctx.Done():
			return nil, errorf("cancelled", ctx.Err(), "the call was cancelled while the sandbox was starting, call again")
		}
		if e.err != nil {
			return nil, e.err
		}
		if e.session.Alive() {
			return e.session, nil
		}
		m.drop(key, e)
		_ = e.session.Close()
		return nil, errorf("session_not_found", nil, "the sandbox of this session ended unexpectedly and its processes are gone, call again for a fresh one")
	}
}

func (m *Manager) fill(ctx context.Context, key string, e *entry) {
	s, err := start(ctx, newID(), m.config, m.launcher, m.state, m.log)
	e.session, e.err = s, err
	if err != nil {
		m.log.Error("session could not be started", "error", err, "cause", errors.Unwrap(err))
		// Not kept: the next call tries again, the cause may have been passing.
		m.drop(key, e)
	}
	close(e.ready)
}

func (m *Manager) drop(key string, e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sessions[key] == e {
		delete(m.sessions, key)
	}
}

// End closes one client's session; unknown keys are not an error.
func (m *Manager) End(key string) error {
	m.mu.Lock()
	e, ok := m.sessions[key]
	delete(m.sessions, key)
	m.mu.Unlock()
	if !ok {
		return nil
	}
	<-e.ready
	if e.session == nil {
		return nil
	}
	return e.session.Close()
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

	errs := make([]error, len(keys))
	var wg sync.WaitGroup
	for i, k := range keys {
		wg.Go(func() { errs[i] = m.End(k) })
	}
	wg.Wait()
	return errors.Join(append(errs, m.state.close(), m.config.Audit.Close())...)
}

// Auditor is the audit log, nil when there is none.
func (m *Manager) Auditor() *Auditor { return m.config.Audit }

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
func (m *Manager) Redactor() *Redactor {
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
	m.redactor = NewRedactor(m.secrets)
}

func newID() string { return randomHex(16) }
