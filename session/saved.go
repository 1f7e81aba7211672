package session

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"
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
	// Problem says why it cannot be resumed.
	Problem string `json:"problem,omitempty"`
}

// SavedSessions lists the named sessions of a state directory.
func SavedSessions(c Config) ([]SavedSession, error) {
	st, err := stateOf(c)
	if err != nil {
		return nil, err
	}
	defer st.close()
	out := []SavedSession{}
	for _, name := range st.savedNames() {
		one := SavedSession{Name: name}
		if d, err := st.load(name); err != nil {
			one.Problem = err.Error()
		} else {
			one.Workspace, one.Owned, one.Created, one.Saved, one.Snapshot = d.Workspace, d.Owned, d.Created, d.Saved, d.Snapshot
			if _, err := os.Stat(d.Workspace); err != nil && d.Snapshot == "" {
				one.Problem = "its workspace is gone and there is no snapshot of it"
			}
		}
		if l, err := st.lockName(name); err == nil {
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
	st, err := stateOf(c)
	if err != nil {
		return err
	}
	defer st.close()
	c.StateDir = st.dir
	return st.deleteSaved(c, name)
}

func stateOf(c Config) (*state, error) {
	if c.StateDir == "" {
		c.StateDir = DefaultStateDir()
	}
	abs, err := filepath.Abs(c.StateDir)
	if err != nil {
		return nil, errorf("invalid_argument", err, "the state directory cannot be made absolute, name it in full")
	}
	return openState(abs, true, slog.New(slog.DiscardHandler))
}

func (s *state) deleteSaved(c Config, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	lock, err := s.lockName(name)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Nothing of the name is left afterwards; the lock file is removed while held.
	defer func() {
		if _, gone := os.Lstat(s.savedPath(name)); os.IsNotExist(gone) {
			_ = os.Remove(s.lockPath(name))
		}
	}()
	d, err := s.load(name)
	if os.IsNotExist(err) {
		return errorf("session_not_found", nil, "there is no saved session %q, list them with: mcp-sandbox sessions list", name)
	}
	if err != nil {
		// An untrusted state names nothing to delete: it alone is removed.
		return s.removeSaved(name)
	}
	r, err := s.reopen(d.SessionID)
	if err == nil {
		// Unmarked first: killed in the middle, the next sweep ends the deletion
		// instead of a resume finding half a workspace.
		err := r.unkeep()
		if err == nil {
			err = errors.Join(s.removeRemains(d.SessionID, r.data), r.removeWorkspace())
		}
		if err == nil && r.data.Owned {
			// Last, as they can undo the removal of the workspace until then.
			err = removeSnapshots(c, r.data.Workspace)
		}
		if err != nil {
			_ = r.f.Close()
			return errorf("internal", err, "the workspace of %q could not be removed, check its permissions", name)
		}
		if err := r.remove(); err != nil {
			return errorf("internal", err, "the record of %q could not be removed, check the state directory", name)
		}
	} else if !os.IsNotExist(err) {
		return err
	}
	return s.removeSaved(name)
}
