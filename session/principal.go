package session

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"mcp-sandbox/sandbox"
)

// LiveSession is one session of a running server.
type LiveSession struct {
	Principal string    `json:"principal"`
	Name      string    `json:"name,omitempty"` // of the saved state, as SavedSession has it
	SessionID string    `json:"session_id"`
	Created   time.Time `json:"created"`
	Used      time.Time `json:"used"`
	Calls     int       `json:"calls"`     // in flight
	Processes int       `json:"processes"` // running commands
}

// LiveSessions lists the running sessions of a principal, of all with "", by
// principal and age.
func (m *Manager) LiveSessions(principal string) []LiveSession {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []LiveSession{}
	for k, e := range m.sessions {
		select {
		case <-e.ready:
		default:
			continue
		}
		if e.session == nil || k == "" || principal != "" && principalOf(k) != principal {
			continue
		}
		one := LiveSession{Principal: principalOf(k), Name: m.nameOf(k), SessionID: e.session.id, Created: e.session.created.UTC(), Used: e.lastUsed.UTC(), Calls: e.calls}
		for _, p := range e.session.Processes() {
			if stillRuns(p) {
				one.Processes++
			}
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b LiveSession) int {
		if c := strings.Compare(a.Principal, b.Principal); c != 0 {
			return c
		}
		return a.Created.Compare(b.Created)
	})
	return out
}

// EndPrincipal ends every session of a principal with whatever runs in it, and
// gives their number. What a kept one holds stays, as with End.
func (m *Manager) EndPrincipal(principal string) (ended int, err error) {
	m.mu.Lock()
	var keys []string
	for k := range m.sessions {
		if principalOf(k) == principal && strings.Contains(k, "\x00") {
			keys = append(keys, k)
		}
	}
	m.mu.Unlock()
	errs := make([]error, len(keys))
	var wg sync.WaitGroup
	for i, k := range keys {
		wg.Go(func() { errs[i] = m.End(k) })
	}
	wg.Wait()
	return len(keys), errors.Join(errs...)
}

// PrincipalLimits are those of one principal in place of the general ones; a zero
// leaves the general one.
type PrincipalLimits struct {
	// MaxSessions and MaxKept stand for Config.MaxPerPrincipal and Config.MaxKept.
	MaxSessions, MaxKept int
	// Workspace is in bytes, see Config.WorkspaceLimit.
	Workspace int64
	// Limits are those of each session.
	Limits sandbox.Limits
}

func (m *Manager) limitsOf(principal string) PrincipalLimits {
	if m.config.LimitsOf == nil || principal == "" {
		return PrincipalLimits{}
	}
	return m.config.LimitsOf(principal)
}

func (c *Config) apply(l PrincipalLimits) {
	c.WorkspaceLimit = cmp.Or(l.Workspace, c.WorkspaceLimit)
	c.Limits.Procs = cmp.Or(l.Limits.Procs, c.Limits.Procs)
	c.Limits.FileSize = cmp.Or(l.Limits.FileSize, c.Limits.FileSize)
	c.Limits.OpenFiles = cmp.Or(l.Limits.OpenFiles, c.Limits.OpenFiles)
	c.Limits.Tmp = cmp.Or(l.Limits.Tmp, c.Limits.Tmp)
	c.Limits.Memory = cmp.Or(l.Limits.Memory, c.Limits.Memory)
	c.Limits.CPU = cmp.Or(l.Limits.CPU, c.Limits.CPU)
}

// KeptBy says whether a saved session is of this principal.
func KeptBy(principal, name string) bool { return strings.HasPrefix(name, keptBy(principal)) }
