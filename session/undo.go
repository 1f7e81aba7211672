package session

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/snapshot"
)

// undo makes what a session's calls do undoable. The baseline is a snapshot that
// the first call which can change something waits for; it is begun with the
// session, so most calls find it done. Afterwards a snapshot is taken behind each
// such call, and a call that may destroy waits for it for at most
// quickSnapshot, so that its state before is known.
type undo struct {
	settled chan struct{} // closed when the baseline is there or given up; nil when undo is off

	mu       sync.Mutex
	off      bool          // there is no baseline, or the snapshots became too large
	full     bool          // the newest snapshot failed for want of space
	partial  bool          // without ignored files
	point    string        // the workspace before the newest call
	reported string        // the point that lost has reported
	back     string        // what was restored, while nothing was done since
	last     string        // the newest snapshot taken here
	changes  uint64        // beginnings and ends of calls
	taken    uint64        // changes when last was begun
	calls    int           // in flight
	flight   chan struct{} // closed when the snapshot being taken is done
	cost     time.Duration // of the newest one; 0 is not known
	ended    time.Time     // when that was done
	spent    time.Duration // of waitCredit
	counted  time.Time     // when spent was brought up to date
	later    bool          // a snapshot will be taken when the pause is over
}

const (
	// baselineTime bounds each try of a snapshot that a session takes by itself.
	baselineTime = 10 * time.Second
	// quickSnapshot is how long a call waits for one, except the baseline.
	quickSnapshot = 100 * time.Millisecond
	// slowPause is how many times its cost a snapshot is followed by none, when it
	// costs more or calls come so fast that they may not wait for it.
	slowPause = 4
	// Calls in quick succession wait for snapshots one part in waitShare of the
	// time, after the first waitCredit of it.
	waitShare  = 20
	waitCredit = 300 * time.Millisecond
	// manyFiles is how many removed or rewritten files a result speaks about.
	manyFiles = 20
	// retryFull is how long after one that found a full disk no snapshot is begun.
	retryFull = 2 * time.Second

	defaultBaselineLimit = 4 << 30
)

// untilClosed is a context for work in the background of calls. Close takes its own
// checkpoint under a deadline, so it cancels this work.
func (s *Session) untilClosed() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-s.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// behind runs work until the session closes, unless it does already.
func (s *Session) behind(work func(ctx context.Context)) bool {
	s.workedMu.Lock()
	defer s.workedMu.Unlock()
	if s.closing {
		return false
	}
	s.watching.Go(func() {
		ctx, cancel := s.untilClosed()
		defer cancel()
		work(ctx)
	})
	return true
}

// automatic takes a snapshot within the limits, without ignored files if it must
// be.
func (s *Session) automatic(ctx context.Context, label string, base, partial bool) (SnapshotInfo, bool, error) {
	repo, err := s.Snapshots()
	if err != nil {
		return SnapshotInfo{}, partial, err
	}
	info, partial, err := boundedSnapshot(ctx, s.config, repo, label, base, partial)
	if err == nil && base {
		repo.Pin(info.ID)
	}
	return info, partial, err
}

// credit is how long calls may wait now; the caller holds mu.
func (u *undo) credit() time.Duration {
	now := time.Now()
	if !u.counted.IsZero() {
		u.spent = max(0, u.spent-now.Sub(u.counted)/waitShare)
	}
	u.counted = now
	return waitCredit - u.spent
}

// waited takes off the credit what a call has waited since began.
func (u *undo) waited(began time.Time) {
	u.mu.Lock()
	u.spent += time.Since(began)
	u.mu.Unlock()
}

// pause is how long no snapshot may begin; the caller holds mu.
func (u *undo) pause() time.Duration {
	if u.full {
		return max(0, retryFull-time.Since(u.ended))
	}
	if u.cost <= quickSnapshot && u.cost <= u.credit() {
		return 0
	}
	return max(0, slowPause*u.cost-time.Since(u.ended))
}

