package snapshot

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// RestoreRequest says what to bring back.
type RestoreRequest struct {
	ID     string // or a label, or Latest
	Prefer string // what Latest means if the workspace differs from it, see Find
	Path   string // one file or directory; "" is the whole workspace
}

// RestoreResult says what a restore did, in files, links and directories.
type RestoreResult struct {
	Snapshot string `json:"snapshot_id"` // what was restored
	Added    int    `json:"added"`
	Changed  int    `json:"changed"`
	Removed  int    `json:"removed"`
	// Kept lists what the snapshot does not hold and a restore could not bring
	// back either, and so was left: FIFOs, mounts, unreadable files; at most
	// 100 of KeptCount.
	Kept      []Skipped `json:"kept,omitempty"`
	KeptCount int       `json:"kept_count,omitempty"`
	// Git says which refs of git directories were moved, and where what they
	// pointed to is kept.
	Git []string `json:"git,omitempty"`
	// Checkpoint is the snapshot of the workspace as it was before: restoring
	// it undoes this restore.
	Checkpoint string `json:"checkpoint"`
}

// Restore makes the workspace, or one path of it, what it was in a snapshot.
//
// It first takes a checkpoint, compares, and writes everything new into a
// private directory out of the commands' reach, see [Options]. Only then are names swapped, and the old
// objects kept until all went well. On any error the swaps are undone and the
// workspace is as before. A process killed in the middle leaves the checkpoint.
// What differs in nothing is not touched; the workspace directory itself is never
// replaced or cleared. Files written by commands that run meanwhile may be
// those that are swapped out.
func (r *Repo) Restore(ctx context.Context, q RestoreRequest) (RestoreResult, error) {
	path, err := cleanPath(q.Path)
	if err != nil {
		return RestoreResult{}, err
	}
	id, err := r.Find(ctx, q.ID, q.Prefer)
	if err != nil {
		return RestoreResult{}, err
	}
	done, err := r.begin(ctx)
	if err != nil {
		return RestoreResult{}, err
	}
	defer done()
	rec, err := r.load(ctx, id)
	if err != nil {
		return RestoreResult{}, err
	}
	return r.restore(ctx, rec, path, false)
}

// restore does it under the write lock. merge adds and changes but removes nothing,
// and leaves the modes and times of directories that are there.
func (r *Repo) restore(ctx context.Context, rec *record, path string, merge bool) (res RestoreResult, err error) {
	var opened []unlocked
	defer func() {
		if err != nil {
			r.lock(opened)
		}
	}()
	var now *record
	var walk *scan
	for range maxUnlock {
		now, walk, err = r.create(ctx, CreateRequest{Label: "before restoring " + rec.Info.ID, Auto: true, WithoutIgnored: rec.Info.WithoutIgnored})
		if err != nil {
			return res, fail(err, "no checkpoint could be made, so nothing was restored")
		}
		more, err := r.unlock(ctx, rec, path, walk)
		opened = append(opened, more...)
		if err != nil {
			return res, fail(err, "snapshot %s could not be restored and nothing was changed", rec.Info.ID)
		}
		if len(more) == 0 {
			break
		}
	}
	res.Snapshot, res.Checkpoint = rec.Info.ID, now.Info.ID
	p, err := r.plan(ctx, now, rec, path, merge, walk)
	if err != nil {
		return res, fail(err, "snapshot %s could not be restored and nothing was changed", rec.Info.ID)
	}
	res.Added, res.Changed, res.Removed = p.added, p.changed, p.removed
	for _, s := range now.Info.Skipped {
		if s.Reason == skipMount && !slices.ContainsFunc(p.kept, func(k Skipped) bool { return printable(k.Path) == s.Path }) {
			p.kept = append(p.kept, s)
		}
	}
	res.KeptCount = len(p.kept)
	for _, k := range p.kept[:min(len(p.kept), maxSkipped)] {
		res.Kept = append(res.Kept, Skipped{printable(k.Path), k.Reason})
	}
	if path != "" && !p.seen {
		for _, s := range walk.skipped {
			if s.Reason == skipMount && within(path, s.Path) {
				return RestoreResult{Snapshot: res.Snapshot, Checkpoint: res.Checkpoint}, invalid("%s is on the file system mounted at %s, which snapshots do not hold; restore another path", quote(path), quote(s.Path))
			}
		}
		return RestoreResult{Snapshot: res.Snapshot, Checkpoint: res.Checkpoint}, invalid("neither the snapshot nor the workspace has %s; name a path of one of them", quote(path))
	}
	for _, g := range p.git {
		if len(g.moves) > 0 {
			res.Git = append(res.Git, r.opt.Refs(ctx, g.path, g.moves)...)
		}
	}
	if err := r.carryOut(ctx, p); err != nil {
		return RestoreResult{Snapshot: res.Snapshot, Checkpoint: res.Checkpoint}, fail(err, "snapshot %s could not be restored and the workspace is as it was", rec.Info.ID)
	}
	if err := r.retain(ctx, rec.Info.ID, res.Checkpoint); err != nil {
		r.log.Warn("applying the retention failed", "cause", err)
	}
	return res, nil
}

// carryOut stages everything, then swaps.
func (r *Repo) carryOut(ctx context.Context, p *plan) (err error) {
	if p.empty() {
		return nil
	}
	if err := r.room(p.bytes); err != nil {
		return err
	}
	a := &apply{r: r, tree: r.tree, plan: p, lock: -1, opened: map[string]int{}, was: map[string]before{}}
	if u := r.tree.user; u != nil && r.opt.AsUser {
		a.user, a.tree = u, &tree{root: r.tree.root, fd: r.tree.fd, dev: r.tree.dev}
		leave, err := u.Enter()
		if err != nil {
			return err
		}
		defer leave()
	}
	defer a.close()
	err = a.stage(ctx)
	if err == nil {
		err = a.swap(ctx)
	}
	if err != nil {
		if undo := a.rollback(); undo != nil {
			// Some process took away what was to be put back. The private
			// directory stays: it holds the only copy of what is in it.
			r.log.Error("undoing a restore failed", "cause", undo)
			return sandbox.Errorf(codeFailed, err, "the restore failed and could not be undone wholly (%s); stop the running commands and restore the newest checkpoint", reason(undo))
		}
	}
	a.discard()
	a.finish(err == nil)
	return err
}

// room refuses a restore that the disk cannot hold before it begins.
func (r *Repo) room(need int64) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(r.tree.fd, &fs); err != nil {
		return err
	}
	if free := uint64(fs.Bavail) * uint64(fs.Bsize); uint64(need) > free {
		return sandbox.Errorf(CodeDiskFull, nil, "the restore writes %d bytes in addition to the files and only %d are free, so nothing was changed; free some space", need, free)
	}
	return nil
}
