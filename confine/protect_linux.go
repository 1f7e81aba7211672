package confine

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A protected path that exists is mounted read-only over itself, and so is every
// directory between it and the writable tree it lies in (read-write): a mount
// point can be neither renamed nor removed nor replaced (EBUSY), so the path
// cannot be swapped by moving a parent either. Where the way leads through a
// link, the same holds for what the link leads to; the link itself can have no
// mount and is kept by the supervisor (notify_linux.go), as are paths that do
// not exist.
//
// A program outside that replaces such a file by rename takes the mount away
// with the old file. The mounts are renewed as soon as the kernel tells of it
// (watch_linux.go), and before each command if not all of them are known to
// stand; until then the supervisor alone keeps the new file.

// protectPaths makes the protected paths unchangeable, and notes what it found.
func (s *initState) protectPaths() error {
	set := newProtectedSet()
	if s.sealed == nil {
		s.sealed = map[string]bool{}
	}
	for _, p := range s.cfg.Protect {
		t, ok := s.protectedTree(p)
		if !ok {
			return &pathError{p, unix.EINVAL}
		}
		w := protectWalk{s: s, set: set, first: t}
		if err := w.run(p); err != nil {
			return &pathError{p, err}
		}
	}
	s.protected.Store(set)
	return nil
}

// protectedTree is the innermost writable tree p lies in.
func (s *initState) protectedTree(p string) (string, bool) {
	best := ""
	for _, t := range s.cfg.ProtectIn {
		if t != p && within(p, t) && len(t) > len(best) {
			best = t
		}
	}
	return best, best != ""
}

// protectWalk is the way to one protected path, from the root on.
type protectWalk struct {
	s     *initState
	set   *protectedSet
	first string
	links int
}

// run pins p and its parents, following links.
func (w *protectWalk) run(p string) error {
	parts := strings.Split(strings.Trim(p, "/"), "/")
	at := "/"
	for i, part := range parts {
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			at = path.Dir(at)
			continue
		}
		at = path.Join(at, part)
		_, inside := w.s.protectedTree(at)
		last := i == len(parts)-1
		switch {
		case !inside:
		case last:
			w.set.covered[foldName(at)] = true
		default:
			w.set.parents[foldName(at)] = true
		}
		fd, err := w.s.root.look(at)
		switch err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR, unix.EACCES:
			// Nothing to be mounted on: all the rest of the way is by name.
			w.missing(at, parts[i+1:])
			return nil
		case unix.ELOOP:
			return w.follow(at, parts[i+1:], inside)
		default:
			return err
		}
		err = w.visit(fd, at, inside, last)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// visit pins one component that exists.
func (w *protectWalk) visit(fd int, at string, inside, last bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !last && dir {
		// The root of the tree as well: names in it are judged by it.
		w.set.ids[fileID{st.Dev, st.Ino}] = at
	}
	if !inside {
		return nil
	}
	attr := uint64(attrRO)
	if !last && dir {
		attr = attrRW
	}
	w.set.pinned = append(w.set.pinned, at)
	ok, err := isMountRoot(fd)
	if err != nil || ok && (attr == attrRW || w.s.sealed[at] && readOnly(fd) || w.s.git != nil && w.s.git.holds(fd, at)) {
		return err
	}
	// What the host has mounted there, or below, can be writable.
	if err = w.s.root.selfBind(fd, attr); err == nil && attr == attrRO {
		w.s.sealed[at] = true
	}
	return err
}

// missing notes the rest of a way that does not exist.
func (w *protectWalk) missing(at string, rest []string) {
	if _, ok := w.s.protectedTree(at); !ok {
		return
	}
	for i, part := range rest {
		if part == "" || part == "." || part == ".." {
			return
		}
		at = path.Join(at, part)
		if i < len(rest)-1 {
			w.set.parents[foldName(at)] = true
		} else {
			w.set.covered[foldName(at)] = true
		}
	}
	w.set.missing = append(w.set.missing, at)
}

// follow goes on where the link at leads.
func (w *protectWalk) follow(at string, rest []string, inside bool) error {
	target, err := w.s.root.readlink(at)
	if err != nil {
		return nil // changed meanwhile; the next look finds what it is now
	}
	if inside {
		w.set.links[at] = target
	}
	if w.links++; w.links > linkLimit {
		return nil
	}
	if !path.IsAbs(target) {
		target = path.Dir(at) + "/" + target
	}
	// What a link says about a whole tree protects the tree only by its name:
	// nobody means to lose the workspace to ".idea -> .".
	whole := path.Clean(target)
	if len(rest) == 0 {
		for _, t := range w.s.cfg.ProtectIn {
			if within(t, whole) {
				return nil
			}
		}
	}
	return w.run(strings.Join(append([]string{target}, rest...), "/"))
}

// readlink reads a link of the new root.
func (r *root) readlink(name string) (string, error) {
	dir, err := r.look(path.Dir(name))
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(dir, path.Base(name), b[:])
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// readOnly says whether the mount that fd lies in is.
func readOnly(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Flags&unix.ST_RDONLY != 0
}

// pin makes p a mount point, unless it is one already.
func (s *initState) pin(p string) error {
	fd, err := s.root.look(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if ok, err := isMountRoot(fd); ok || err != nil {
		return err
	}
	return s.root.selfBind(fd, attrRW)
}

// remountMask hides one path if it is there and is not hidden.
func (s *initState) remountMask(c mask) error {
	fd, err := s.root.look(c.Path)
	if err != nil {
		return nil // nothing there to hide
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || s.root.masked(&st) {
		return err
	}
	return s.root.mask(fd, c.Denied)
}

// remountMasks puts back what programs outside have taken away. It runs on an
// unrestricted thread.
func (s *initState) remountMasks() error {
	for _, c := range s.cfg.Masks {
		if err := s.remountMask(c); err != nil {
			return err
		}
	}
	if err := s.hideMatches(); err != nil {
		return err
	}
	return s.protectPaths()
}