// catchUp waits at most quickSnapshot for a snapshot of the present state.
func (s *Session) catchUp(ctx context.Context) {
	u := &s.undo
	u.mu.Lock()
	most := min(quickSnapshot, u.credit())
	u.mu.Unlock()
	if most <= 0 {
		return
	}
	defer u.waited(time.Now())
	limit := time.NewTimer(most)
	defer limit.Stop()
	for fresh := false; ; fresh = true {
		busy := slices.ContainsFunc(s.Processes(), stillRuns)
		u.mu.Lock()
		slow := u.cost > quickSnapshot
		known := u.changes == u.taken && (fresh || !busy)
		off := u.off
		u.mu.Unlock()
		if known || slow || off {
			return
		}
		done := s.takeBehind()
		if done == nil {
			return
		}
		select {
		case <-done:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// takeBehind begins a snapshot, unless one is being taken, and returns a channel
// that is closed when it is done; nil when none may be taken now.
func (s *Session) takeBehind() <-chan struct{} {
	u := &s.undo
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.flight != nil {
		return u.flight
	}
	if u.off {
		return nil
	}
	if pause := u.pause(); pause > 0 {
		if !u.later {
			u.later = true
			time.AfterFunc(pause, s.takeLate)
		}
		return nil
	}
	done := make(chan struct{})
	f := flight{began: time.Now(), at: u.changes, partial: u.partial}
	if u.calls == 0 && u.reported != u.point {
		f.point = u.point
	}
	ok := s.behind(func(ctx context.Context) {
		again := s.fly(ctx, f)
		close(done)
		if again {
			s.takeBehind()
		}
	})
	if !ok {
		return nil
	}
	u.flight = done
	return done
}

// takeLate takes the snapshot that a pause has put off; calls in flight take it
// when they end.
func (s *Session) takeLate() {
	u := &s.undo
	u.mu.Lock()
	u.later = false
	due := u.calls == 0 && u.changes != u.taken
	u.mu.Unlock()
	if due {
		s.takeBehind()
	}
}

// flight is a snapshot that is taken after a call, while others may run.
type flight struct {
	began   time.Time
	at      uint64 // undo.changes
	partial bool
	point   string // "" when there is nothing to say about what was lost since
}

// fly takes the snapshot and says whether calls have ended meanwhile.
func (s *Session) fly(ctx context.Context, f flight) (again bool) {
	info, less, err := s.automatic(ctx, "after a call", false, f.partial)
	text := ""
	if err == nil && f.point != "" && !info.Unchanged {
		text = s.lost(ctx, f.point, info.ID)
	}
	u := &s.undo
	u.mu.Lock()
	defer u.mu.Unlock()
	u.flight, u.cost, u.ended = nil, time.Since(f.began), time.Now()
	switch {
	case ctx.Err() != nil:
		return false
	case sandbox.CodeOf(err) == snapshot.CodeDiskFull && u.full:
		return false
	case err != nil:
		u.full = sandbox.CodeOf(err) == snapshot.CodeDiskFull
		u.off = !u.full
		s.log.Warn("changes are not stored", "error", err)
		s.tell(fmt.Sprintf("undo: from here on changes are not stored (%s); snapshot_restore snapshot_id=%s goes back to before", err, u.last))
		return false
	case u.full:
		u.full = false
		s.tell("undo: changes are stored again from here on")
	case less && !u.partial:
		s.tell("undo: from here on files that version control ignores are not stored, the workspace with them is too large; the others are")
	}
	u.partial, u.last, u.taken = less, info.ID, f.at
	if text != "" {
		u.reported = f.point
		s.tell(text)
	}
	return u.calls == 0 && u.changes != u.taken
}

// undoPoint is what "latest" means: the workspace before the newest call, or,
// sure, what was restored last when nothing was done since. "" is not known.
func (s *Session) undoPoint() (id string, sure bool) {
	s.undo.mu.Lock()
	defer s.undo.mu.Unlock()
	if s.undo.back != "" {
		return s.undo.back, true
	}
	return s.undo.point, false
}

// Notices are the sentences for the model that nothing has carried yet.
func (s *Session) Notices() []string { return s.takeNotices() }
