package session

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"mcp-sandbox/directory"
	"mcp-sandbox/stage"
)

// stateParts are what servers make in a state directory, with what it is for people.
// Records come first: without them what is left is nobody's. The key and the instance
// go last: they show whose directory it is.
var stateParts = []struct{ name, about string }{
	{"sessions", "records of sessions and their output"},
	{"saved", "kept sessions (--session)"},
	{"snapshots", "snapshots, by which changes are undone"},
	{"stages", "changes of staged workspaces (--staged), also those that wait to be applied"},
	{leftDir, "settings and hooks of git that stayed in sessions, for mcp-sandbox review"},
	{"caches", "caches of package managers and compilers"},
	{"put-back", "files of git that were put back"},
	{"restore", "what restores of killed servers left"},
	{"server.lock", "which server has the directory"},
	{".directory.lock", "the lock of the names of sessions"},
	{"ephemeral", "what of a network server's sessions can be resumed"},
	{"http-token", "the token that a network server made"},
	{"key", "the key that signs kept sessions"},
	{"instance", "what tells this directory from every other"},
}

// Leftover is one part of a state directory. Bytes are those of its files.
type Leftover struct {
	Name, About string
	Bytes       int64
}

// Leftovers are what servers have left in the configuration's state directory, which
// is dir, and how many sessions and servers live. Codes: not_found, invalid_argument
// for a directory in which no server has left a key or a record.
func Leftovers(c Config) (dir string, parts []Leftover, running int, err error) {
	if dir = cmp.Or(c.StateDir, DefaultStateDir()); dir == "" {
		return "", nil, 0, errorf("not_found", nil, "there is no state directory; name one with --state-dir")
	}
	for _, p := range stateParts {
		at := filepath.Join(dir, p.name)
		if _, err := os.Lstat(at); err != nil {
			continue
		}
		l := Leftover{Name: p.name, About: p.about}
		_ = filepath.WalkDir(at, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if fi, err := d.Info(); err == nil {
					l.Bytes += fi.Size()
				}
			}
			return nil
		})
		parts = append(parts, l)
	}
	for _, name := range socketsIn(dir) {
		parts = append([]Leftover{{Name: filepath.Base(name), About: "where a network server took commands"}}, parts...)
	}
	if !madeByServer(dir, parts) {
		return "", nil, 0, errorf("invalid_argument", nil, "no server left a key or a record in this directory, so what is in it is somebody else's; name a state directory with --state-dir")
	}
	return dir, parts, alive(dir), nil
}

// madeByServer tells a state directory from one that only has the same names in it.
func madeByServer(dir string, parts []Leftover) bool {
	for _, name := range []string{"key", "instance"} {
		if fi, err := os.Lstat(filepath.Join(dir, name)); err == nil && fi.Mode().IsRegular() && fi.Size() == 32 {
			return true
		}
	}
	if records, _ := filepath.Glob(filepath.Join(dir, "sessions", "*.json")); slices.ContainsFunc(records, isRecord) {
		return true
	}
	// A server that made neither has left only empty directories, its locks and sockets.
	return !slices.ContainsFunc(parts, func(p Leftover) bool {
		return filepath.WalkDir(filepath.Join(dir, p.Name), func(_ string, d fs.DirEntry, err error) error {
			lock := p.Name == "server.lock" || p.Name == ".directory.lock"
			if err == nil && !d.IsDir() && !lock && d.Type() != fs.ModeSocket {
				return fs.ErrExist
			}
			return err
		}) != nil
	})
}

// isRecord says whether a file is the record of a session.
func isRecord(name string) bool {
	b, err := directory.ReadPrivate(name, 1<<20)
	var d recordData
	return err == nil && json.Unmarshal(b, &d) == nil && d.Version == 1 && d.Workspace != ""
}

// alive counts the sessions and servers that live in a state directory.
func alive(dir string) (n int) {
	records, _ := filepath.Glob(filepath.Join(dir, "sessions", "*.json"))
	for _, name := range append(records, filepath.Join(dir, "server.lock")) {
		if held(name) {
			n++
		}
	}
	for _, name := range socketsIn(dir) {
		if c, err := net.Dial("unix", name); err == nil {
			c.Close()
			n++
		}
	}
	return n
}

// socketsIn are the sockets of network servers.
func socketsIn(dir string) []string {
	names, _ := filepath.Glob(filepath.Join(dir, "*.sock"))
	return slices.DeleteFunc(names, func(name string) bool {
		fi, err := os.Lstat(name)
		return err != nil || fi.Mode().Type() != fs.ModeSocket
	})
}

// held says whether a living server has locked a file.
func held(name string) bool {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

// RemoveState removes what Leftovers lists, and the directory when nothing else is in
// it. Codes: those of Leftovers, already_exists while a server has a session or a stage
// is open, internal.
func RemoveState(c Config) error {
	dir, parts, _, err := Leftovers(c)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range parts {
		// A server may have started since the last part.
		if n := alive(dir); n > 0 {
			return errorf("already_exists", nil, "servers and sessions (%d) are alive there; end them first", n)
		}
		if p.Name == "stages" {
			if err := removeStages(dir); err != nil {
				return err
			}
		}
		errs = append(errs, removeCacheTree(filepath.Join(dir, p.Name)))
	}
	if err := errors.Join(errs...); err != nil {
		return errorf("internal", err, "the state directory could not be removed as a whole; check its rights")
	}
	_ = os.Remove(dir) // unless it holds something else
	return nil
}

// removeStages removes each stage under its lock. One that is open ends it.
func removeStages(dir string) error {
	all, err := stage.List(dir)
	if err != nil {
		return errorf("internal", err, "the stages cannot be read; check the rights of the state directory")
	}
	for _, i := range all {
		// What else fails is left to the removal of the whole.
		if err := stage.Delete(i.Dir); errors.Is(err, stage.ErrInUse) {
			return errorf("already_exists", nil, "a session or a review has a stage open; end it first")
		}
	}
	return nil
}
