package stage

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// Discard has the session lose its changes at the given paths and below them: it then
// sees what the project has. While the session runs it is done in the workspace that
// the session sees, by the process that has it.
func (s *Stage) Discard(paths []string) (Result, error) {
	return s.discard(func(all []Change) ([]Change, Result) { return pick(all, paths) })
}

// DiscardListed is Discard for changes of a list, each path with its Change.Seen. A
// directory goes only with all that lies in it.
func (s *Stage) DiscardListed(seen map[string]string) (Result, error) {
	return s.discard(func(all []Change) ([]Change, Result) {
		picked, res := pickListed(all, seen)
		kept := picked[:0:0]
		for _, c := range picked {
			whole := true
			if c.Type == "directory" && (c.Kind == Added || c.Kind == Replaced) {
				whole = !slices.ContainsFunc(all, func(in Change) bool {
					return strings.HasPrefix(in.Path, c.Path+"/") && seen[in.Path] != in.Seen
				})
			}
			if whole {
				kept = append(kept, c)
			} else {
				res.Left = append(res.Left, Left{c.Path, "it holds what was not shown; look again"})
			}
		}
		return kept, res
	})
}

func (s *Stage) discard(choose func([]Change) ([]Change, Result)) (Result, error) {
	leave, err := s.use()
	if err != nil {
		return Result{}, err
	}
	defer leave()
	if s.Merged == nil && s.lock == nil {
		return Result{}, ErrInUse
	}
	all, err := s.changes()
	if err != nil {
		return Result{}, err
	}
	picked, res := choose(all)
	// What lies in a directory goes before it.
	slices.Reverse(picked)
	for i := range picked {
		c := &picked[i]
		if c.Type == TypeGit {
			err = s.discardGit(c, slices.DeleteFunc(slices.Clone(all), func(x Change) bool { return slices.Contains(res.Done, x.Path) }))
		} else {
			err = s.revert(c)
		}
		if err != nil {
			res.Left = append(res.Left, Left{c.Path, err.Error()})
			continue
		}
		delete(s.index.applied, c.Path)
		res.Done = append(res.Done, c.Path)
	}
	slices.Sort(res.Done)
	return res, s.saveIndex()
}

func (s *Stage) revert(c *Change) error {
	if s.Merged != nil {
		return s.revertMerged(c)
	}
	return s.revertUpper(c)
}

// revertUpper takes one change out of the upper layer, which no overlay uses.
func (s *Stage) revertUpper(c *Change) error {
	upper := int(s.upper.Fd())
	dirPath, name := path.Dir(c.Path), path.Base(c.Path)
	if c.Kind == Meta && c.Type == "directory" {
		return s.copyAttributes(upper, c.Path)
	}
	dir, err := treecopy.Open(upper, dirPath)
	if err == unix.ENOENT {
		return nil // gone with the directory it lay in
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := s.drop(dir, name); err != nil && err != unix.ENOENT {
		return err
	}
	if c.Kind == Added || !s.hidesBelow(dirPath) {
		return nil
	}
	// The directory hides the one below, so what that has must be here.
	return s.copyBelow(c, dir, name)
}

// hidesBelow says whether a directory of the upper layer, or one that it lies in,
// hides what the project has there.
func (s *Stage) hidesBelow(dirPath string) bool {
	for ; dirPath != "."; dirPath = path.Dir(dirPath) {
		if s.opaque(dirPath) {
			return true
		}
	}
	return false
}

// opaque says whether a directory of the upper layer has the mark; so does one that
// cannot be opened, as a copy too many is the lesser harm.
func (s *Stage) opaque(dirPath string) bool {
	fd, err := treecopy.Open(int(s.upper.Fd()), dirPath)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	return isOpaque(fd)
}

func (s *Stage) copyAttributes(to int, p string) error {
	src, err := treecopy.Open(int(s.root.Fd()), p)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := treecopy.Open(to, p)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	return s.as(func() error { return new(treecopy.Copier).Attributes(src, dst) })
}

func (s *Stage) as(f func() error) error {
	if s.As == nil {
		return f()
	}
	return s.As(f)
}

// copyBelow copies what the project has at a path to a name of dir.
func (s *Stage) copyBelow(c *Change, dir int, to string) error {
	name := path.Base(c.Path)
	low, err := treecopy.Open(int(s.root.Fd()), path.Dir(c.Path))
	if err != nil {
		return err
	}
	defer unix.Close(low)
	if s.As == nil {
		return new(treecopy.Copier).Tree(low, name, dir, to)
	}
	// The session's user may not read all that its owner is shown, nor may a root
	// server write in the session's name: it copies to a place of its own first.
	mid, err := unix.Open(s.Layers(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mid)
	var owner unix.Stat_t
	if err := unix.Fstat(int(s.upper.Fd()), &owner); err != nil {
		return err
	}
	tmp := treecopy.TempName()
	defer treecopy.Remove(mid, tmp)
	k := treecopy.Copier{Owner: func(*unix.Stat_t) (int, int) { return int(owner.Uid), int(owner.Gid) }}
	if err := k.Tree(low, name, mid, tmp); err != nil {
		return err
	}
	return s.as(func() error { return new(treecopy.Copier).Tree(mid, tmp, dir, to) })
}

// revertMerged makes the merged workspace have at a path what the project has.
func (s *Stage) revertMerged(c *Change) error {
	merged := int(s.Merged.Fd())
	if c.Kind == Meta && c.Type == "directory" {
		return s.copyAttributes(merged, c.Path)
	}
	dirPath, name := path.Dir(c.Path), path.Base(c.Path)
	dir, err := treecopy.Open(merged, dirPath)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	tmp := treecopy.TempName()
	if c.Kind == Added {
		return s.as(func() error { return takeListed(c, dir, name, tmp) })
	}
	drop := func() { s.as(func() error { return treecopy.Remove(dir, tmp) }) }
	if err := s.copyBelow(c, dir, tmp); err != nil {
		drop()
		return err
	}
	return s.as(func() error {
		if c.Kind != Removed {
			return exchangeIf(dir, tmp, name, func() error { return c.isListed(dir, tmp) })
		}
		err := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_NOREPLACE)
		if err != nil {
			treecopy.Remove(dir, tmp)
		}
		if err == unix.EEXIST {
			return errMoved
		}
		return err
	})
}

// takeListed removes what the session added and a person was shown. A directory goes
// only empty: what it held was listed, and has gone before it.
func takeListed(c *Change, dir int, name, tmp string) error {
	if c.Type == "directory" && c.Unfit == "" {
		err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		if err == unix.ENOTEMPTY {
			return errMoved
		}
		return ignoreGone(err)
	}
	if err := unix.Renameat2(dir, name, dir, tmp, unix.RENAME_NOREPLACE); err != nil {
		return ignoreGone(err)
	}
	if err := c.isListed(dir, tmp); err != nil {
		if rerr := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_NOREPLACE); rerr != nil {
			return fmt.Errorf("%w; it is %s now and could not get its name again: %w", err, show(visible(dir, tmp, name)), rerr)
		}
		return err
	}
	return treecopy.Remove(dir, tmp)
}

