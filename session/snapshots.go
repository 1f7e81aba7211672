package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"mcp-sandbox/gitstage"
	"mcp-sandbox/snapshot"
	"mcp-sandbox/workspace"
)

// The types of package snapshot under the session's name.
type (
	SnapshotInfo    = snapshot.Info
	SnapshotChange  = snapshot.Change
	RestoreRequest  = snapshot.RestoreRequest
	RestoreResult   = snapshot.RestoreResult
	SnapshotRequest = snapshot.CreateRequest
	Retention       = snapshot.Retention
)

// DefaultRetention keeps a month of undo without filling a disk.
func DefaultRetention() Retention {
	return Retention{Count: 100, Age: 30 * 24 * time.Hour, Bytes: 4 << 30}
}

// snapshots is opened on first use: most sessions never take one.
type snapshots struct {
	once sync.Once
	repo *snapshot.Repo
	err  error
}

// Snapshots are the snapshots of this workspace. An owned workspace's are kept
// with the session and end with it; those of a caller's directory or a named
// session stay, keyed by its path, so that the next session finds them.
func (s *Session) Snapshots() (*snapshot.Repo, error) {
	s.snaps.once.Do(func() {
		dir := filepath.Join(s.scratch, "snapshots")
		if !s.owned || s.kept || s.config.SnapshotStore != "" || s.config.OpenStore != nil {
			dir = SnapshotDir(s.config, s.snapshotsOf())
		}
		c := s.config
		if open := c.OpenStore; open != nil && c.Staged {
			c.OpenStore = func(string) (snapshot.Store, error) { return open(snapshotKey(s.snapshotsOf())) }
		}
		if s.state.lease != nil && s.claim != nil {
			c.OpenStore = func(string) (snapshot.Store, error) {
				store, err := s.config.OpenStore(s.id)
				return fencedStore{store, s.claim}, err
			}
		}
		s.snaps.repo, s.snaps.err = openSnapshots(c, dir, s.root, s.workTree(), s.rules, s.ignored)
		if s.snaps.err == nil && s.resumed != nil {
			s.snaps.repo.Hold(s.resumed.Snapshot)
		}
	})
	return s.snaps.repo, s.snaps.err
}

// snapshotsOf names the snapshots of the session in a store.
func (s *Session) snapshotsOf() string {
	if s.config.Staged {
		return stagedSnapshots(s.root, s.config.Name)
	}
	return s.root
}

// SnapshotDir is where the snapshots of a workspace directory are kept.
func SnapshotDir(c Config, root string) string {
	base := c.SnapshotStore
	if base == "" {
		state := c.StateDir
		if state == "" {
			state = DefaultStateDir()
		}
		base = filepath.Join(state, "snapshots")
	}
	return filepath.Join(base, snapshotKey(root))
}

// snapshotKey names a workspace in a store: by its path, so that the next
// session of the same directory finds its snapshots.
func snapshotKey(root string) string {
	sum := sha256.Sum256([]byte(root))
	return hex.EncodeToString(sum[:12])
}

// EphemeralPaths are the paths of a workspace directory that sessions recreated at
// each start. Snapshots leave them out, and so must what restores one outside a
// session. Codes: internal.
func EphemeralPaths(c Config, root string) ([]string, error) {
	st, err := stateThere(c)
	if err != nil || st == nil {
		return nil, err
	}
	defer st.close()
	return st.ledger(root), nil
}

// rules are the policy of the session's files. Before Start there are none: a
// workspace that is gone comes back whole.
func (s *Session) rules(ctx context.Context) snapshot.Rules {
	if s.files == nil {
		return allowAll{}
	}
	return s.files.Rules(ctx)
}

// ignored are the paths that version control ignores, none before Start.
func (s *Session) ignored(ctx context.Context) ([]string, error) {
	if s.files == nil {
		return nil, nil
	}
	return s.files.Ignored(ctx)
}

