package stage

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// Apply makes the project have what the session has, at the given paths and below
// them. What choice does not cover is left, and said.
func (s *Stage) Apply(paths []string, choice Choice) (Result, error) {
	return s.apply(choice, nil, func(all []Change) ([]Change, Result) { return pick(all, paths) })
}

// ApplyListed is Apply for changes of a list, each path with its Change.Seen: for those
// alone, and for none that is another one by now.
func (s *Stage) ApplyListed(seen map[string]string, choice Choice) (Result, error) {
	return s.apply(choice, seen, func(all []Change) ([]Change, Result) { return pickListed(all, seen) })
}

func (s *Stage) apply(choice Choice, seen map[string]string, choose func([]Change) ([]Change, Result)) (Result, error) {
	leave, err := s.use()
	if err != nil {
		return Result{}, err
	}
	defer leave()
	all, err := s.changes()
	if err != nil {
		return Result{}, err
	}
	picked, res := choose(all)
	j, err := s.beginJournal()
	if err != nil {
		return res, err
	}
	a := newApplier(s, j, choice, &res)
	a.seen = seen
	for i := range all {
		a.all[all[i].Path] = &all[i]
	}
	a.named = namedLater(all)
	slices.SortStableFunc(picked, func(x, y Change) int { return x.gitRank() - y.gitRank() })
	for i := range picked {
		a.take(&picked[i])
	}
	a.settle()
	unfinished, err := s.tellUnfinished()
	res.Left = append(res.Left, unfinished...)
	return res, errors.Join(err, s.saveIndex(), j.end())
}

func newApplier(s *Stage, j *journal, choice Choice, res *Result) *applier {
	return &applier{s: s, j: j, choice: choice, res: res, links: map[uint64]link{}, dirs: map[string]bool{}, failed: map[string]bool{}, done: map[string]bool{}, all: map[string]*Change{}}
}

// pick takes the changes at or below the paths; "." is all. A path without a change,
// or that leads out of the project, is said.
func pick(all []Change, paths []string) (picked []Change, res Result) {
	res.Done = []string{}
	used := make([]bool, len(all))
	for _, p := range paths {
		if !filepath.IsLocal(p) {
			res.Left = append(res.Left, Left{p, "it is not in the project"})
			continue
		}
		at, found := path.Clean(p), false
		for i := range all {
			if at == "." || all[i].Path == at || strings.HasPrefix(all[i].Path, at+"/") {
				used[i], found = true, true
			}
		}
		if !found && at != "." {
			res.Left = append(res.Left, Left{p, NothingThere})
		}
	}
	for i := range all {
		if used[i] {
			picked = append(picked, all[i])
		}
	}
	return picked, res
}

// pickListed takes the changes that are still those that were listed.
func pickListed(all []Change, seen map[string]string) (picked []Change, res Result) {
	res.Done = []string{}
	found := map[string]bool{}
	for _, c := range all {
		if id, ok := seen[c.Path]; ok && id == c.Seen {
			picked, found[c.Path] = append(picked, c), true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(seen)) {
		if !found[p] {
			res.Left = append(res.Left, Left{p, ErrOther.Error()})
		}
	}
	return picked, res
}

type applier struct {
	s      *Stage
	j      *journal
	choice Choice
	seen   map[string]string // if set, what a person was shown
	res    *Result
	text   *string         // instead of what the session has, of the one path
	old    string          // what text was made from
	read   sig             // of the file that had old
	links  map[uint64]link // of files with several names in the stage
	dirs   map[string]bool // whose times are to be set at the end
	failed map[string]bool
	done   map[string]bool
	all    map[string]*Change
	named  map[string][]*Change // by repository: what has to be there before it is named
}

// link is where the project got a file with several names, and its inode there.
type link struct {
	path string
	ino  uint64
}

func (a *applier) left(p, why string) {
	a.failed[p] = true
	a.res.Left = append(a.res.Left, Left{p, why})
}

func (a *applier) take(c *Change) {
	choice := a.choice
	choice.Access = choice.Access || a.text != nil // the file stays as open as it is
	if why := choice.Unasked(c); why != "" {
		a.left(c.Path, why)
		return
	}
	// The directories that the session made on the way come along.
	for dir := path.Dir(c.Path); dir != "."; dir = path.Dir(dir) {
		if a.failed[dir] {
			a.left(c.Path, "the directory it lies in was not applied")
			return
		}
	}
	for _, dir := range parents(c.Path) {
		up := a.all[dir]
		if up == nil || up.Kind == Removed || up.Kind == Meta || a.done[dir] || up.Type == TypeGit && up.Kind != Added {
			continue
		}
		if up.Type == TypeGit {
			a.left(c.Path, "apply "+show(dir)+" first, which is new")
			return
		}
		if _, shown := a.seen[dir]; a.seen != nil && !shown && up.Kind == Replaced {
			a.left(c.Path, "the directory "+show(dir)+" takes the place of something else; apply it first")
			return
		}
		if why := a.choice.Unasked(up); why != "" {
			a.left(c.Path, "the directory "+show(dir)+" was not applied: "+why)
			return
		}
		if err := a.one(up); err != nil {
			a.left(c.Path, "the directory "+show(dir)+" was not applied: "+reason(err))
			return
		}
		a.finished(dir)
	}
	if a.done[c.Path] {
		return
	}
	if first := a.comesFirst(c); first != "" {
		a.left(c.Path, "apply "+show(first)+" first, which git needs before it")
		return
	}
	if c.Type == TypeGit {
		a.takeGit(c)
		return
	}
	if err := a.one(c); err != nil {
		a.left(c.Path, reason(err))
		return
	}
	a.finished(c.Path)
}

func (a *applier) finished(p string) {
	a.done[p] = true
	a.res.Done = append(a.res.Done, p)
}

// parents are the directories above p, outermost first.
func parents(p string) (out []string) {
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		out = append([]string{dir}, out...)
	}
	return out
}

