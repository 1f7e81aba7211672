package confine

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	denylist "mcp-sandbox/deny"
)

// What must not be seen is covered by a mount, which also keeps its name: it can
// be neither renamed nor removed nor linked to. The directories above it, up to
// the root of what may be written, are mounts of their own like the parents of
// protected paths, or else moving one of them would show the file to the next
// session, whose settings name the old path.
//
// A file that comes to match a pattern while a command runs is hidden from the
// next command on.

// setHide reads the patterns.
func (s *initState) setHide() (err error) {
	if len(s.cfg.Hide) > 0 {
		s.hide, err = denylist.Parse(s.cfg.Hide, s.cfg.Workspace, s.cfg.Trees)
	}
	return err
}

// hideRest hides what patterns match and keeps the parents of all that is
// hidden. The root file system is complete, and its own.
func (s *initState) hideRest() error {
	if err := s.setHide(); err != nil {
		return err
	}
	for _, c := range s.cfg.Masks {
		if !c.Denied {
			continue
		}
		if err := s.pinParents(c.Path); err != nil {
			return fmt.Errorf("keep the directories above a hidden path: %w", &pathError{c.Path, err})
		}
	}
	return s.hideMatches()
}

// hideMatches hides the files that patterns match now, and hard links to hidden
// files.
func (s *initState) hideMatches() error {
	if s.hide.Empty() {
		return nil
	}
	found, err := s.hide.Scan(context.Background())
	if err != nil {
		return err
	}
	if found.Partial {
		return fmt.Errorf("look for what patterns hide: %w", unix.E2BIG)
	}
	for _, m := range found.Matches {
		if err := s.remountMask(mask{m.Path, true}); err != nil {
			return fmt.Errorf("hide a path: %w", &pathError{m.Path, err})
		}
		if s.hide.NamesParents(m.Path) {
			if err := s.pinParents(m.Path); err != nil {
				return fmt.Errorf("keep the directories above a hidden path: %w", &pathError{m.Path, err})
			}
		}
	}
	return nil
}

// pinParents makes the directories between p and the root of the writable tree
// it lies in mounts of their own. Missing ones, and what runs through a link,
// are left.
func (s *initState) pinParents(p string) error {
	top := ""
	for _, w := range slices.Concat([]string{s.cfg.Workspace}, s.cfg.Trees) {
		if rel, ok := beneath(w, p); ok && rel != "" && len(w) > len(top) && slices.Contains(s.cfg.Writable, w) {
			top = w
		}
	}
	if top == "" {
		return nil
	}
	rel, _ := beneath(top, path.Dir(p))
	at := top
	for part := range strings.SplitSeq(rel, "/") {
		if part == "" {
			break
		}
		at = path.Join(at, part)
		switch err := s.pin(at); err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EACCES:
			return nil
		default:
			return err
		}
	}
	return nil
}
