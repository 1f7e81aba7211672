package session

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"mcp-sandbox/manifest"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/snapshot"
)

// The life of a session:
//
//	created -> Start -> (Stop ...) -> Shutdown -> Close
//	                                          \-> Delete
//
// Nothing runs before Start or after Shutdown. Stop is a checkpoint; processes
// live on. Close ends everything and keeps the workspace of a named session or
// of a caller's directory; Delete also removes what the server made of it.

type phase int32

const (
	phaseCreated phase = iota
	phaseRunning
	phaseEnded
)

// closeWithin bounds the checkpoint of a Close, see Config.CloseWithin.
const closeWithin = 20 * time.Second

// requireRunning precedes every use of what only a running session has.
func (s *Session) requireRunning() error {
	switch phase(s.phase.Load()) {
	case phaseRunning:
		select {
		case <-s.closed:
		default:
			return nil
		}
	case phaseCreated:
		return errorf("session_not_found", nil, "the session is not started; start it first")
	}
	return errEnded()
}

func errEnded() error {
	return errorf("session_not_found", nil, "the session has ended; call again for a fresh one")
}

// Running reports whether commands can run now: the session was started, was
// not shut down, and its sandbox lives.
func (s *Session) Running() bool {
	if s.requireRunning() != nil {
		return false
	}
	select {
	case <-s.sandbox.Done():
		return false
	default:
		return true
	}
}

// over reports whether the session can never run again.
func (s *Session) over() bool {
	return phase(s.phase.Load()) == phaseEnded || phase(s.phase.Load()) == phaseRunning && !s.Running()
}

// Start applies the manifest and starts the sandbox. A resumed session keeps its
// files and has only its ephemeral entries recreated. A failed start leaves
// nothing running and may be tried again. Codes: those of the manifest,
// confinement_unavailable, session_not_found, cancelled.
func (s *Session) Start(ctx context.Context) (err error) {
	s.life.Lock()
	defer s.life.Unlock()
	switch phase(s.phase.Load()) {
	case phaseRunning:
		return nil
	case phaseEnded:
		return s.requireRunning()
	}
	span, err := s.config.Audit.Begin(ctx, s.id, "", "session.start", map[string]any{"resumed": s.resumed != nil, "owned": s.owned})
	if err != nil {
		return err
	}
	defer func() { span.End(ctx, s.id, errorCode(err), nil) }()

	env, secrets, err := s.config.Manifest.Environ(ctx)
	if err != nil {
		return err
	}
	s.env = env
	if s.learn != nil {
		s.learn(secrets)
	}
	if err := s.fill(ctx); err != nil {
		return err
	}
	if err := s.applyManifest(ctx); err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		s.stopRunning()
		s.sandbox, s.table, s.files = nil, nil, nil
		return err
	}
	if s.kept {
		// From here on a killed server's session can be resumed.
		if err := s.saveState(); err != nil {
			s.stopRunning()
			s.sandbox, s.table, s.files = nil, nil, nil
			return err
		}
	}
	if s.resumed != nil {
		s.noteResumption(ctx)
	}
	s.established = true
	s.phase.Store(int32(phaseRunning))
	s.beginBaseline()
	return nil
}