// isListed fails unless what the session has at a name is what was listed. An overlay
// gives inodes of its own, and a rename another ctime.
func (c *Change) isListed(dir int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	is := sigOf(&st)
	if is.mode != c.now.mode || is.size != c.now.size || is.mtime != c.now.mtime {
		return errMoved
	}
	if is.mode&unix.S_IFMT != unix.S_IFDIR || c.Unfit != "" {
		return nil
	}
	fd, err := treecopy.Open(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if names, err := treecopy.Names(fd); err != nil || len(names) > 0 {
		return errMoved
	}
	return nil
}

// Prune takes out of the upper layer what the project has, too: what was applied, and
// copies of what did not change. Nothing may use the layer as an overlay.
func (s *Stage) Prune() error {
	leave, err := s.use()
	if err != nil {
		return err
	}
	defer leave()
	if s.lock == nil {
		return ErrInUse
	}
	if s.index == nil {
		s.index = s.readIndex()
	}
	s.sweepLayers()
	changes, err := s.rawChanges()
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for i := range changes {
		p := changes[i].Path
		keep[p] = true
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			keep[dir] = true
		}
	}
	fd, err := treecopy.Open(int(s.upper.Fd()), ".")
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = s.prune(fd, "", keep, false, 0)
	for p := range s.index.applied {
		if !keep[p] {
			delete(s.index.applied, p)
		}
	}
	return errors.Join(err, s.saveIndex())
}

func (s *Stage) prune(dir int, at string, keep map[string]bool, opaque bool, depth int) error {
	if depth > maxDepth {
		return nil
	}
	names, err := treecopy.Names(dir)
	if err != nil {
		return err
	}
	opaque = opaque || isOpaque(dir)
	for _, n := range names {
		p := path.Join(at, n)
		if strings.HasPrefix(n, treecopy.TempPrefix) && !keep[p] {
			treecopy.Remove(dir, n)
			continue
		}
		var st unix.Stat_t
		if unix.Fstatat(dir, n, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		if keep[p] {
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				continue
			}
			sub, err := treecopy.Open(dir, n)
			if err == unix.EACCES {
				continue
			}
			if err != nil {
				return err
			}
			err = s.prune(sub, p, keep, opaque, depth+1)
			unix.Close(sub)
			if err != nil {
				return err
			}
			continue
		}
		// In an opaque directory what is missing is removed, so what is the same
		// has to stay; a mark of a removed name means nothing there.
		if opaque && !isWhiteout(&st) {
			continue
		}
		if err := s.drop(dir, n); err != nil {
			return err
		}
	}
	return nil
}

// drop takes a name out of the upper layer, by one rename: half of a directory that
// hides the one below would say that the rest had been removed.
func (s *Stage) drop(dir int, name string) error {
	layers, err := unix.Open(s.Layers(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(layers)
	tmp := treecopy.TempName()
	err = unix.Renameat(dir, name, layers, tmp)
	if err == unix.EACCES {
		// Moving takes the right to write to the directory that it is moved out of, and
		// to one that is moved (rename(2)).
		var st unix.Stat_t
		if unix.Fstat(dir, &st) == nil && unix.Fchmod(dir, st.Mode&0o7777|0o700) == nil {
			defer unix.Fchmod(dir, st.Mode&0o7777)
		}
		_ = treecopy.Chmod(dir, name, unix.S_IFDIR, 0o700)
		err = unix.Renameat(dir, name, layers, tmp)
	}
	if err != nil {
		return err
	}
	return treecopy.Remove(layers, tmp)
}

// sweepLayers removes what a killed drop left.
func (s *Stage) sweepLayers() {
	layers, err := unix.Open(s.Layers(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(layers)
	names, _ := treecopy.Names(layers)
	for _, n := range names {
		if strings.HasPrefix(n, treecopy.TempPrefix) {
			_ = treecopy.Remove(layers, n)
		}
	}
}
