package session

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/directory"
	"mcp-sandbox/workspace"
)

// state is the server's own directory, 0700: one record per live session, so that
// a later start can remove what a killed server could not, and nothing else.
type state struct {
	dir  string
	temp bool
	// entries have the named sessions: those of dir, or of a directory that servers
	// share by lease.
	entries directory.Directory
	lease   *lease   // nil in a state directory
	given   []byte   // the key, where it is not that of dir
	server  *os.File // locked, with a lease
	// empty removes all snapshots of a session, with a lease, until leave is called.
	empty func(id string) error
	leave context.CancelFunc
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

// openState makes the state directory, or a private temporary one where the
// default place is unavailable; a directory the user named must work.
func openState(dir string, named bool, log *slog.Logger) (*state, error) {
	if dir != "" {
		if err := os.MkdirAll(filepath.Join(dir, "sessions"), 0o700); err == nil {
			// An existing directory with wider rights would let another user plant
			// records that name directories to delete.
			if err := checkPrivate(dir); err != nil {
				return nil, err
			}
			return &state{dir: dir, entries: directory.NewLocal(dir)}, nil
		} else if named {
			return nil, errorf("permission_denied", err, "the state directory cannot be made; name a writable one with --state-dir")
		}
	}
	tmp, err := os.MkdirTemp("", "mcp-sandbox-state-")
	if err != nil {
		return nil, errorf("internal", err, "no state directory could be made; name a writable one with --state-dir")
	}
	if err := os.Mkdir(filepath.Join(tmp, "sessions"), 0o700); err != nil {
		return nil, errors.Join(err, os.RemoveAll(tmp))
	}
	log.Info("state is kept in a temporary directory: the default one is unavailable")
	return &state{dir: tmp, temp: true, entries: directory.NewLocal(tmp)}, nil
}

func checkPrivate(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return errorf("not_a_directory", nil, "the state directory is not a directory; name another with --state-dir")
	}
	if fi.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return errorf("permission_denied", err, "the state directory is open to other users and cannot be closed; name another with --state-dir")
		}
	}
	return nil
}

func (s *state) dirs() []string { return []string{s.dir} }