func (s *Session) applyManifest(ctx context.Context) error {
	m := s.config.Manifest
	if m == nil || len(m.Entries) == 0 {
		return nil
	}
	if s.resumed != nil && s.resumed.Manifest != "" && s.resumed.Manifest != m.Digest(s.key) {
		s.log.Warn("the manifest has changed since the session was made: its environment, grants and ephemeral entries count, its other entries do not")
	}
	root, err := os.OpenRoot(s.root)
	if errors.Is(err, fs.ErrPermission) {
		return errorf("permission_denied", err, "the workspace cannot be opened; check its permissions")
	}
	if err != nil {
		return errorf("session_not_found", err, "the workspace is gone; start a new session")
	}
	defer root.Close()
	if fi, err := root.Stat("."); err != nil || !sameDir(fi, s.rootFD) {
		return errorf("session_not_found", err, "the workspace was replaced by another directory; start a new session")
	}
	uid, gid := s.fileOwner()
	known := s.state.ledger(s.root)
	hidden, err := s.config.denyList(s.root, s.state.dirs())
	if err != nil {
		return err
	}
	t := manifest.Target{
		Root: root, EphemeralOnly: s.resumed != nil || s.established, Hidden: hidden, UID: uid, GID: gid, Clone: s.cloneRepo,
		Side: sideName(s.id), Remove: func(dir string) error { return removeIn(root, dir) },
		Replace: func(p string) bool { return s.owned || slices.Contains(known, p) },
	}
	if !s.owned {
		t.Record = func(paths []string) error {
			all := slices.Concat(known, paths)
			slices.Sort(all)
			return s.state.setLedger(s.root, slices.Compact(all))
		}
	}
	done, err := m.Apply(ctx, t)
	if err != nil {
		return err
	}
	if len(done.Kept) > 0 {
		s.log.Info("entries of the manifest existed and were kept", "paths", done.Kept)
	}
	s.receipts = done.Receipts
	return nil
}

func sameDir(fi os.FileInfo, f *os.File) bool {
	other, err := f.Stat()
	return err == nil && os.SameFile(fi, other)
}

// Stop is a checkpoint: it takes a snapshot of the workspace and saves the
// session's state. Processes live on, and the session goes on. Codes:
// session_not_found, snapshot_failed, disk_full, cancelled, internal.
func (s *Session) Stop(ctx context.Context) (snapshotID string, err error) {
	if err := s.requireRunning(); err != nil {
		return "", err
	}
	return s.checkpoint(ctx, true)
}

func (s *Session) checkpoint(ctx context.Context, snap bool) (_ string, err error) {
	span, err := s.config.Audit.Begin(ctx, s.id, "", "session.stop", map[string]any{"snapshot": snap})
	if err != nil {
		return "", err
	}
	defer func() { span.End(ctx, s.id, errorCode(err), nil) }()
	s.checkpoints.Lock()
	defer s.checkpoints.Unlock()
	if snap {
		repo, err := s.Snapshots()
		if err != nil {
			return "", err
		}
		info, err := repo.Create(ctx, snapshot.CreateRequest{Label: "checkpoint", Auto: true})
		if err != nil {
			return "", err
		}
		s.snapshotID, s.unread = info.ID, unreadText(info)
	}
	if !s.kept || snap && s.entryID == s.snapshotID && s.entryUnread == s.unread {
		return s.snapshotID, nil
	}
	if s.unread != "" {
		s.log.Warn("the checkpoint lacks what the workspace's owner may not read", "paths", s.unread)
	}
	if snap {
		return s.snapshotID, s.nameSnapshot()
	}
	if err := s.saveState(); err != nil {
		return "", err
	}
	s.entryID, s.entryUnread = s.snapshotID, s.unread
	return s.snapshotID, nil
}

// TakeSnapshot stores the workspace for a client. Who lost the machine of a kept session
// right after goes on with that: it was asked for and answered. Codes: those of Stop and
// invalid_argument.
func (s *Session) TakeSnapshot(ctx context.Context, label string) (SnapshotInfo, error) {
	repo, err := s.Snapshots()
	if err != nil {
		return SnapshotInfo{}, err
	}
	if !s.kept || !s.owned {
		return repo.Create(ctx, snapshot.CreateRequest{Label: label})
	}
	s.checkpoints.Lock()
	defer s.checkpoints.Unlock()
	info, err := repo.Create(ctx, snapshot.CreateRequest{Label: label})
	if err != nil {
		return SnapshotInfo{}, err
	}
	s.snapshotID, s.unread = info.ID, unreadText(info)
	return info, s.nameSnapshot()
}

