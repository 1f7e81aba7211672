package stage

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// Stage is an open stage. Its methods are safe for concurrent use.
type Stage struct {
	info  Info
	dir   string
	lock  *os.File // nil while a session of another process uses the stage
	root  *os.File // the project
	upper *os.File
	uid   int // owner of what is new in the project, for a root server; -1
	gid   int

	mu      sync.Mutex
	ended   bool
	index   *index
	scanned chan struct{}       // closed when the index is whole; nil when it is not being made
	folded  map[string][]Change // by the git directory whose change stands for them
	gits    map[string]bool     // git directories that the last comparison met
	// Git publishes git directories; with nil all of them is protected.
	Git Git
	// Protects says which paths of the project programs outside go by; nil is none.
	Protects func(path string) bool
	// Merged, if set, is the workspace as a running session of this process sees it.
	Merged *os.File
	// As runs f with the rights over files of the session's user; nil is as it is.
	As func(f func() error) error
}

// stagesDir is where all stages of a state directory are.
func stagesDir(stateDir string) string { return filepath.Join(stateDir, "stages") }

// Dir is the directory of the stage of a project and session; "" is the session
// without a name.
func Dir(stateDir, root, session string) string {
	return filepath.Join(stagesDir(stateDir), Key(root, session))
}

// Layers is the directory of the upper layer, as sandbox.Policy.Stage wants it.
func (s *Stage) Layers() string { return filepath.Join(s.dir, "layers") }

// Info says what the stage is of.
func (s *Stage) Info() Info { return s.info }

