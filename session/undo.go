package session

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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

	mu      sync.Mutex
	off     bool          // there is no baseline, or the snapshots became too large
	partial bool          // without ignored files
	point   string        // the workspace before the newest call
	told    string        // the point that lost has spoken about
	back    string        // what was restored, while nothing was done since
	last    string        // the newest snapshot taken here
	changes uint64        // beginnings and ends of calls
	taken   uint64        // changes when last was begun
	calls   int           // in flight
	flight  chan struct{} // closed when the snapshot being taken is done
	cost    time.Duration // of the newest one; 0 is not known
	ended   time.Time     // when that was done
	spent   time.Duration // of waitCredit
	counted time.Time     // when spent was brought up to date
	later   bool          // a snapshot will be taken when the pause is over
}

const (
	// baselineTime bounds each try of a snapshot that a session takes by itself.
	baselineTime = 10 * time.Second
	// quickSnapshot is how long a call waits for one, but for the baseline.
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

	defaultBaselineLimit = 4 << 30
)

// untilClosed is a context for work behind calls: the end of the session takes
// a snapshot of its own, and has not long.
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

// BeginBaseline stores the workspace folder of all sessions while no client has
// called yet, so that the first call finds little left to store. It returns at
// once and ends with the manager. To be called before any session is made.
func (m *Manager) BeginBaseline() {
	c := m.config
	if !c.Baseline || c.ReadOnly || c.Root == "" || m.warming != nil {
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

// Change is a call that can change the workspace, from its beginning to its end.
type Change struct {
	s     *Session // nil when undo is off
	began time.Time
	free  uint64 // inodes of the file system
	waits bool   // for what there is to say about it
}

// ChangeKind says what a call may do to the workspace.
type ChangeKind int

const (
	Continues ChangeKind = iota // goes on with an earlier call
	Changes                     // changes what it names
	Destroys                    // may remove or rewrite much
)

// BeginChange makes a call undoable. It waits for the baseline, and before a call
// that Destroys shortly for a snapshot of what has changed since the last one.
// progress, if not nil, is told of a longer wait. Codes: cancelled.
func (s *Session) BeginChange(ctx context.Context, kind ChangeKind, progress func(Progress)) (*Change, error) {
	s.changed()
	u := &s.undo
	if u.settled == nil {
		return &Change{}, nil
	}
	if err := waitSaying(ctx, u.settled, progress); err != nil {
		return nil, err
	}
	if kind == Destroys {
		s.catchUp(ctx)
	}
	c := &Change{s: s, began: time.Now(), free: s.freeInodes()}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.off {
		return &Change{}, nil
	}
	u.changes++
	u.calls++
	if kind != Continues {
		u.point, u.back = u.last, ""
	}
	c.waits = kind == Destroys
	return c, nil
}

// waitSaying waits for done and says once a second that it does.
func waitSaying(ctx context.Context, done <-chan struct{}, progress func(Progress)) error {
	select {
	case <-done:
		return nil
	default:
	}
	began := time.Now()
	say := func() {
		if progress != nil {
			progress(Progress{Elapsed: time.Since(began), LastLine: "storing the workspace, so that changes can be undone"})
		}
	}
	say()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-tick.C:
			say()
		case <-ctx.Done():
			return errorf("cancelled", ctx.Err(), "the call was cancelled while the workspace was being stored; nothing was done")
		}
	}
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
		busy := slices.ContainsFunc(s.Processes(), atWork)
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
	if u.calls == 0 && u.told != u.point {
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

// flight is a snapshot being taken behind the calls.
type flight struct {
	began   time.Time
	at      uint64 // undo.changes
	partial bool
	point   string // "" when there is nothing to say about what was lost since
}

// fly takes the snapshot and says whether calls have ended meanwhile.
func (s *Session) fly(ctx context.Context, f flight) (again bool) {
	info, less, err := s.automatic(ctx, "behind a call", false, f.partial)
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
	case err != nil:
		u.off = true
		s.log.Warn("no snapshots are taken any more", "error", err)
		s.tell(fmt.Sprintf("undo: from here on changes are not stored (%s); snapshot_restore snapshot_id=%s goes back to before", err, u.last))
		return false
	case less && !u.partial:
		s.tell("undo: from here on files that version control ignores are not stored, the workspace with them is too large; the others are")
	}
	u.partial, u.last, u.taken = less, info.ID, f.at
	if text != "" {
		u.told = f.point
		s.tell(text)
	}
	return u.calls == 0 && u.changes != u.taken
}

// lost says how to undo when many files were removed or rewritten since point.
func (s *Session) lost(ctx context.Context, point, now string) string {
	repo, err := s.Snapshots()
	if err != nil || point == "" || point == now {
		return ""
	}
	changes, err := repo.Diff(ctx, point, now, "")
	if err != nil {
		return ""
	}
	removed, rewritten := 0, 0
	for _, c := range changes {
		switch {
		case c.Dir:
		case c.Kind == snapshot.Removed:
			removed++
		case c.Kind == snapshot.Modified, c.Kind == snapshot.Type:
			rewritten++
		}
	}
	if removed+rewritten < manyFiles {
		return ""
	}
	return fmt.Sprintf("undo: %d files were removed and %d rewritten; snapshot_restore snapshot_id=%s brings them back", removed, rewritten, point)
}

// End has the state after the call stored behind it. Where the call may have
// removed many files, or where that costs little beside the call, End waits, so
// that the call's own notices can say how to undo it.
func (c *Change) End(ctx context.Context) {
	if c == nil || c.s == nil {
		return
	}
	s, u := c.s, &c.s.undo
	u.mu.Lock()
	u.changes++
	u.calls--
	cost, credit := u.cost, u.credit()
	u.mu.Unlock()
	done := s.takeBehind()
	if done == nil || !c.waits {
		return
	}
	wait := time.Duration(0)
	if free := s.freeInodes(); free >= c.free+manyFiles {
		wait = max(2*cost, 2*time.Second)
	} else if took := time.Since(c.began); cost > 0 && cost <= took/10 && cost < credit {
		wait = min(took/5, credit)
	}
	if wait == 0 {
		return
	}
	defer u.waited(time.Now())
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for done != nil {
		select {
		case <-done:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
		u.mu.Lock()
		known := u.changes == u.taken
		u.mu.Unlock()
		if known {
			return
		}
		done = s.takeBehind()
	}
}

// freeInodes tells the removal of many files without looking at any; 0 where the
// file system does not count them.
func (s *Session) freeInodes() uint64 {
	var st unix.Statfs_t
	if s.rootFD == nil || unix.Fstatfs(int(s.rootFD.Fd()), &st) != nil {
		return 0
	}
	return st.Ffree
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
