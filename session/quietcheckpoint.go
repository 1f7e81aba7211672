package session

import (
	"slices"
	"sync/atomic"
	"time"
)

// Counts are what happened to a manager's sessions since it was made.
type Counts struct {
	CheckpointsFailed atomic.Int64
	Suspended         atomic.Int64 // for being idle
	Lost              atomic.Int64 // the sandbox ended by itself
	Fenced            atomic.Int64 // ended here as another server may have them
}

// Counts are for metrics.
func (m *Manager) Counts() *Counts { return &m.counts }

const (
	// quietBefore is how long a session is left alone before its changes are saved
	// in the background. A stop then has less to save: within its seconds it could not
	// save hundreds of sessions.
	quietBefore = 15 * time.Second
	// quietAtOnce bounds the checkpoints of a sweep that run at the same time.
	quietAtOnce = 2
)

// changed notes that the workspace may change from now on.
func (s *Session) changed() {
	s.workedMu.Lock()
	defer s.workedMu.Unlock()
	s.changes++
}

// allSaved says whether the last checkpoint has everything: nothing was begun
// since and nothing runs.
func (s *Session) allSaved() bool {
	s.workedMu.Lock()
	saved := s.snapshotted && s.changes == s.savedChanges
	s.workedMu.Unlock()
	return saved && s.table != nil && !slices.ContainsFunc(s.table.List(), stillRuns)
}

// checkpointQuiet takes a checkpoint of a kept session in which nothing runs,
// unless there is one that has everything.
func (s *Session) checkpointQuiet() {
	if !s.kept || !s.owned || !s.Running() || s.allSaved() {
		return
	}
	s.workedMu.Lock()
	if s.checkpointing || s.closing {
		s.workedMu.Unlock()
		return
	}
	s.checkpointing = true
	before := s.changes
	s.watching.Add(1)
	s.workedMu.Unlock()
	defer s.watching.Done()
	idle := !slices.ContainsFunc(s.Processes(), stillRuns)
	ctx, cancel := s.untilClosed()
	defer cancel()
	_, err := s.Stop(ctx)
	s.workedMu.Lock()
	defer s.workedMu.Unlock()
	s.checkpointing = false
	switch {
	case err == nil && idle:
		s.snapshotted, s.savedChanges = true, before
	case err != nil && ctx.Err() == nil:
		s.checkpointFailed(err)
	}
}

func (s *Session) checkpointFailed(err error) {
	if s.counts != nil {
		s.counts.CheckpointsFailed.Add(1)
	}
	s.log.Warn("the checkpoint failed", "error", err)
}

// saveQuiet checkpoints the sessions that were quiet for a while.
func (m *Manager) saveQuiet(now time.Time) {
	var quiet []*Session
	m.mu.Lock()
	for _, e := range m.sessions {
		if m.quiet(e) && now.Sub(e.lastUsed) > quietBefore {
			quiet = append(quiet, e.session)
		}
	}
	m.mu.Unlock()
	atOnce(quietAtOnce, quiet, nil, (*Session).checkpointQuiet)
}