func reason(err error) string {
	var c conflictError
	if errors.As(err, &c) {
		return "conflict: " + string(c)
	}
	return err.Error()
}

// conflictError is a change by somebody else at the last moment.
type conflictError string

func (c conflictError) Error() string { return string(c) }

// one applies one path.
func (a *applier) one(c *Change) error {
	dirPath, name := path.Dir(c.Path), path.Base(c.Path)
	dir, err := treecopy.Open(int(a.s.root.Fd()), dirPath)
	if err != nil {
		return fmt.Errorf("its directory cannot be opened: %w", err)
	}
	defer unix.Close(dir)
	tmp := treecopy.TempName()
	step := journalEntry{Step: stepBuild, Dir: dirPath, Temp: tmp, Name: name}
	var made sig
	switch {
	case c.Kind == Removed:
		err = a.remove(c, dir, step)
	case c.Type == "directory" && c.Kind == Meta:
		err = a.dirMeta(c, dir, name)
	default:
		made, err = a.put(c, dir, step)
	}
	if err != nil {
		return err
	}
	a.dirs[dirPath] = true
	a.note(c, dir, name, made)
	return nil
}

func (a *applier) dirMeta(c *Change, dir int, name string) error {
	upDir, err := treecopy.Open(int(a.s.upper.Fd()), path.Dir(c.Path))
	if err != nil {
		return err
	}
	defer unix.Close(upDir)
	from, up, attrs, err := c.openListed(upDir)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := treecopy.Open(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	if !a.choice.Conflicts {
		var st unix.Stat_t
		if err := unix.Fstat(to, &st); err != nil {
			return err
		}
		had, err := treecopy.Xattrs(to)
		if err != nil {
			return err
		}
		if sigOf(&st) != a.s.index.files[c.Path] || attributesSum(had) != a.s.index.attributes[c.Path] {
			return conflictError("changed in the project meanwhile")
		}
	}
	if err := new(treecopy.Copier).Set(to, up, attrs); err != nil {
		return err
	}
	a.s.index.note(c.Path, c.attributes)
	return nil
}

// note has the index know what the project has now, and that the session's file as it
// was listed is not a change. What somebody else did since counts as neither.
func (a *applier) note(c *Change, dir int, name string, made sig) {
	x := a.s.index
	if (c.Kind == Removed || c.Kind == Replaced) && x.files[c.Path].mode&unix.S_IFMT == unix.S_IFDIR {
		maps.DeleteFunc(x.files, func(p string, _ sig) bool { return strings.HasPrefix(p, c.Path+"/") })
		maps.DeleteFunc(x.attributes, func(p, _ string) bool { return strings.HasPrefix(p, c.Path+"/") })
	}
	delete(x.files, c.Path)
	delete(x.unsure, c.Path)
	if c.Kind == Removed {
		delete(x.attributes, c.Path)
		return
	}
	var st unix.Stat_t
	there := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
	switch {
	case made == (sig{}): // a directory has new attributes
		if there {
			x.files[c.Path] = sigOf(&st)
		}
		return
	case there && sameButCtime(sigOf(&st), made):
		if c.Type == "directory" {
			x.note(c.Path, c.attributes)
		}
		x.files[c.Path] = sigOf(&st) // the ctime is that of the rename
	default:
		x.files[c.Path], x.unsure[c.Path] = made, true
	}
	if a.text == nil && c.now.mode&unix.S_IFMT != unix.S_IFDIR {
		x.applied[c.Path] = c.now
	}
}

// settle gives the directories that were changed the times that the session's have.
func (a *applier) settle() {
	for dir := range a.dirs {
		var up unix.Stat_t
		if unix.Fstatat(int(a.s.upper.Fd()), dir, &up, unix.AT_SYMLINK_NOFOLLOW) != nil || up.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if fd, err := treecopy.Open(int(a.s.root.Fd()), dir); err == nil {
			_ = unix.Fsync(fd)
			_ = unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), []unix.Timespec{up.Atim, up.Mtim}, 0)
			unix.Close(fd)
		}
	}
}