type allowAll struct{}

func (allowAll) Hides(string, uint64, uint64, uint64) bool { return false }
func (allowAll) Protects(string) bool                      { return false }

// OpenSnapshots opens the snapshots of a workspace directory without a session,
// under the policy a session of it would have. skip are paths to leave out in addition to
// the configured ones. Codes: invalid_argument and those of package snapshot.
func OpenSnapshots(c Config, dir, root string, skip ...string) (*snapshot.Repo, error) {
	if err := c.checkPolicy(); err != nil {
		return nil, err
	}
	state := c.StateDir
	if state == "" {
		state = DefaultStateDir()
	}
	var dirs []string
	if state != "" {
		dirs = append(dirs, state)
	}
	hidden, err := c.denyList(root, dirs)
	if err != nil {
		return nil, err
	}
	files, err := workspace.Open(root, workspace.Options{OwnerUID: -1, OwnerGID: -1, Protect: slices.Concat(DefaultProtected(), protectedRepositories(root), c.Protect), Deny: hidden})
	if err != nil {
		return nil, err
	}
	rules := func(ctx context.Context) snapshot.Rules { return files.Rules(ctx) }
	return openSnapshots(c, dir, root, nil, rules, files.Ignored, skip...)
}

// stageDirs are where a restore may build: the state directory, or next to the
// workspace where commands do not reach.
func (c *Config) stageDirs(root string) []string {
	var out []string
	state := c.StateDir
	if state == "" {
		state = DefaultStateDir()
	}
	if state != "" {
		out = append(out, filepath.Join(state, "restore"))
	}
	up := filepath.Dir(root)
	for _, w := range c.Write {
		if real, err := filepath.EvalSymlinks(w); err == nil && (real == up || within(up, real)) {
			return out
		}
	}
	// Not in a directory that everybody can write, such as /tmp.
	if fi, err := os.Stat(up); err == nil && fi.Mode().Perm()&0o022 == 0 {
		out = append(out, up)
	}
	return out
}

// openSnapshots opens the snapshots of a workspace, which Config.OpenStore, or
// else the directory dir, keeps; without rootFD the workspace is opened by its path.
func openSnapshots(c Config, dir, root string, rootFD *os.File, rules func(context.Context) snapshot.Rules, ignored func(context.Context) ([]string, error), skip ...string) (*snapshot.Repo, error) {
	store, err := openStore(c, dir, root)
	if err != nil {
		return nil, err
	}
	retention := c.Retention
	if retention == (Retention{}) {
		retention = DefaultRetention()
	}
	return snapshot.New(store, snapshot.Options{
		Root: root, RootFile: rootFD, AsUser: c.Staged && rootFD != nil, Ignore: c.SnapshotIgnore, Skip: slices.Concat(c.snapshotSkip, skip), Retention: retention, Log: c.Log,
		Rules: rules, Ignored: ignored, StageDirs: c.stageDirs(root),
		Refs: func(_ context.Context, dir string, moves []snapshot.RefMove) []string {
			return keepMoved(root, rootFD, dir, moves)
		},
	})
}

// keepMoved keeps the commits that a restore takes out of the branches of a git
// directory.
func keepMoved(root string, rootFD *os.File, dir string, moves []snapshot.RefMove) []string {
	if rootFD == nil {
		f, err := openRoot(root)
		if err != nil {
			return []string{dir + ": its refs move, and what they point to is in the snapshot from before the restore alone"}
		}
		defer f.Close()
		rootFD = f
	}
	o := gitstage.Options{UID: -1, GID: -1}
	if os.Geteuid() == 0 {
		if uid, gid, err := ownerOf(rootFD); err == nil {
			o.UID, o.GID = uid, gid
		}
	}
	list := make([]gitstage.Move, len(moves))
	for i, m := range moves {
		list[i] = gitstage.Move(m)
	}
	return gitstage.KeepMoved(rootFD, dir, list, o)
}

