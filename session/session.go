// Package session holds what one client owns: a workspace directory, a running
// sandbox, a table of processes, and the rules that tie them together.
//
// Start with [NewManager], which hands out one [Session] per client key, makes
// it on first use and ends it at Close. A Session is a life cycle around three
// parts it does not implement itself: files (package workspace), processes
// (package ptyproc) and confinement, which it only knows as the [Launcher] and
// [Sandbox] interfaces so that the kernel side can be swapped and tested alone.
//
// It does not speak MCP, does not count tokens and does not decide how a reply
// looks: package tools does.
package session

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mcp-sandbox/deny"
	"mcp-sandbox/manifest"
	"mcp-sandbox/ptyproc"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/stage"
	"mcp-sandbox/workspace"
)

// Session is one client's workspace, sandbox and processes. All methods are
// safe for concurrent use. Its life is in lifecycle.go; outside of it every
// method that runs something answers session_not_found.
type Session struct {
	id      string
	config  Config
	root    string
	owned   bool
	kept    bool // it is named: its workspace and state outlive it
	created time.Time
	until   time.Time // when it is deleted whatever it does; zero is Config.MaxAge after created
	opening *Opening  // nil for a session that a call made
	rootFD  *os.File
	record  *record
	scratch string
	temp    string
	claim   *claim // nil for a session that is not kept
	key     []byte // signs the state

	launcher Launcher
	state    *state
	learn    func(secrets []string)
	resumed  *savedState
	// recreated: the workspace was lost and came back from its snapshot.
	recreated  bool
	resumption atomic.Pointer[Resumption]
	log        *slog.Logger

	// life serialises Start and Shutdown. What they set is written under life;
	// readers must have passed requireRunning.
	life        sync.Mutex
	phase       atomic.Int32
	filled      bool // from Config.From
	established bool // was started once, so what it holds is worth keeping
	env         []string
	receipts    []manifest.Receipt
	sandbox     sandbox.Sandbox
	files       *workspace.FS
	table       *ptyproc.Table
	staged      *gitStage    // nil where git directories are not staged
	gitSeen     *gitSeen     // nil where they are, and in a temporary workspace
	gitAt       gitDirs      // that git at the root uses besides .git
	stage       *stage.Stage // nil where the workspace is not staged
	reviewed    bool         // reviews are answered
	snaps       snapshots
	undo        undo
	forwards    portForwards
	transfers   transfers
	watch       *workspaceWatch // nil without a limit
	watching    sync.WaitGroup
	stored      <-chan struct{} // closed when the manager's own look is over, see Manager.BeginBaseline

	workedMu      sync.Mutex
	mutations     int
	changes       int  // begun, in all
	savedChanges  int  // of them in the last quiet checkpoint
	snapshotted   bool // there is one
	counts        *Counts
	saving        chan struct{} // a place for each last snapshot, see saveTurn; nil without a bound
	checkpointing bool          // a checkpoint is being taken
	ended         int           // calls that want a Commit, in all
	committed     int           // of them
	closing       bool          // and none is begun any more

	hidden *deny.List
	trust  trustStore
	cache  *cacheUse // nil without

	denialsMu                       sync.Mutex
	denialsBegan                    time.Time
	denialsRecorded, denialsOmitted int

	noticesMu sync.Mutex
	notices   []string

	promptersMu sync.Mutex
	prompters   map[*Prompter]bool

	committing  sync.Mutex // taken before checkpoints
	checkpoints sync.Mutex // guards the following
	snapshotID  string
	entryID     string // the snapshot that the saved state names
	unread      string // the paths that it lacks, as they could not be read
	entryUnread string // those that the saved state names

	uses      inUse
	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error
}

// ID is the session's name in logs and state: 128 random bits in hex.
func (s *Session) ID() string { return s.id }

// Root is the absolute path of the workspace, the same inside and outside.
func (s *Session) Root() string { return s.root }

// Owned reports whether the server made the workspace and removes it with the session.
func (s *Session) Owned() bool { return s.owned }

// Kept reports whether the session is named, so that it outlives its server.
func (s *Session) Kept() bool { return s.kept }

// Created is when the session was made.
func (s *Session) Created() time.Time { return s.created }

// Until is when the session is deleted whatever it does, zero without a time of its
// own.
func (s *Session) Until() time.Time { return s.until }

// Files is the workspace's file API, nil before Start.
func (s *Session) Files() *workspace.FS { return s.files }

// Sandbox is the confinement the session's commands run in, nil before Start.
func (s *Session) Sandbox() sandbox.Sandbox { return s.sandbox }