func (s *state) close() error {
	s.stopEmptying()
	err := s.lease.close()
	if s.server != nil {
		err = errors.Join(err, s.server.Close())
	}
	if s.temp {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// stopEmptying leaves what is still to be removed to another server, or a later one.
func (s *state) stopEmptying() {
	if s.leave != nil {
		s.leave()
	}
}

// scratch is a private directory of the session next to its record: spooled output
// lives there, never in the workspace.
func (s *state) scratch(id string) (string, error) {
	p := filepath.Join(s.dir, "sessions", id+".d")
	return p, os.Mkdir(p, 0o700)
}

// recordData is what decides about deletion. It is a file of the server's own
// directory and nothing else is: what a state says of ownership is for people.
type recordData struct {
	Version   int    `json:"version"`
	Workspace string `json:"workspace"`
	// Dev and Ino are 0 until the workspace has been made.
	Dev   uint64 `json:"dev"`
	Ino   uint64 `json:"ino"`
	Owned bool   `json:"owned"`
	// Kept is set once a named session can be resumed: it outlives its server.
	Kept bool `json:"kept,omitempty"`
	// Temp is a directory that the sandbox may have made next to the workspace. Its
	// name holds the session's random id, so no inode has to be compared.
	Temp string `json:"temp,omitempty"`
	// Claims are those under which the workspace became what it is, see claim.
	Claims []string `json:"claims,omitempty"`
}

// record marks a session. The lock on it, not a pid, says that its server
// lives: a pid can be reused, a lock of a dead process cannot be held.
type record struct {
	f    *os.File
	path string
	data recordData
}

func (s *state) recordPath(id string) string {
	return filepath.Join(s.dir, "sessions", id+".json")
}

// add records a session before anything of it is made, so that nothing is left
// unknown by a kill at any moment.
func (s *state) add(id string, d recordData) (*record, error) {
	r := &record{path: s.recordPath(id)}
	if err := r.update(d); err != nil {
		return nil, err
	}
	return r, nil
}

// update replaces the record as a whole. The new file is locked before it has
// the name, so that no sweep sees it unlocked.
func (r *record) update(d recordData) error {
	d.Version = 1
	tmp := r.path + ".new"
	f, err := createLocked(tmp)
	if err != nil {
		return err
	}
	if err = json.NewEncoder(f).Encode(d); err == nil {
		err = os.Rename(tmp, r.path)
	}
	if err != nil {
		return errors.Join(err, f.Close(), ignoreMissing(os.Remove(tmp)))
	}
	if r.f != nil {
		_ = r.f.Close()
	}
	r.f, r.data = f, d
	return nil
}

// isStill says whether path names the open file f.
func isStill(f *os.File, path string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(open, named)
}

// createLocked makes a file and locks it. Between the two another server's sweep
// may take the file for one that a killed server left: then the name is gone
// once the lock is held, and the file is made again.
func createLocked(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err == nil && isStill(f, path) {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// unkeep gives the session back to the sweep.
func (r *record) unkeep() error {
	if !r.data.Kept {
		return nil
	}
	d := r.data
	d.Kept = false
	return r.update(d)
}

// identify notes which directory the workspace is.
func (r *record) identify(root *os.File) error {
	fi, err := root.Stat()
	if err != nil {
		return err
	}
	d := r.data
	d.Dev, d.Ino = identity(fi)
	return r.update(d)
}

// reopen takes over the record of a session whose server has ended. A sweep may
// hold it for a moment. os.ErrNotExist when there is none.
func (s *state) reopen(id string) (*record, error) {
	path := s.recordPath(id)
	for range 200 {
		r, err := lockRecord(path)
		if r != nil || err != nil {
			return r, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errorf("already_exists", nil, "the session is in use by another server; end that one first")
}

// lockRecord gives nothing at all when the record is held.
func lockRecord(path string) (*record, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil, nil // its server lives
	}
	// Another may have removed or replaced it between open and lock.
	fi, err := f.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = os.Lstat(path); err == nil && !os.SameFile(fi, now) {
			err = os.ErrNotExist
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	r := &record{f: f, path: path}
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&r.data); err != nil {
		r.data = recordData{}
	}
	return r, nil
}

// removeWorkspace removes a directory that we made: that, and no other found under
// its name.
func (r *record) removeWorkspace() error {
	d := r.data
	if !d.Owned || !filepath.IsAbs(d.Workspace) {
		return nil
	}
	if d.Ino == 0 {
		// Killed before it could be used: remove it only if it is empty.
		if err := os.Remove(d.Workspace); err != nil && !os.IsNotExist(err) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		return nil
	}
	return removeIdentified(d.Workspace, d.Dev, d.Ino)
}

// removeRemains removes what a killed server left of a session next to its
// workspace and record: the launcher's directory, clones, the side directory of a
// manifest and the scratch directory.
func (s *state) removeRemains(id string, d recordData) error {
	var errs []error
	if filepath.IsAbs(d.Temp) && filepath.Base(d.Temp) == "mcp-sandbox-"+id {
		openDirs(d.Temp)
		errs = append(errs, os.RemoveAll(d.Temp), sweepClones(d.Temp))
	}
	scratch := filepath.Join(s.dir, "sessions", id+".d")
	errs = append(errs, s.recoverGit(d, id))
	sweepWorkspace(d)
	openDirs(scratch)
	errs = append(errs, removeSide(d, sideName(id)), os.RemoveAll(scratch))
	return errors.Join(errs...)
}

// sweepTime bounds the search for temporary files of a killed server; what it does
// not find does no harm.
const sweepTime = 5 * time.Second

// sweepWorkspace removes the temporary files of writes that a kill cut short from
// a workspace that stays.
func sweepWorkspace(d recordData) {
	if d.Ino == 0 || !filepath.IsAbs(d.Workspace) {
		return
	}
	root, err := openRoot(d.Workspace)
	if err != nil {
		return
	}
	defer root.Close()
	fi, err := root.Stat()
	if err != nil {
		return
	}
	if dev, ino := identity(fi); dev != d.Dev || ino != d.Ino {
		return
	}
	uid, gid := -1, -1
	if os.Geteuid() == 0 {
		if uid, gid, err = ownerOf(root); err != nil {
			return
		}
	}
	files, err := workspace.Open(d.Workspace, workspace.Options{OwnerUID: uid, OwnerGID: gid, ActAsOwner: uid > 0})
	if err != nil {
		return
	}
	defer files.Close()
	ctx, cancel := context.WithTimeout(context.Background(), sweepTime)
	defer cancel()
	_, _ = files.Sweep(ctx)
}

// removeSide removes an unfinished manifest from a workspace that stays.
func removeSide(d recordData, side string) error {
	if d.Ino == 0 || !filepath.IsAbs(d.Workspace) {
		return nil
	}
	root, err := os.OpenRoot(d.Workspace)
	if err != nil {
		return nil // gone, and with it what was in it
	}
	defer root.Close()
	if fi, err := root.Stat("."); err != nil {
		return err
	} else if dev, ino := identity(fi); dev != d.Dev || ino != d.Ino {
		return nil
	}
	return removeIn(root, side)
}

// sideName is the directory of a session in its workspace where a manifest is
// staged. The random id in it lets a later server know it as its own.
func sideName(id string) string { return ".mcp-sandbox-" + id + ".new" }

// removeIn removes a directory of root. A manifest's entry may have permissions
// that keep even its owner out, so those are given back first.
func removeIn(root *os.Root, dir string) error {
	if r, err := root.OpenRoot(dir); err == nil {
		chmodDirs(r)
		r.Close()
	}
	return root.RemoveAll(dir)
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
// device and inode still match), their scratch directory and their record. Of a
// named session the workspace and the record stay.
func (s *state) sweep(log *slog.Logger) {
	names, err := filepath.Glob(filepath.Join(s.dir, "sessions", "*.json"))
	if err != nil {
		return
	}
	for _, name := range names {
		if err := s.sweepOne(name); err != nil {
			log.Warn("a session of an earlier server could not be cleaned up", "error", err)
		}
	}
	fresh, _ := filepath.Glob(filepath.Join(s.dir, "sessions", "*.json.new"))
	for _, name := range fresh {
		if f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0); err == nil {
			// The file that was opened may have become the record meanwhile, and the
			// name be that of the next one.
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && isStill(f, name) {
				_ = os.Remove(name)
			}
			f.Close()
		}
	}
}

func (s *state) sweepOne(name string) error {
	r, err := lockRecord(name)
	if err != nil {
		return ignoreMissing(err)
	}
	if r == nil {
		return nil
	}
	defer r.f.Close()
	errs := []error{s.removeRemains(strings.TrimSuffix(filepath.Base(name), ".json"), r.data)}
	if r.data.Kept {
		return errors.Join(errs...)
	}
	errs = append(errs, r.removeWorkspace(), ignoreMissing(os.Remove(name)))
	return errors.Join(errs...)
}
