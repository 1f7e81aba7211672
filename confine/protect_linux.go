package confine

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A protected path that exists is mounted read-only over itself, and so is every
// directory between it and the workspace (read-write): a mount point can be
// neither renamed nor removed nor replaced (EBUSY), so the path cannot be
// swapped by moving a parent either.
//
// A program outside that replaces such a file by rename takes the mount away
// with the old file. Before each command the spawner looks whether the mounts
// still stand and has them made anew; in between, a running command sees the
// new file unprotected.
//
// A path that does not exist has nothing to be mounted on, and a stub to mount
// on would show on the host. See guard_linux.go for those.

// protectPaths makes the protected paths of the workspace unchangeable.
func (s *initState) protectPaths() error {
	for _, p := range s.cfg.Protect {
		if err := s.protectPath(p); err != nil {
			return &pathError{p, err}
		}
	}
	return nil
}

// protectPath pins p and its parents. A missing p is left to the guard, with
// the parents it has pinned all the same.
func (s *initState) protectPath(p string) error {
	rel, ok := beneath(s.cfg.Workspace, p)
	if !ok || rel == "" {
		return unix.EINVAL
	}
	parts := strings.Split(rel, "/")
	at := s.cfg.Workspace
	for i, part := range parts {
		at = path.Join(at, part)
		attr := uint64(attrRW)
		if i == len(parts)-1 {
			attr = attrRO
		}
		err := s.pin(at, attr)
		switch err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR:
			return nil
		case unix.ELOOP:
			// A link at the place: its target would be what is mounted on. The
			// guard keeps the link itself from being changed.
			return nil
		default:
			return err
		}
	}
	return nil
}

// pin makes p a mount of its own, unless it is one already.
func (s *initState) pin(p string, attr uint64) error {
	fd, err := s.root.look(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if ok, err := isMountRoot(fd); ok || err != nil {
		return err
	}
	return s.root.selfBind(fd, attr)
}

// remountMask hides one path if it is there and is not hidden.
func (s *initState) remountMask(c mask) error {
	fd, err := s.root.look(c.Path)
	if err != nil {
		return nil // nothing there to hide
	}
	defer unix.Close(fd)
	if ok, err := isMountRoot(fd); ok || err != nil {
		return err
	}
	return s.root.mask(fd, c.Denied)
}

// masksIntact says whether everything hidden or protected that exists is still
// covered. It is a few microseconds in the common case of all standing.
func (s *initState) masksIntact() bool {
	stands := func(p string) bool {
		var st unix.Statx_t
		err := unix.Statx(unix.AT_FDCWD, p, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
		return err != nil || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 || st.Mode&unix.S_IFMT == unix.S_IFLNK
	}
	if s.hide.Wild() {
		return false // a new file may match
	}
	for _, p := range s.cfg.Protect {
		if !stands(p) {
			return false
		}
	}
	for _, c := range s.cfg.Masks {
		if !stands(c.Path) {
			return false
		}
	}
	return true
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