// Limits are the resource limits the session was configured with.
func (s *Session) Limits() sandbox.Limits { return s.config.Limits }

// create makes a session of which nothing runs yet. What is made is recorded
// first, so that a kill at any moment leaves nothing unknown.
func (m *Manager) create(ctx context.Context, c Config, saved *savedState, held *claim) (_ *Session, err error) {
	s := &Session{
		id: newID(), config: c, created: c.now(), opening: c.opening, closed: make(chan struct{}), kept: c.Name != "",
		counts: &m.counts, saving: m.saving, stored: m.warming, launcher: m.launcher, state: m.state, learn: m.addSecrets, claim: held, resumed: saved,
	}
	if saved != nil {
		s.id, s.created, s.established, s.until = saved.SessionID, saved.Created, true, saved.Until
	} else if o := c.opening; o != nil && o.TTL > 0 {
		s.until = s.created.Add(o.TTL)
	}
	s.log = m.log.With("session", s.id)
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if s.key, err = m.state.key(); err != nil {
		return nil, err
	}
	s.mergeManifest()
	temp, err := filepath.Abs(filepath.Join(cmp.Or(c.TempDir, os.TempDir()), "mcp-sandbox-"+s.id))
	if err != nil {
		return nil, errorf("internal", err, "the temporary directory has no absolute path; set TMPDIR to one")
	}
	s.temp = temp
	switch {
	case m.state.lease != nil && held != nil:
		err = s.shareWorkspace(ctx)
	case saved != nil:
		err = s.adoptWorkspace(ctx)
	default:
		err = s.makeRoot()
	}
	if err != nil {
		return nil, err
	}
	if s.scratch, err = m.state.scratch(s.id); err != nil {
		return nil, errorf("internal", err, "the session's scratch directory could not be made; check --state-dir")
	}
	return s, nil
}

// makeRoot makes or takes the workspace of a new session.
func (s *Session) makeRoot() (err error) {
	c := s.config
	d := recordData{Workspace: c.Root, Owned: c.Root == "", Temp: s.temp}
	if d.Owned {
		d.Workspace, err = ownedRootPath(c.TempDir, s.id)
	} else {
		d.Workspace, err = CheckRoot(c.Root, c.StateDir)
	}
	if err != nil {
		var coded *sandbox.Error
		if errors.As(err, &coded) {
			return err
		}
		return errorf("internal", err, "the temporary workspace could not be made; check that the temporary directory exists and has room")
	}
	s.root, s.owned = d.Workspace, d.Owned
	if s.record, err = s.state.add(s.id, d); err != nil {
		return errorf("internal", err, "the session could not be recorded in the state directory; check --state-dir")
	}
	if s.owned {
		if err = os.Mkdir(s.root, 0o700); err == nil {
			_, _, err = chownToSandbox(s.root)
		}
		if err != nil {
			return errorf("internal", err, "the temporary workspace could not be made; check that the temporary directory exists and has room")
		}
	}
	return s.openRoot()
}

// openRoot takes the descriptor before anything runs inside, so that a later
// rename or swap of the path cannot move the session to another directory.
func (s *Session) openRoot() (err error) {
	if s.rootFD, err = openRoot(s.root); err != nil {
		return errorf("not_found", err, "the workspace could not be opened; check that it is a directory this server may use")
	}
	if err := s.record.identify(s.rootFD); err != nil {
		return errorf("internal", err, "the session could not be recorded in the state directory; check --state-dir")
	}
	return nil
}

