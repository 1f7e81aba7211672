package session

import (
	"cmp"
	"context"
	"fmt"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/snapshot"
	"slices"
)

// beginBaseline is part of Start.
func (s *Session) beginBaseline() {
	if !s.config.Baseline || s.config.ReadOnly || s.owned && !s.kept || s.undo.settled != nil {
		return
	}
	settled := make(chan struct{})
	s.undo.settled = settled
	if !s.behind(func(ctx context.Context) { defer close(settled); s.baseline(ctx) }) {
		close(settled)
	}
}

func (s *Session) baseline(ctx context.Context) {
	if s.stored != nil {
		select {
		case <-s.stored: // what it stored is not read again
		case <-ctx.Done():
		}
	}
	info, partial, err := s.automatic(ctx, "before the first change", true, false)
	u := &s.undo
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case err != nil:
		u.off = true
		if ctx.Err() == nil {
			s.log.Warn("there is no baseline", "error", err)
			s.tell(fmt.Sprintf("undo: it does not reach back to here, the workspace could not be stored first (%s); snapshot_create stores it on demand", err))
		}
		return
	case partial:
		s.tell("undo: files that version control ignores are not stored, the workspace with them is too large; the others are")
	}
	u.partial, u.last, u.point = partial, info.ID, info.ID
}

func boundedSnapshot(ctx context.Context, c Config, repo *snapshot.Repo, label string, base, partial bool) (SnapshotInfo, bool, error) {
	for {
		within, cancel := context.WithTimeout(ctx, baselineTime)
		info, err := repo.Create(within, SnapshotRequest{
			Label: label, Auto: true, Baseline: base, WithoutIgnored: partial, MaxBytes: cmp.Or(c.BaselineLimit, defaultBaselineLimit),
		})
		late := within.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			return info, partial, nil
		case !partial && (late || sandbox.CodeOf(err) == snapshot.CodeLimit):
			partial = true
		case late:
			return info, partial, errorf("limit_reached", err, "it took longer than %s", baselineTime)
		default:
			return info, partial, err
		}
	}
}

// BeginBaseline stores the workspace directory of all sessions while no client has
// called yet, so that the first call finds little left to store. It returns at
// once and ends with the manager. To be called before any session is made.
func (m *Manager) BeginBaseline() {
	c := m.config
	if !c.Baseline || c.ReadOnly || c.Root == "" || c.Staged || m.warming != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cool, m.warming = cancel, make(chan struct{})
	go func() {
		defer close(m.warming)
		skip := slices.Concat(c.Manifest.Ephemeral(), m.state.ledger(c.Root))
		repo, err := OpenSnapshots(c, SnapshotDir(c, c.Root), c.Root, skip...)
		if err == nil {
			_, _, err = boundedSnapshot(ctx, c, repo, "before the first change", true, false)
			_ = repo.Close()
		}
		if err != nil && ctx.Err() == nil {
			m.log.Warn("the workspace could not be stored at the start", "error", err)
		}
	}()
}
