package session

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/snapshot"
)

// Change is a call that can change the workspace, from its beginning to its end.
type Change struct {
	s     *Session // nil when undo is off
	of    *Session // also then
	began time.Time
	free  uint64   // inodes of the file system
	tops  []string // directories at the root, where a call Destroys
	waits bool     // for what there is to say about it
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
		return &Change{of: s}, nil
	}
	if err := waitSaying(ctx, u.settled, progress); err != nil {
		return nil, err
	}
	if kind == Destroys {
		s.catchUp(ctx)
	}
	c := &Change{s: s, of: s, began: time.Now(), free: s.freeInodes()}
	if kind == Destroys {
		c.tops = s.topDirs()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.off {
		return &Change{of: s}, nil
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

// End has the state after the call stored behind it. Where the call may have
// removed many files, or where that costs little next to the call, End waits, so
// that the call's own notices can say how to undo it.
func (c *Change) End(ctx context.Context) {
	if c == nil {
		return
	}
	if c.of != nil {
		// A checkpoint that began with the call may have come before what it did.
		c.of.changed()
	}
	if c.s == nil {
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
	if free := s.freeInodes(); free >= c.free+manyFiles || s.lacks(c.tops) {
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

// maxTopDirs bounds the directories that are noted at the root.
const maxTopDirs = 200

// topDirs are the directories at the root. That one of them is gone tells the removal
// of many files too, and does not depend on what others make on the file system, as
// freeInodes does.
func (s *Session) topDirs() (names []string) {
	if s.rootFD == nil {
		return nil
	}
	fd, err := unix.Openat(int(s.rootFD.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), "root")
	defer dir.Close()
	entries, _ := dir.ReadDir(10 * maxTopDirs)
	for _, e := range entries {
		if e.IsDir() && len(names) < maxTopDirs {
			names = append(names, e.Name())
		}
	}
	return names
}

// lacks says whether one of these directories is gone.
func (s *Session) lacks(dirs []string) bool {
	return slices.ContainsFunc(dirs, func(name string) bool {
		var st unix.Stat_t
		return unix.Fstatat(int(s.rootFD.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT
	})
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