// adoptWorkspace finds the workspace of a resumed session. Only a directory that is gone
// is made again, from the snapshot; one that is there is never written over.
func (s *Session) adoptWorkspace(ctx context.Context) (err error) {
	saved := s.resumed
	if s.claim != nil && s.claim.record != nil {
		s.record, s.claim.record = s.claim.record, nil
	} else if s.record, err = s.state.reopen(saved.SessionID); err != nil {
		if os.IsNotExist(err) {
			return errorf("session_not_found", err, "the saved session is no longer known here; delete it and start a new one")
		}
		return err
	}
	if err := s.state.removeRemains(s.id, s.record.data); err != nil {
		s.log.Warn("what a killed server left of this session could not be removed", "error", err)
	}
	d := s.record.data
	// By lease, the path may be that of another machine.
	if d.Workspace != saved.Workspace && s.state.lease == nil {
		return errorf("invalid_argument", nil, "the saved session and its record disagree about the workspace, so it cannot be resumed; delete it and start a new one")
	}
	s.root, s.owned, s.snapshotID, s.unread = d.Workspace, d.Owned, saved.Snapshot, saved.Unread
	if s.config.Root != "" && s.config.Root != s.root {
		return errorf("invalid_argument", nil, "the session %q works in another directory than --root names; leave --root out or choose another name", s.config.Name)
	}
	switch _, err := os.Lstat(s.root); {
	case os.IsNotExist(err):
		return s.recreateWorkspace(ctx)
	case err != nil:
		return errorf("permission_denied", err, "the workspace cannot be reached; check its permissions")
	}
	if !s.owned {
		if _, err := CheckRoot(s.root, s.config.StateDir); err != nil {
			return err
		}
		return s.openRoot()
	}
	if s.rootFD, err = openRoot(s.root); err != nil {
		return errorf("not_found", err, "the workspace could not be opened; check that it is a directory this server may use")
	}
	if fi, err := s.rootFD.Stat(); err != nil {
		return errorf("internal", err, "the workspace cannot be looked at; try again")
	} else if dev, ino := identity(fi); ino != d.Ino || dev != d.Dev && !couldBeOwned(fi) {
		return errorf("session_not_found", nil, "another directory is where the session's workspace was; move it away and the workspace comes back from its snapshot")
	} else if dev != d.Dev {
		// The device's number is another after a restart of the machine, and on
		// another machine that shares the file system.
		if err := s.record.identify(s.rootFD); err != nil {
			return errorf("internal", err, "the session's record could not be changed; check --state-dir")
		}
	}
	return nil
}

// recreateWorkspace makes a lost workspace again from the last snapshot.
func (s *Session) recreateWorkspace(ctx context.Context) (err error) {
	if s.snapshotID == "" {
		return errorf("session_not_found", nil, "the workspace of the session is gone and there is no snapshot of it; delete the session and start a new one")
	}
	if err := os.Mkdir(s.root, 0o700); err != nil {
		return errorf("internal", err, "the lost workspace could not be made again; check the directory above it")
	}
	// Recorded as the server's, and empty, before anything is in it.
	if s.owned {
		if _, _, err := chownToSandbox(s.root); err != nil {
			return errorf("internal", err, "the lost workspace could not be made again; check the directory above it")
		}
	}
	err = s.openRoot()
	if err == nil {
		_, err = s.restoreLast(ctx)
	}
	if err != nil {
		// So that the next try finds the directory gone, not empty.
		_ = os.Remove(s.root)
		return err
	}
	s.recreated = true
	s.unread = "" // it went with the workspace
	s.log.Info("the workspace was gone and came back from its snapshot", "snapshot", s.snapshotID)
	return nil
}

func (s *Session) restoreLast(ctx context.Context) (RestoreResult, error) {
	repo, err := s.Snapshots()
	if err != nil {
		return RestoreResult{}, err
	}
	return repo.Restore(ctx, RestoreRequest{ID: s.snapshotID})
}

// mergeManifest adds the manifest's grants and ports to the session's own copy
// of the configuration.
func (s *Session) mergeManifest() {
	m := s.config.Manifest
	if m == nil {
		return
	}
	var read, write []string
	for _, g := range m.Grants {
		if p := filepath.Clean(g.Path); g.ReadOnly {
			read = append(read, p)
		} else {
			write = append(write, p)
		}
	}
	s.config.Read = slices.Concat(s.config.Read, read)
	s.config.Write = slices.Concat(s.config.Write, write)
	s.config.Expose = slices.Concat(s.config.Expose, m.Ports)
	s.config.snapshotSkip = m.Ephemeral()
}