func openStore(c Config, dir, root string) (snapshot.Store, error) {
	if c.OpenStore != nil {
		return c.OpenStore(snapshotKey(root))
	}
	return snapshot.NewLocalStore(dir)
}

// Restore brings a snapshot back. Commands may run meanwhile, but what they
// write to a file that is swapped can be lost. Codes: snapshot_not_found,
// snapshot_failed, unsafe_archive, disk_full, permission_denied, cancelled.
func (s *Session) Restore(ctx context.Context, r RestoreRequest) (RestoreResult, error) {
	if s.config.ReadOnly {
		return RestoreResult{}, errorf("permission_denied", nil, "the session is read-only, so nothing can be restored into it; ask the user to restore with mcp-sandbox snapshots")
	}
	repo, err := s.Snapshots()
	if err != nil {
		return RestoreResult{}, err
	}
	if s.requireRunning() != nil {
		return repo.Restore(ctx, r)
	}
	c, err := s.BeginChange(ctx, Continues, nil)
	if err != nil {
		return RestoreResult{}, err
	}
	defer c.End(ctx)
	for _, n := range s.publishGit() { // what a running command has committed is in the checkpoint
		s.tell(n)
	}
	r.Path = s.below(r.Path)
	if r.ID == snapshot.Latest {
		if id, sure := s.undoPoint(); sure {
			r.ID = id
		} else {
			r.Prefer = id
		}
	}
	res, err := repo.Restore(ctx, r)
	s.watch.stale()
	if err == nil && r.Path == "" {
		s.undo.mu.Lock()
		s.undo.back = res.Snapshot
		s.undo.mu.Unlock()
	}
	return res, err
}

// below is a path of the workspace relative to it, as snapshots name it.
func (s *Session) below(path string) string {
	if rel, err := filepath.Rel(s.root, path); err == nil && filepath.IsAbs(path) && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// Changed tells what changed since a snapshot, as Restore understands its name,
// and which that is: the list, the text of at most limit bytes (0: no text), and
// the file systems mounted in the workspace, which are not compared.
func (s *Session) Changed(ctx context.Context, ref, path string, limit int) (id string, _ []SnapshotChange, text string, mounted []snapshot.Skipped, err error) {
	repo, err := s.Snapshots()
	if err != nil {
		return "", nil, "", nil, err
	}
	prefer := ""
	if ref == snapshot.Latest {
		prefer, _ = s.undoPoint()
	}
	if id, err = repo.Find(ctx, ref, prefer); err != nil {
		return "", nil, "", nil, err
	}
	path = s.below(path)
	list, mounted, err := repo.Compare(ctx, id, "", path)
	if err == nil && len(list) > 0 && limit > 0 {
		text, err = repo.DiffText(ctx, id, "", path, limit)
	}
	return id, list, text, mounted, err
}

func (s *Session) closeSnapshots() error {
	s.snaps.once.Do(func() { s.snaps.err = errEnded() })
	if s.snaps.repo == nil {
		return nil
	}
	return s.snaps.repo.Close()
}

// CountMutation counts a call that can change something, and takes a checkpoint in
// the background after Config.CheckpointEvery of them. At most one checkpoint runs;
// calls meanwhile queue no second.
func (s *Session) CountMutation() {
	every := s.config.CheckpointEvery
	if every <= 0 {
		return
	}
	s.workedMu.Lock()
	defer s.workedMu.Unlock()
	if s.mutations++; s.mutations < every || s.checkpointing || s.closing {
		return
	}
	s.mutations, s.checkpointing = 0, true
	s.watching.Go(func() {
		ctx, cancel := s.untilClosed()
		defer cancel()
		if _, err := s.Stop(ctx); err != nil && ctx.Err() == nil {
			s.checkpointFailed(err)
		}
		s.workedMu.Lock()
		defer s.workedMu.Unlock()
		s.checkpointing = false
	})
}