// nameSnapshot has the session's entry name its newest snapshot. The caller holds
// checkpoints.
func (s *Session) nameSnapshot() error {
	if err := s.saveState(); err != nil {
		return err
	}
	s.entryID, s.entryUnread = s.snapshotID, s.unread
	// Until the next is named, whatever other snapshots there will be.
	s.snaps.repo.Hold(s.snapshotID)
	return nil
}

func (s *Session) savedState() savedState {
	return savedState{
		Name: s.config.Name, SessionID: s.id, Created: s.created.UTC(), Until: s.until.UTC(), Saved: s.config.now().UTC(),
		Workspace: s.root, Owned: s.owned, Manifest: s.config.Manifest.Digest(s.key),
		Snapshot: s.snapshotID, Unread: s.unread, Ports: s.config.Expose, Ephemeral: s.config.Manifest.Ephemeral(),
	}
}

// saveState first writes the state, then marks the record: a record that is not
// marked goes with its session when the server dies, so a session that was never
// whole is not kept.
func (s *Session) saveState() error { return s.saveStateAs(s.savedState()) }

func (s *Session) saveStateAs(st savedState) error {
	if err := s.claim.save(context.Background(), st); err != nil {
		if sandbox.CodeOf(err) != "" {
			return err
		}
		return errorf("internal", err, "the session's state could not be saved; check --state-dir")
	}
	if s.record.data.Kept {
		return nil
	}
	d := s.record.data
	d.Kept = true
	if err := s.record.update(d); err != nil {
		return errorf("internal", err, "the session could not be recorded in the state directory; check --state-dir")
	}
	return nil
}

// Shutdown kills every process, ends the sandbox and closes the exposed ports.
// Files stay. It is idempotent; Close has to follow.
func (s *Session) Shutdown() error {
	s.life.Lock()
	defer s.life.Unlock()
	if phase(s.phase.Load()) == phaseEnded {
		return nil
	}
	s.phase.Store(int32(phaseEnded))
	s.uses.stop()
	return s.stopRunning()
}

// stopRunning ends what Start began. The sandbox first: its end is the end of
// every process at once, so that the table has nothing left to wait for.
func (s *Session) stopRunning() error {
	var errs []error
	s.forwards.close()
	if s.sandbox != nil {
		errs = append(errs, s.sandbox.Close())
	}
	if s.table != nil {
		s.table.Close()
	}
	if s.files != nil {
		errs = append(errs, s.uses.close(s.files.Close))
	}
	s.closeGitStage()
	return errors.Join(errs...)
}

// Close ends everything that runs, and frees what the session
// holds. The workspace stays when it is a caller's directory or the session is
// named (whose state is then saved, with a snapshot of an owned workspace),
// and is removed otherwise. Every step is tried; the failures are joined. It is
// idempotent.
func (s *Session) Close() error { return s.end(false) }

// Delete is Close, and forgets a named session: its state, its snapshots and the
// workspace, if the server made it. A caller's directory stays as it is, and a session in
// whose stage changes wait is only closed: whether they go is a person's to say.
func (s *Session) Delete() error { return s.end(true) }

func (s *Session) end(forget bool) error {
	first := false
	s.closeOnce.Do(func() {
		first = true
		s.closeErr = s.finish(forget)
		s.log.Info("session ended", "error", s.closeErr)
	})
	if !first && forget && s.kept {
		return errors.Join(s.closeErr, s.state.deleteSaved(s.config, s.config.Name, false))
	}
	return s.closeErr
}

