package workspace

import (
	"context"
	"errors"
	"path"

	"golang.org/x/sys/unix"
)

// installInstead makes the destination hold the finished tree and nothing else.
// What was there is moved aside, on the same file system, and comes back when the
// tree cannot be put in its place; discard removes it when it has been replaced.
func (s *stage) installInstead() error {
	names, err := s.replaceable()
	if err != nil {
		return err
	}
	old := tempName()
	if err := unix.Mkdirat(s.base, old, 0o700); err != nil {
		return err
	}
	aside, err := openSubdir(s.base, old)
	if err != nil {
		return err
	}
	defer unix.Close(aside)
	s.old = old
	for i, name := range names {
		if err = unix.Renameat(s.base, name, aside, name); err != nil && err != unix.ENOENT {
			return s.putBack(aside, names[:i], err)
		}
	}
	if err := s.installOver(); err != nil {
		return s.putBack(aside, names, err)
	}
	return nil
}

// replaceable are the names of the destination, when all of them, and what they
// hold, may be removed.
func (s *stage) replaceable() ([]string, error) {
	entries, more, err := readEntries(s.ctx, s.base)
	if err != nil {
		return nil, err
	}
	if more {
		return nil, fail(codeTooLarge, "the directory to replace holds more than %d names; remove some with a command", maxEntries)
	}
	var names []string
	for _, e := range entries {
		if e.name == s.name {
			continue
		}
		at := path.Join(s.final, e.name)
		if err := s.fs.held(at, s.base, e.name, e.kind, e.name); err != nil {
			return nil, err
		}
		if e.kind == KindDirectory {
			if err := s.fs.scanTree(s.ctx, s.base, e.name, at, e.name, 0); err != nil {
				return nil, err
			}
		}
		names = append(names, e.name)
	}
	return names, nil
}

// putBack gives the destination what was moved aside, after the failure why. What
// somebody made there meanwhile, or could not be moved back, is kept where it is.
func (s *stage) putBack(aside int, names []string, why error) error {
	for _, name := range names {
		err := renameNoReplace(aside, name, s.base, name)
		if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
			_ = s.exchange(aside, s.base, name) // the old one is in its place, or kept
		}
	}
	left, _, err := readEntries(context.WithoutCancel(s.ctx), aside)
	if err == nil && len(left) == 0 {
		return why
	}
	at := path.Join(s.display, s.old)
	s.old = "" // discard would remove it
	return failCause(why, codeConflict, "nothing was unpacked (%v), and some of what was to be replaced could not be put back: it is kept in %s; move it back with a command", fromErrno(why, s.display), quote(at))
}
