// Package session holds what one client owns: a workspace folder, a running
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
	"time"

	"mcp-sandbox/ptyproc"
	"mcp-sandbox/workspace"
)

// Session is one client's workspace, sandbox and processes. All methods are
// safe for concurrent use. After Close every method answers session_not_found.
type Session struct {
	id      string
	config  Config
	root    string
	owned   bool
	created time.Time
	rootFD  *os.File
	record  *record
	scratch string

	sandbox Sandbox
	files   *workspace.FS
	table   *ptyproc.Table
	snaps   snapshots
	log     *slog.Logger

	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error
}

// ID is the session's name in logs and state: 128 random bits in hex.
func (s *Session) ID() string { return s.id }

// Root is the absolute path of the workspace, the same inside and outside.
func (s *Session) Root() string { return s.root }

// Owned reports whether the workspace was made by us and goes with the session.
func (s *Session) Owned() bool { return s.owned }

// Created is when the session was made.
func (s *Session) Created() time.Time { return s.created }

// Files is the workspace's file API.
func (s *Session) Files() *workspace.FS { return s.files }

// Sandbox is the confinement the session's commands run in.
func (s *Session) Sandbox() Sandbox { return s.sandbox }

// Limits are the resource limits the session was configured with.
func (s *Session) Limits() Limits { return s.config.Limits }

// Network is the configured network mode.
func (s *Session) Network() string { return s.config.Network }

// start builds a session from its parts in an order that can be undone from any
// point: what is made last is torn down first, and a failure leaves nothing.
func start(ctx context.Context, id string, c Config, l Launcher, st *state, log *slog.Logger) (_ *Session, err error) {
	s := &Session{id: id, config: c, created: c.now(), closed: make(chan struct{}), log: log.With("session", id)}
	defer func() {
		if err != nil {
			_ = s.teardown()
		}
	}()

	uid, gid := -1, -1
	if c.Root == "" {
		s.root, uid, gid, err = makeOwnedRoot(c.TempDir)
		if err != nil {
			return nil, errorf("internal", err, "the temporary workspace could not be made, check that the temporary folder exists and has room")
		}
		s.owned = true
	} else {
		s.root, err = CheckRoot(c.Root, c.StateDir)
		if err != nil {
			return nil, err
		}
	}
	// The descriptor is taken before anything runs inside, so that a later rename
	// or swap of the path cannot move the session to another folder (AC-10).
	if s.rootFD, err = openRoot(s.root); err != nil {
		return nil, errorf("not_found", err, "the workspace could not be opened, check that it is a folder this server may use")
	}
	temp, err := filepath.Abs(filepath.Join(cmp.Or(c.TempDir, os.TempDir()), "mcp-sandbox-"+id))
	if err != nil {
		return nil, errorf("internal", err, "the temporary folder has no absolute path, set TMPDIR to one")
	}
	if s.record, err = st.add(id, s.rootFD, s.root, s.owned, temp); err != nil {
		return nil, errorf("internal", err, "the session could not be recorded in the state folder, check --state-dir")
	}
	if s.scratch, err = st.scratch(id); err != nil {
		return nil, errorf("internal", err, "the session's scratch folder could not be made, check --state-dir")
	}

	home := ""
	if s.homeInWorkspace() {
		home = s.root
	}
	protect := c.Protect
	if !s.owned {
		protect = append(DefaultProtected(), protect...)
	}
	s.sandbox, err = l.Start(ctx, Confinement{
		Workspace: s.root, WorkspaceFile: s.rootFD, UID: uid, GID: gid, Home: home,
		Path: c.Path, Read: c.Read, Write: c.Write, DenyRead: c.DenyRead, Protect: protect,
		StateDirs: st.dirs(), TempDir: temp, Network: c.Network, Limits: c.Limits,
		Level: c.Level, MinLevel: c.MinLevel, Log: s.log,
	})
	if err != nil {
		return nil, err
	}

	ownerUID, ownerGID := s.fileOwner()
	grants := make([]workspace.Grant, 0, len(c.Read)+len(c.Write))
	for _, p := range c.Write {
		grants = append(grants, workspace.Grant{Path: p})
	}
	for _, p := range c.Read {
		grants = append(grants, workspace.Grant{Path: p, ReadOnly: true})
	}
	s.files, err = workspace.Open(s.root, workspace.Options{
		Grants: grants, OwnerUID: ownerUID, OwnerGID: ownerGID, Protect: slices.Concat(protect, nestedProtected()), ReadOnly: c.ReadOnly,
	})
	if err != nil {
		return nil, err
	}
	s.table = ptyproc.NewTable(s.sandbox, ptyproc.Options{
		SpoolDir: s.scratch, MaxYield: c.MaxYield, OnCancel: c.OnCancel, Log: s.log,
	})
	s.log.Info("session started", "level", s.sandbox.Report().Level, "owned", s.owned)
	for _, w := range s.sandbox.Report().Warnings {
		s.log.Warn("confinement", "warning", w)
	}
	return s, nil
}

func (s *Session) homeInWorkspace() bool {
	switch s.config.Home {
	case "workspace":
		return true
	case "private":
		return false
	}
	return s.owned
}

// fileOwner is whom files made by the file tools belong to: the identity the
// commands run as. Only a root server can differ from it.
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

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.closed }

// Alive reports whether the session is open and its sandbox still runs.
func (s *Session) Alive() bool {
	select {
	case <-s.closed:
		return false
	case <-s.sandbox.Done():
		return false
	default:
		return true
	}
}

// Close kills every process, ends the sandbox and removes an owned workspace.
// It is idempotent and returns the first failure after trying every step.
func (s *Session) Close() error {
	s.closeOnce.Do(func() {
		close(s.closed)
		s.closeErr = s.teardown()
		s.log.Info("session ended", "error", s.closeErr)
	})
	return s.closeErr
}

func (s *Session) teardown() error {
	var errs []error
	// The sandbox first: its end is the end of every process at once, so that the
	// table has nothing left to wait for.
	if s.sandbox != nil {
		errs = append(errs, s.sandbox.Close())
	}
	if s.table != nil {
		s.table.Close()
	}
	if s.files != nil {
		errs = append(errs, s.files.Close())
	}
	errs = append(errs, s.closeSnapshots())
	// Only after every process is dead: nothing may write below a tree being removed.
	if s.owned && s.root != "" {
		errs = append(errs, removeOwned(s.root, s.rootFD))
	}
	if s.scratch != "" {
		errs = append(errs, os.RemoveAll(s.scratch))
	}
	if s.rootFD != nil {
		errs = append(errs, s.rootFD.Close())
	}
	if s.record != nil {
		errs = append(errs, s.record.remove())
	}
	return errors.Join(errs...)
}

// Rel shortens an absolute path below the workspace for messages.
func (s *Session) Rel(path string) string {
	if rel, err := filepath.Rel(s.root, path); err == nil {
		return rel
	}
	return path
}
