package session

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/stage"
)

// SavedSession is a named session that is not running here.
type SavedSession struct {
	Name      string    `json:"name"`
	Principal string    `json:"principal,omitempty"` // where it is known
	Workspace string    `json:"workspace"`
	Owned     bool      `json:"owned"`
	Created   time.Time `json:"created"`
	Saved     time.Time `json:"saved"`
	Snapshot  string    `json:"snapshot_id,omitempty"`
	InUse     bool      `json:"in_use"`
	// StagedFiles and StagedBytes are what waits to be applied to a staged workspace,
	// StagedSince when its stage was made.
	StagedFiles int       `json:"staged_files,omitempty"`
	StagedBytes int64     `json:"staged_bytes,omitempty"`
	StagedSince time.Time `json:"staged_since,omitzero"`
	// Problem says why it cannot be resumed.
	Problem string `json:"problem,omitempty"`
}

// SavedSessions lists the named sessions of a state directory.
func SavedSessions(c Config) ([]SavedSession, error) {
	out := []SavedSession{}
	st, err := stateThere(c)
	if err != nil || st == nil {
		return out, err
	}
	defer st.close()
	for _, name := range st.savedNames("") {
		one := SavedSession{Name: name}
		if d, err := st.load(name); err != nil {
			one.Problem = err.Error()
		} else {
			one.Workspace, one.Owned, one.Created, one.Saved, one.Snapshot = d.Workspace, d.Owned, d.Created, d.Saved, d.Snapshot
			if i, err := stage.Measure(stage.Dir(st.dir, d.Workspace, name)); err == nil && i.Files > 0 {
				one.StagedBytes, one.StagedFiles, one.StagedSince = i.Bytes, i.Files, i.Created
			}
			one.InUse = d.Holder != ""
			if _, err := os.Stat(d.Workspace); err != nil && d.Snapshot == "" && st.lease == nil {
				one.Problem = "its workspace is gone and there is no snapshot of it"
			}
		}
		if st.lease != nil {
			one.InUse = one.InUse && st.holds(name)
		} else if l, err := st.lockName(name); err == nil {
			l.Close()
		} else {
			one.InUse = true
		}
		out = append(out, one)
	}
	return out, nil
}

// DeleteSaved removes a named session that no server uses: its state, its
// snapshots and its workspace if we made that. Codes: session_not_found,
// already_exists (in use), internal.
func DeleteSaved(c Config, name string) error {
	st, err := stateThere(c)
	if err != nil {
		return err
	}
	if st == nil {
		return errorf("session_not_found", nil, "there is no saved session %q; list them with: mcp-sandbox sessions list", name)
	}
	defer st.close()
	c.StateDir = st.dir
	return st.deleteSaved(c, name, true)
}

// HasState says whether a server has had dir as its state directory.
func HasState(dir string) bool {
	for _, name := range []string{"sessions", "saved", "stages"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			return true
		}
	}
	return false
}

// stateThere opens the state directory for what only looks, which makes none: nil is
// none. Servers that share a store have theirs in the store.
func stateThere(c Config) (*state, error) {
	if c.StateDir == "" {
		c.StateDir = DefaultStateDir()
	}
	if c.StateDir == "" {
		return nil, errorf("not_found", nil, "there is no state directory; name one with --state-dir")
	}
	if c.Directory == nil && !HasState(c.StateDir) {
		return nil, nil
	}
	abs, err := filepath.Abs(c.StateDir)
	if err != nil {
		return nil, errorf("invalid_argument", err, "the state directory cannot be made absolute; name it in full")
	}
	st, err := openState(abs, true, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	c.Log = slog.New(slog.DiscardHandler)
	if err := st.share(c); err != nil {
		return nil, err
	}
	if st.lease != nil {
		err = st.lease.begin(func() {})
	}
	return st, err
}

// deleteSaved deletes a named session. Only a person deletes one in whose stage changes
// wait; otherwise it stays.
func (s *state) deleteSaved(c Config, name string, person bool) error {
	if err := checkName(name); err != nil {
		return err
	}
	held, d, err := s.claim(name)
	if code := sandbox.CodeOf(err); code == "invalid_argument" || code == "permission_denied" {
		return s.removeUntrusted(name)
	}
	if err != nil {
		return err
	}
	defer held.close()
	if d == nil {
		held.unused()
		return errorf("session_not_found", nil, "there is no saved session %q; list them with: mcp-sandbox sessions list", name)
	}
	at := stage.Dir(s.dir, d.Workspace, name)
	if !person && c.changesWait(at, d.Workspace) {
		return nil
	}
	if err := stage.Delete(at); err != nil {
		return errorf("internal", err, "the stage of %q could not be removed; check the state directory", name)
	}
	if person || d.Owned { // what stays for a person to review is not the model's to discard
		if err := leftsOf(s.dir).remove(d.Workspace, name); err != nil {
			return errorf("internal", err, "what of git stayed in %q could not be removed; check the state directory", name)
		}
	}
	r := held.record
	held.record = nil
	if s.lease == nil {
		r, err = s.reopen(d.SessionID)
	}
	if r != nil && err == nil {
		// Unmarked first: killed in the middle, the next sweep ends the deletion
		// instead of a resume finding half a workspace.
		err := r.unkeep()
		if err == nil {
			err = errors.Join(s.removeRemains(d.SessionID, r.data), r.removeWorkspace())
		}
		if err == nil && r.data.Owned && s.lease == nil {
			// Last, as they can undo the removal of the workspace until then.
			err = removeSnapshots(c, r.data.Workspace)
		}
		if err != nil {
			_ = r.f.Close()
			return errorf("internal", err, "the workspace of %q could not be removed; check its permissions", name)
		}
		if err := r.remove(); err != nil {
			return errorf("internal", err, "the record of %q could not be removed; check the state directory", name)
		}
	} else if err != nil && !os.IsNotExist(err) {
		return err
	}
	return held.remove(d.SessionID)
}

// removeUntrusted removes a state that this server's key has not signed. It names
// nothing to delete, so it alone goes.
func (s *state) removeUntrusted(name string) error {
	c := &claim{st: s, name: name}
	ctx, cancel := context.WithTimeout(context.Background(), entryTime)
	defer cancel()
	if s.lease == nil {
		var err error
		if c.lock, err = s.lockName(name); err != nil {
			return err
		}
		defer c.close()
		return c.remove("")
	}
	return s.entries.Delete(ctx, savedKey(name))
}