func (s *Session) finish(forget bool) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(s.config.CloseWithin, closeWithin))
	defer cancel()
	keep := s.kept && s.established && !forget
	op := "session.close"
	if forget {
		op = "session.delete"
	}
	// A session ends even when a strict audit log fails.
	span, _ := s.config.Audit.Begin(ctx, s.id, "", op, nil)
	defer func() { span.End(ctx, s.id, errorCode(err), nil) }()

	var errs []error
	ran := s.Running()
	close(s.closed)
	s.workedMu.Lock()
	s.closing = true
	s.workedMu.Unlock()
	s.watching.Wait()
	saved := ran && s.allSaved()
	errs = append(errs, s.Shutdown())
	if forget && s.kept && s.changesWait() {
		forget, keep = false, s.established
	}
	if keep && ran && s.claim.held() {
		// After the processes have ended, so that nothing changes during the snapshot.
		snap, err := s.owned && !saved, error(nil)
		if snap {
			defer s.saveTurn()()
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(context.Background(), cmp.Or(s.config.CloseWithin, closeWithin))
			defer cancel()
		}
		if snap || s.state.lease == nil {
			_, err = s.checkpoint(ctx, snap)
		}
		if err == nil {
			err = s.giveUp()
		}
		if err != nil {
			s.checkpointFailed(err)
		}
		errs = append(errs, err)
	}
	errs = append(errs, s.closeSnapshots())
	if !keep {
		errs = append(errs, s.removeOurs(forget))
	}
	errs = append(errs, s.closeStage(forget))
	return errors.Join(append(errs, s.release(keep))...)
}

const (
	// savingAtOnce bounds the snapshots of sessions that end: hundreds at once would
	// all be too slow for their time.
	savingAtOnce = 8
	// saveTurnWithin bounds the wait for a turn. With Config.CloseWithin of a network
	// server it is less than the patience of whoever stops the server, 30 s.
	saveTurnWithin = 13 * time.Second
)

// saveTurn waits until the session may take its last snapshot.
func (s *Session) saveTurn() (done func()) {
	if s.saving == nil {
		return func() {}
	}
	t := time.NewTimer(saveTurnWithin)
	defer t.Stop()
	select {
	case s.saving <- struct{}{}:
		return func() { <-s.saving }
	case <-t.C:
		return func() {}
	}
}

// removeOurs removes the workspace if the record says that we made it, and it
// still is the directory that was made.
func (s *Session) removeOurs(forget bool) error {
	var errs []error
	if s.record != nil {
		errs = append(errs, s.record.unkeep())
	}
	if s.record != nil && s.record.data.Owned {
		errs = append(errs, s.record.removeWorkspace())
		if s.kept && s.state.lease == nil {
			errs = append(errs, removeSnapshots(s.config, s.root))
		}
	}
	if s.kept && forget {
		errs = append(errs, s.claim.remove(s.id))
	}
	return errors.Join(errs...)
}

// release gives back descriptors, locks and the scratch directory.
func (s *Session) release(keep bool) error {
	var errs []error
	s.transfers.close()
	if s.scratch != "" {
		// The kernel's work directory of an overlay has no permissions.
		openDirs(s.scratch)
		errs = append(errs, os.RemoveAll(s.scratch))
	}
	if s.cache != nil {
		errs = append(errs, s.cache.close(s.config.CacheLimit))
	}
	if s.rootFD != nil {
		errs = append(errs, s.uses.close(s.rootFD.Close))
	}
	if s.record != nil {
		if keep {
			errs = append(errs, s.record.f.Close())
		} else {
			errs = append(errs, s.record.remove())
		}
	}
	s.claim.endStoring()
	s.claim.close()
	return errors.Join(errs...)
}

// removeSnapshots removes a deleted workspace's snapshots from a local store.
func removeSnapshots(c Config, root string) error {
	if c.SnapshotStore != "" || c.OpenStore != nil {
		return nil // an operator's own store is the operator's to prune
	}
	return os.RemoveAll(SnapshotDir(c, root))
}

// errorCode is the code of an error for a record.
func errorCode(err error) string {
	if err == nil {
		return ""
	}
	return cmp.Or(sandbox.CodeOf(err), "internal")
}
