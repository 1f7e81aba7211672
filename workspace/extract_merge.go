package workspace

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// movedName is a step of a merge that can be taken back: a name moved from the
// stage to the destination, or exchanged with what was there.
type movedName struct {
	comps     []string
	exchanged bool
}

// conflicts looks for everything that would stop a merge, before the first
// name moves.
func (s *stage) conflicts(from, to int, at []string) error {
	return s.both(from, to, at, func(e dirEntry, st *unix.Stat_t, comps []string) error {
		name := strings.Join(comps, "/")
		if s.hidden.has(st) {
			return hiddenError(name)
		}
		switch kind := kindOf(st); {
		case kind == KindSymlink:
			return unsafeMember(name, "would be unpacked onto or below an existing link")
		case kind == KindDirectory && e.kind != KindDirectory:
			return fail(codeExists, "%s exists as a directory but is a file in the archive, so nothing was unpacked; choose another destination", quote(name))
		case kind != KindDirectory && e.kind == KindDirectory, kind == KindFile && e.kind != KindFile:
			return fail(codeExists, "%s exists but is a %s in the archive, so nothing was unpacked; choose another destination", quote(name), e.kind)
		case kind != KindDirectory && kind != KindFile:
			return fail(codeExists, "%s exists as a %s, so nothing was unpacked; choose another destination", quote(name), kind)
		}
		return s.fs.held(path.Join(s.final, name), to, e.name, e.kind, name)
	}, func(sub, dst int, comps []string) error { return s.conflicts(sub, dst, comps) })
}

// both goes through the names of the stage directory from that the destination
// directory to has too: clash for each, then down into those that are
// directories in both.
func (s *stage) both(from, to int, at []string, clash func(dirEntry, *unix.Stat_t, []string) error, down func(from, to int, comps []string) error) error {
	entries, more, err := readEntries(s.ctx, from)
	if err != nil {
		return err
	}
	if more {
		return fail(codeTooLarge, "a directory of the archive holds more than %d names; unpack it with a command", maxEntries)
	}
	for _, e := range entries {
		st, err := statAt(to, e.name)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return err
		}
		comps := append(at[:len(at):len(at)], e.name)
		if err := clash(e, st, comps); err != nil {
			return err
		}
		if e.kind != KindDirectory {
			continue
		}
		if err := pair(from, to, e.name, func(sub, dst int) error { return down(sub, dst, comps) }); err != nil {
			return err
		}
	}
	return nil
}

// pair opens the directory name in two places.
func pair(from, to int, name string, use func(from, to int) error) error {
	sub, err := openSubdir(from, name)
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	dst, err := openSubdir(to, name)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	return use(sub, dst)
}

// merge moves the names of from into to. A file that exists is exchanged, so
// the stage keeps the old one until everything is in place.
func (s *stage) merge(from, to int, at []string, moved *[]movedName) error {
	entries, _, err := readEntries(s.ctx, from)
	if err != nil {
		return err
	}
	var both []string // directories that are in both
	if err := s.mergeNames(entries, from, to, at, moved, &both); err != nil {
		return err
	}
	for _, name := range both {
		comps := append(at[:len(at):len(at)], name)
		if err := pair(from, to, name, func(sub, dst int) error { return s.merge(sub, dst, comps, moved) }); err != nil {
			return err
		}
	}
	return nil
}

// mergeNames moves what is in one directory, in the turn of the destination.
func (s *stage) mergeNames(entries []dirEntry, from, to int, at []string, moved *[]movedName, both *[]string) error {
	done, err := takeTurn(s.ctx, to, strings.Join(at, "/"))
	if err != nil {
		return err
	}
	defer done()
	for _, e := range entries {
		comps := append(at[:len(at):len(at)], e.name)
		err := renameNoReplace(from, e.name, to, e.name)
		if err == nil {
			*moved = append(*moved, movedName{comps: comps})
			continue
		}
		if err != unix.EEXIST && err != unix.ENOTEMPTY {
			return err
		}
		if e.kind == KindDirectory {
			*both = append(*both, e.name)
			continue
		}
		st, err := statAt(to, e.name)
		if err != nil || kindOf(st) != KindFile {
			return fail(codeExists, "%s was made by somebody else meanwhile; try again", quote(strings.Join(comps, "/")))
		}
		if err := s.exchange(from, to, e.name); err != nil {
			return err
		}
		*moved = append(*moved, movedName{comps: comps, exchanged: true})
		s.replaced++
	}
	return nil
}

// exchange swaps name in two directories, in two steps where one is not
// possible.
func (s *stage) exchange(from, to int, name string) error {
	err := renameSwap(from, name, to, name)
	if err != unix.EINVAL && err != unix.ENOSYS && err != unix.ENOTSUP {
		return err
	}
	old := tempName()
	if err := unix.Renameat(to, name, from, old); err != nil {
		return err
	}
	if err := unix.Renameat(from, name, to, name); err != nil {
		unix.Renameat(from, old, to, name)
		return err
	}
	return unix.Renameat(from, old, from, name)
}

// revert takes a merge back, last step first.
func (s *stage) revert(moved []movedName) {
	for i := len(moved) - 1; i >= 0; i-- {
		m := moved[i]
		n := len(m.comps) - 1
		from, err := openBelow(s.fd, m.comps[:n], nil)
		if err != nil {
			continue
		}
		if to, err := openBelow(s.base, m.comps[:n], nil); err == nil {
			if m.exchanged {
				s.exchange(from, to, m.comps[n])
			} else {
				renameNoReplace(to, m.comps[n], from, m.comps[n])
			}
			unix.Close(to)
		}
		unix.Close(from)
	}
}