// run starts the sandbox and what works on it.
func (s *Session) run(ctx context.Context) (err error) {
	c := s.config
	home := ""
	if s.homeInWorkspace() {
		home = s.root
	}
	if err := c.checkGrants(); err != nil {
		return err // a running session may have replaced one since the start
	}
	protect, inGrants := s.protected()
	p := sandbox.Policy{
		Workspace: s.root, WorkspaceFile: s.rootFD, WorkspaceName: s.config.rootName, WorkspaceAlias: s.config.WorkspaceAlias, UID: -1, GID: -1, AllowRoot: c.AllowRoot, Home: home,
		Path: c.Path, Read: c.Read, Write: c.Write, DenyRead: c.hidden(), Protect: protect, ReadOnly: c.ReadOnlyRoot,
		Cache: s.takeCache(), StateDirs: s.state.dirs(), TempDir: s.temp, Network: c.Network, Limits: c.Limits,
		GitConfig: c.Git.Text(), GitIgnore: c.Git.Ignore,
		Level: c.Level, MinLevel: c.MinLevel, Log: s.log,
	}
	if p.Stage, err = s.takeStage(); err != nil {
		return err
	}
	if p.Stage != "" {
		// Nothing outside sees what commands do to git directories or hooks.
		p.StageProtect = c.Protect
	} else if p.GitStage, err = s.makeGitStage(); err != nil {
		return err
	}
	files, err := s.fileOptions(p)
	if err != nil {
		return err
	}
	files.ProtectGrants = slices.Concat(inGrants, nestedProtected())
	if !s.owned && p.Stage == "" {
		files.ProtectData = protectedData()
	}
	s.trust = hostTrust(s.hidden, func(name, why string) {
		s.log.Warn("a variable with certificates is not passed to commands", "name", name, "reason", why)
	})
	p.Read, p.JavaTrust = slices.Concat(p.Read, s.trust.grants), s.trust.java
	if !s.owned {
		s.gitAt = gitDirsOf(s.root, p.StateDirs)
		p.GitDirs, p.Read = s.gitAt.own, slices.Concat(p.Read, s.gitAt.outside(s.root))
	}
	if s.sandbox, err = s.launcher.Start(ctx, p, Callbacks{Note: s.note, Ask: s.ask}); err != nil {
		return err
	}
	showOwner(&files, s.sandbox)
	if err := s.openStage(&files); err != nil {
		return err
	}
	if s.files, err = workspace.Open(p.Workspace, files); err != nil {
		return err
	}
	if err := s.openGitStage(p.GitStage); err != nil {
		return err
	}
	s.table = ptyproc.NewTable(s.spawner(), ptyproc.Options{
		SpoolDir: s.scratch, MaxYield: c.MaxYield, OnCancel: c.OnCancel, Log: s.log,
	})
	if s.watch == nil && (s.owned || s.stage != nil) && c.WorkspaceLimit > 0 {
		s.watch = &workspaceWatch{limit: c.WorkspaceLimit}
		s.watching.Go(s.watchWorkspace)
	}
	s.log.Info("session started", "level", s.sandbox.Report().Level, "owned", s.owned)
	for _, w := range s.sandbox.Report().Warnings {
		s.log.Warn("confinement", "warning", w)
	}
	return nil
}

// protected are the paths that may not be changed in the workspace and in every
// write grant. In an owned workspace only configured paths are protected.
func (s *Session) protected() (workspace, grants []string) {
	grants = append(DefaultProtected(), s.config.Protect...)
	if s.owned {
		return s.config.Protect, grants
	}
	return slices.Concat(grants, protectedRepositories(s.root)), grants
}

// fileOptions are the policy of commands for the file tools, and through them
// for snapshots. Codes: invalid_argument.
func (s *Session) fileOptions(p sandbox.Policy) (workspace.Options, error) {
	hidden, err := denyList(p)
	if err != nil {
		return workspace.Options{}, err
	}
	if p.Stage != "" {
		if hidden, err = hiddenInStage(hidden); err != nil {
			return workspace.Options{}, err
		}
	}
	s.hidden = hidden
	uid, gid := s.fileOwner()
	grants := make([]workspace.Grant, 0, len(p.Read)+len(p.Write))
	for _, path := range p.Write {
		grants = append(grants, workspace.Grant{Path: path})
	}
	for _, path := range p.Read {
		grants = append(grants, workspace.Grant{Path: path, ReadOnly: true})
	}
	protect := slices.Concat(p.Protect, nestedProtected())
	if p.Stage != "" {
		protect = p.StageProtect
	}
	var grow func(int64) error
	if (s.owned || p.Stage != "") && s.config.WorkspaceLimit > 0 {
		grow = s.grow
	}
	return workspace.Options{
		Alias:   p.WorkspaceAlias,
		MaxFile: s.config.Limits.WithDefaults().FileSize, Grow: grow,
		Grants: grants, OwnerUID: uid, OwnerGID: gid, ActAsOwner: uid > 0, ReadOnly: s.config.ReadOnly,
		Protect: protect, Deny: hidden,
	}, nil
}

func (s *Session) homeInWorkspace() bool {
	if s.config.ReadOnlyRoot {
		return false
	}
	switch s.config.Home {
	case "workspace":
		return true
	case "private":
		return false
	}
	return s.owned
}

// fileOwner is whom files of the workspace belong to on disk: the identity the
// commands run as, or root, whom they stand in for. Only a root server can differ
// from it.
func (s *Session) fileOwner() (uid, gid int) {
	if os.Geteuid() != 0 {
		return -1, -1
	}
	uid, gid, err := ownerOf(s.rootFD)
	if err != nil {
		return -1, -1
	}
	return uid, gid
}