// Take opens the stage of a project for a session, and makes it if need be. It fails
// with ErrInUse while another session has it.
func Take(stateDir, root, session string, now time.Time) (*Stage, error) {
	sweep(stateDir)
	dir := Dir(stateDir, root, session)
	if err := os.MkdirAll(filepath.Join(dir, "layers"), 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Stage{dir: dir, lock: lock}
	info, err := readInfo(dir)
	if errors.Is(err, os.ErrNotExist) {
		info = Info{Root: root, Session: session, Created: now.UTC()}
		err = writeInfo(dir, info)
	}
	if s.info = info; err == nil {
		err = s.open()
	}
	if err == nil {
		err = s.makeLayers()
	}
	if err == nil {
		err = s.openUpper()
	}
	if err == nil {
		err = s.recover()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Open opens an existing stage for a review, os.ErrNotExist without one. While a
// session uses it, Held is false: then nothing can be discarded here.
func Open(dir string) (*Stage, error) {
	info, err := readInfo(dir)
	if err != nil {
		return nil, err
	}
	s := &Stage{dir: dir, info: info}
	s.lock, err = lockDir(dir)
	if errors.Is(err, ErrInUse) {
		err = nil
	}
	if err == nil {
		err = s.open()
	}
	if err == nil {
		err = s.openUpper()
	}
	if err == nil && s.lock != nil {
		err = s.recover()
	}
	if err == nil {
		err = s.loadIndex()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// AddProtect keeps which paths a session protects, for the reviews of its changes. Those
// of the sessions before it stay, as their changes may wait, too.
func (s *Stage) AddProtect(paths []string) error {
	info := s.info
	info.Protect = slices.Clone(info.Protect)
	for _, p := range paths {
		if !slices.Contains(info.Protect, p) {
			info.Protect = append(info.Protect, p)
		}
	}
	if len(info.Protect) == len(s.info.Protect) {
		return nil
	}
	if err := writeInfo(s.dir, info); err != nil {
		return err
	}
	s.info = info
	return nil
}

// Held says whether no session uses the stage.
func (s *Stage) Held() bool { return s.lock != nil }

func (s *Stage) open() (err error) {
	s.uid, s.gid = -1, -1
	fd, err := unix.Open(s.info.Root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: s.info.Root, Err: err}
	}
	s.root = os.NewFile(uintptr(fd), s.info.Root)
	if os.Geteuid() == 0 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		s.uid, s.gid = int(st.Uid), int(st.Gid)
	}
	return nil
}

func (s *Stage) openUpper() error {
	fd, err := unix.Open(filepath.Join(s.Layers(), "upper"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s.upper = os.NewFile(uintptr(fd), "upper")
	return nil
}

// makeLayers makes the two directories of the overlay. The merged directory has the
// attributes of the upper one, so that starts with those of the project.
func (s *Stage) makeLayers() error {
	work := filepath.Join(s.Layers(), "work")
	if err := os.Mkdir(work, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	upper := filepath.Join(s.Layers(), "upper")
	if err := os.Mkdir(upper, 0o700); err != nil {
		if os.IsExist(err) {
			return nil
		}
		return err
	}
	f, err := os.Open(upper)
	if err != nil {
		return err
	}
	defer f.Close()
	return new(treecopy.Copier).Attributes(int(s.root.Fd()), int(f.Fd()))
}

// End waits for the operation that uses the stage, and then gives its lock to others: what
// is asked of the stage afterwards fails with ErrEnded.
func (s *Stage) End() error {
	s.ready()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	s.ended = true
	if s.lock == nil {
		return nil
	}
	// The kernel's, with mode 0, which is in the way of who removes the directory.
	_ = os.Chmod(filepath.Join(s.Layers(), "work", "work"), 0o700)
	return s.lock.Close()
}

// Close is End, and closes the descriptors. Calls under way must have returned.
func (s *Stage) Close() error {
	errs := []error{s.End()}
	if s.Git != nil {
		s.Git.Close()
	}
	for _, f := range []*os.File{s.root, s.upper, s.Merged} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// use waits for the index of Scan and for the operation before. The caller calls leave.
func (s *Stage) use() (leave func(), err error) {
	s.ready()
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil, ErrEnded
	}
	return s.mu.Unlock, nil
}

// lockDir takes the lock of a stage. Who removes a stage does so under its lock, so
// the lock counts only if the file still has its name.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, ErrInUse
	}
	return f, nil
}

const maxInfo = 1 << 20

func readInfo(dir string) (Info, error) {
	var i Info
	f, err := os.Open(filepath.Join(dir, "stage.json"))
	if err != nil {
		return i, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxInfo))
	if err == nil {
		err = json.Unmarshal(b, &i)
	}
	i.Dir = dir
	return i, err
}

func writeInfo(dir string, i Info) error {
	b, err := json.Marshal(i)
	if err != nil {
		return err
	}
	if len(b) > maxInfo {
		return unix.EFBIG
	}
	return writeOver(filepath.Join(dir, "stage.json"), b)
}

// writeOver replaces a file of the stage, whole or not at all.
func writeOver(name string, b []byte) error {
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// Measure tells what a stage is of and how large it is, os.ErrNotExist without one.
func Measure(dir string) (Info, error) {
	i, err := readInfo(dir)
	if err == nil {
		i.Bytes, i.Files, _ = Size(filepath.Join(dir, "layers", "upper"))
	}
	return i, err
}

// List tells the stages of a state directory, by project and session.
func List(stateDir string) ([]Info, error) {
	entries, err := os.ReadDir(stagesDir(stateDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Info
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), gonePrefix) {
			continue
		}
		dir := filepath.Join(stagesDir(stateDir), e.Name())
		i, err := Measure(dir)
		if err != nil {
			continue
		}
		if l, err := lockDir(dir); err == nil {
			l.Close()
		} else {
			i.InUse = errors.Is(err, ErrInUse)
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b Info) int {
		if c := strings.Compare(a.Root, b.Root); c != 0 {
			return c
		}
		return strings.Compare(a.Session, b.Session)
	})
	return out, nil
}

// Size is what an upper layer holds: the bytes on disk of its files, and how many
// files, links and marks of removed names there are, at any depth.
func Size(upper string) (bytes int64, files int, err error) {
	fd, err := unix.Open(upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	return treecopy.Usage(fd)
}

// Delete removes a stage with all that it holds. It fails with ErrInUse while a
// session uses it.
func Delete(dir string) error {
	lock, err := lockDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	// By one rename, so that a kill leaves no half of a stage to go on with.
	tmp := gonePrefix + filepath.Base(dir)
	_ = treecopy.Remove(int(parent.Fd()), tmp)
	if err := os.Rename(dir, filepath.Join(filepath.Dir(dir), tmp)); err != nil {
		return err
	}
	return treecopy.Remove(int(parent.Fd()), tmp)
}

// gonePrefix begins the name of a stage that is being removed.
const gonePrefix = ".gone-"

// sweep removes what killed removals left.
func sweep(stateDir string) {
	left, _ := filepath.Glob(filepath.Join(stagesDir(stateDir), gonePrefix+"*"))
	for _, dir := range left {
		if parent, err := os.Open(filepath.Dir(dir)); err == nil {
			_ = treecopy.Remove(int(parent.Fd()), filepath.Base(dir))
			parent.Close()
		}
	}
}
