package session

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/directory"
	"mcp-sandbox/gitstage"
	"mcp-sandbox/stage"
)

// What of git directories stays in sessions is kept in the state directory, in one file
// for each workspace and name of a session, so that a person can apply it (see Review)
// while the session runs and after it has ended.

// leftDir is where, in a state directory.
const leftDir = "git-left"

// leftAge is for how long.
const leftAge = 30 * 24 * time.Hour

// leftFile is what one file holds.
type leftFile struct {
	Root    string     `json:"root"`
	Session string     `json:"session,omitempty"`
	Created time.Time  `json:"created"`
	Items   []leftItem `json:"items"`
	// Decided are those that a person has applied or discarded, which a session that runs
	// still has, by decidedBy. They go with the session.
	Decided map[string]time.Time `json:"decided,omitempty"`
}

type leftItem struct {
	gitstage.Left
	By string    `json:"by"` // the session's id
	At time.Time `json:"at"`
}

// decidedBy is one thing of one session.
func decidedBy(session, id string) string { return session + " " + id }

// lefts are the files of a state directory.
type lefts struct{ dir string }

func leftsOf(stateDir string) lefts { return lefts{filepath.Join(stateDir, leftDir)} }

func (l lefts) path(root, name string) string {
	return filepath.Join(l.dir, stage.Key(root, name)+".json")
}

// locked runs f while no other process looks at the files or changes them.
func (l lefts) locked(f func() error) error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(l.dir, ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return err
	}
	return f()
}

// there is locked where there are any: looking makes nothing.
func (l lefts) there(f func() error) error {
	if _, err := os.Lstat(l.dir); err != nil {
		return nil
	}
	return l.locked(f)
}

// read gives one file without what is too old; its Root is "" where it does not exist.
func (l lefts) read(path string, now time.Time) (f leftFile, err error) {
	b, err := directory.ReadPrivate(path, 8*gitstage.MaxLeftBytes)
	if errors.Is(err, os.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	f.Items = slices.DeleteFunc(f.Items, func(i leftItem) bool { return now.Sub(i.At) > leftAge })
	for id, at := range f.Decided {
		if now.Sub(at) > leftAge {
			delete(f.Decided, id)
		}
	}
	return f, err
}

func (l lefts) write(path string, f *leftFile) error {
	if len(f.Items)+len(f.Decided) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return directory.WriteOver(path, b)
}

// keep has the files say what stays in a session, instead of what they said of it.
func (l lefts) keep(root, name, by string, left []gitstage.Left, now time.Time) error {
	return l.locked(func() error {
		path := l.path(root, name)
		f, err := l.read(path, now)
		if err != nil {
			f = leftFile{} // of another version, or cut short
		}
		if f.Root == "" {
			f.Root, f.Session, f.Created = root, name, now.UTC()
		}
		old := map[string]time.Time{}
		for i := range f.Items {
			old[f.Items[i].ID()] = f.Items[i].At
		}
		added := map[string]leftItem{}
		for _, x := range left {
			id := x.ID()
			if _, ok := f.Decided[decidedBy(by, id)]; ok {
				continue
			}
			item := leftItem{Left: x, By: by, At: now.UTC()}
			if at, ok := old[id]; ok {
				item.At = at
			}
			added[x.Path()] = item
		}
		f.Items = slices.DeleteFunc(f.Items, func(i leftItem) bool {
			_, again := added[i.Path()]
			return i.By == by || again
		})
		for _, at := range slices.Sorted(maps.Keys(added)) {
			f.Items = append(f.Items, added[at])
		}
		bound(&f)
		return l.write(path, &f)
	})
}

// ended forgets what was decided of a session that has ended.
func (l lefts) ended(root, name, by string, now time.Time) error {
	path := l.path(root, name)
	if _, err := os.Lstat(path); err != nil {
		return nil
	}
	return l.locked(func() error {
		f, err := l.read(path, now)
		if err != nil || len(f.Decided) == 0 {
			return nil
		}
		maps.DeleteFunc(f.Decided, func(key string, _ time.Time) bool { return strings.HasPrefix(key, decidedBy(by, "")) })
		return l.write(path, &f)
	})
}

// bound drops what is beyond the bounds, the oldest first; of a file that is too large
// the name stays.
func bound(f *leftFile) {
	if n := len(f.Items) - gitstage.MaxLeftAll; n > 0 {
		f.Items = f.Items[n:]
	}
	size := 0
	for i := len(f.Items) - 1; i >= 0; i-- {
		x := &f.Items[i]
		if size += x.Size(); size > gitstage.MaxLeftBytes {
			x.Strip()
		}
	}
}

// list gives the files that have something to look at.
func (l lefts) list(now time.Time) (all []leftFile, err error) {
	err = l.there(func() error {
		names, _ := filepath.Glob(filepath.Join(l.dir, "*.json"))
		for _, name := range names {
			if f, err := l.read(name, now); err == nil && f.Root != "" && len(f.Items) > 0 {
				all = append(all, f)
			}
		}
		return nil
	})
	return all, err
}

// clean removes the files of which everything is too old, or whose workspace is gone.
func (l lefts) clean(now time.Time) (removed, left int, err error) {
	err = l.there(func() error {
		names, _ := filepath.Glob(filepath.Join(l.dir, "*.json"))
		var errs []error
		for _, name := range names {
			f, err := l.read(name, now)
			_, gone := os.Lstat(f.Root)
			switch {
			case err != nil, len(f.Items)+len(f.Decided) == 0, os.IsNotExist(gone):
				removed++
				errs = append(errs, os.Remove(name))
			default:
				if len(f.Items) > 0 {
					left++
				}
				errs = append(errs, l.write(name, &f))
			}
		}
		return errors.Join(errs...)
	})
	return removed, left, err
}

// remove forgets what is kept of one session.
func (l lefts) remove(root, name string) error {
	return l.there(func() error {
		if err := os.Remove(l.path(root, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
}

// shellWord is a word as a shell takes it.
func shellWord(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n'\"\\$`&|;<>()*?[]#~!{}") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// keepGitLeft keeps what stays in the session's stage of git directories, and says
// whether anything can be reviewed.
func (s *Session) keepGitLeft() bool {
	g := s.staged
	left := g.publisher.Left()
	var b strings.Builder
	for i := range left {
		b.WriteString(left[i].ID() + left[i].Unfit)
	}
	if now := b.String(); now != g.kept {
		if err := leftsOf(s.state.dir).keep(s.root, s.config.Name, s.id, left, s.config.now()); err != nil {
			s.log.Warn("what of git stays in the session cannot be reviewed", "error", err)
			return false
		}
		g.kept = now
	}
	return len(left) > 0
}

// reviewCommand is what a person runs to look at it.
func (s *Session) reviewCommand() string {
	cmd := "mcp-sandbox review --root " + shellWord(s.root)
	if s.config.Name != "" {
		cmd += " --session " + shellWord(s.config.Name)
	}
	if s.config.StateDir != "" && s.config.StateDir != DefaultStateDir() {
		cmd += ", with the --state-dir of this server"
	}
	return cmd
}
