package session

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// state is the server's own folder, 0700: one record per live session, so that
// a later start can remove what a killed server could not, and nothing else.
type state struct {
	dir  string
	temp bool
}

// DefaultStateDir is $XDG_STATE_HOME/mcp-sandbox or ~/.local/state/mcp-sandbox
// (XDG Base Directory Specification 0.8), "" when there is no home.
func DefaultStateDir() string {
	if x := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(x) {
		return filepath.Join(x, "mcp-sandbox")
	}
	if h, err := os.UserHomeDir(); err == nil && filepath.IsAbs(h) {
		return filepath.Join(h, ".local", "state", "mcp-sandbox")
	}
	return ""
}

// openState makes the state folder, or a private temporary one where the
// default place cannot be had; a folder the user named must work.
func openState(dir string, named bool, log *slog.Logger) (*state, error) {
	if dir != "" {
		if err := os.MkdirAll(filepath.Join(dir, "sessions"), 0o700); err == nil {
			// An existing folder with wider rights would let another user plant
			// records that name folders to delete.
			if err := checkPrivate(dir); err != nil {
				return nil, err
			}
			return &state{dir: dir}, nil
		} else if named {
			return nil, errorf("permission_denied", err, "the state folder cannot be made, name a writable one with --state-dir")
		}
	}
	tmp, err := os.MkdirTemp("", "mcp-sandbox-state-")
	if err != nil {
		return nil, errorf("internal", err, "no state folder could be made, name a writable one with --state-dir")
	}
	if err := os.Mkdir(filepath.Join(tmp, "sessions"), 0o700); err != nil {
		return nil, errors.Join(err, os.RemoveAll(tmp))
	}
	log.Info("state is kept in a temporary folder: the default one cannot be had")
	return &state{dir: tmp, temp: true}, nil
}

func checkPrivate(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return errorf("not_a_directory", nil, "the state folder is not a folder, name another with --state-dir")
	}
	if fi.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return errorf("permission_denied", err, "the state folder is open to other users and cannot be closed, name another with --state-dir")
		}
	}
	return nil
}

func (s *state) dirs() []string { return []string{s.dir} }

func (s *state) close() error {
	if s.temp {
		return os.RemoveAll(s.dir)
	}
	return nil
}

// scratch is a private folder of the session beside its record: spooled output
// lives there, never in the workspace.
func (s *state) scratch(id string) (string, error) {
	p := filepath.Join(s.dir, "sessions", id+".d")
	return p, os.Mkdir(p, 0o700)
}

type recordData struct {
	Version   int    `json:"version"`
	Workspace string `json:"workspace"`
	Dev       uint64 `json:"dev"`
	Ino       uint64 `json:"ino"`
	Owned     bool   `json:"owned"`
	// Temp is a folder that the sandbox may have made beside the workspace. Its
	// name holds the session's random id, so it is ours without an inode to
	// compare.
	Temp string `json:"temp,omitempty"`
}

// record marks a live session. The lock on it, not a pid, says that its server
// lives: a pid can be reused, a lock of a dead process cannot be held.
type record struct {
	f    *os.File
	path string
}

func (s *state) add(id string, root *os.File, path string, owned bool, temp string) (*record, error) {
	fi, err := root.Stat()
	if err != nil {
		return nil, err
	}
	dev, ino := identity(fi)
	final := filepath.Join(s.dir, "sessions", id+".json")
	f, err := os.OpenFile(final+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	// Locked before it has its final name, so that no sweep sees it unlocked.
	err = errors.Join(
		unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB),
		json.NewEncoder(f).Encode(recordData{Version: 1, Workspace: path, Dev: dev, Ino: ino, Owned: owned, Temp: temp}),
		os.Rename(final+".new", final),
	)
	if err != nil {
		return nil, errors.Join(err, f.Close(), ignoreMissing(os.Remove(final+".new")))
	}
	return &record{f: f, path: final}, nil
}

func (r *record) remove() error {
	return errors.Join(ignoreMissing(os.Remove(r.path)), r.f.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// sweep removes what sessions of dead servers left: their owned workspace (when
// device and inode still match), their scratch folder and their record.
func (s *state) sweep(log *slog.Logger) {
	names, err := filepath.Glob(filepath.Join(s.dir, "sessions", "*.json"))
	if err != nil {
		return
	}
	for _, name := range names {
		if err := sweepOne(name); err != nil {
			log.Warn("a session of an earlier server could not be cleaned up", "error", err)
		}
	}
	fresh, _ := filepath.Glob(filepath.Join(s.dir, "sessions", "*.json.new"))
	for _, name := range fresh {
		if f, err := os.OpenFile(name, os.O_RDWR, 0); err == nil {
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				_ = os.Remove(name)
			}
			f.Close()
		}
	}
}

func sweepOne(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return ignoreMissing(err)
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // its server lives
	}
	// Another sweep may have removed it between open and lock.
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(name); err != nil || !os.SameFile(fi, now) {
		return nil
	}
	var d recordData
	var errs []error
	if err := json.NewDecoder(f).Decode(&d); err != nil {
		errs = append(errs, err)
	} else if d.Owned && filepath.IsAbs(d.Workspace) {
		errs = append(errs, removeIdentified(d.Workspace, d.Dev, d.Ino))
	}
	if id := strings.TrimSuffix(filepath.Base(name), ".json"); filepath.IsAbs(d.Temp) && filepath.Base(d.Temp) == "mcp-sandbox-"+id {
		openFolders(d.Temp)
		errs = append(errs, os.RemoveAll(d.Temp))
	}
	errs = append(errs,
		os.RemoveAll(strings.TrimSuffix(name, ".json")+".d"),
		ignoreMissing(os.Remove(name)))
	return errors.Join(errs...)
}
