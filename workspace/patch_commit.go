package workspace

import (
	"context"

	"golang.org/x/sys/unix"
)

// undoLog takes back steps, last first.
type undoLog []func()

func (u undoLog) run() {
	for i := len(u) - 1; i >= 0; i-- {
		u[i]()
	}
}

// commit writes the files of a patch: everything that can fail for lack of
// space or rights comes first, then renames, which can be taken back.
func (t *patcher) commit(ctx context.Context) (err error) {
	done := func() {}
	defer func() { done() }() // after what is below: taking back is part of the turn
	var undo, made undoLog
	var trash []func() // old files, removed once nothing can fail any more
	defer func() {
		if err != nil {
			undo.run()
		} else {
			for _, remove := range trash {
				remove()
			}
		}
		for _, s := range t.order {
			if s.staged != nil {
				s.staged.discard()
			}
			if s.displaced != nil {
				s.displaced.close()
			}
		}
		if err != nil {
			made.run() // only now are new directories empty
		}
		for _, s := range t.order {
			if s.place != nil {
				if err == nil {
					syncDir(s.place.fd)
				}
				s.place.close()
			}
		}
	}()
	for _, s := range t.order {
		if err := t.open(s, &made); err != nil {
			return fromErrno(err, s.given)
		}
	}
	for _, s := range t.order {
		if s.place == nil || !s.exists {
			continue
		}
		if err := t.stage(ctx, s); err != nil {
			return fromErrno(err, s.given)
		}
	}
	var dirs []int
	for _, s := range t.order {
		if s.source != nil && s.exists {
			s.source.movedTo = s.place
		}
		if s.place != nil {
			dirs = append(dirs, s.place.fd)
		}
	}
	if len(dirs) > 0 {
		leave, err := takeTurns(ctx, dirs, t.order[0].given)
		if err != nil {
			return fromErrno(err, t.order[0].given)
		}
		done = leave
	}
	for _, s := range t.order {
		if s.was != nil && s.place != nil && !unchanged(s.place.fd, s.place.name, s.was) {
			return s.conflict()
		}
	}
	if err := ctx.Err(); err != nil {
		return fromErrno(err, "")
	}
	// What goes comes last: a server that is killed in the middle of a move leaves
	// the file under both names.
	for _, goes := range []bool{false, true} {
		for _, s := range t.order {
			if s.place == nil || goes == s.exists {
				continue
			}
			back, remove, err := s.take()
			if err == errRewritten {
				return s.conflict()
			}
			if err != nil {
				return fromErrno(err, s.given)
			}
			undo = append(undo, back)
			if remove != nil {
				trash = append(trash, remove)
			}
		}
	}
	for _, s := range t.order {
		if s.displaced == nil {
			continue
		}
		original := (func() ([]byte, error))(nil)
		if s.found != nil {
			original = s.found.original
		}
		if err := s.displaced.settle(ctx, original); err == errRewritten {
			return s.conflict()
		} else if err != nil {
			return fromErrno(err, s.given)
		}
	}
	return nil
}

// open walks to the place of a file that changes, making its parents.
func (t *patcher) open(s *patchFile, made *undoLog) error {
	if s.was == nil && !s.exists {
		return nil
	}
	if s.was != nil && s.exists && s.doc == nil {
		return nil // looked at only
	}
	o := walkOptions{follow: s.follow, write: true, mayMiss: true}
	p, err := t.fs.walk(s.given, o)
	if err != nil {
		return err
	}
	if p.missing != nil {
		root, first := p.root, len(p.comps)
		comps := append(append([]string(nil), p.comps...), p.missing...)
		p.close()
		// Directories made for a patch that fails are removed again, the
		// deepest first.
		for n := first; n < len(comps); n++ {
			dir := comps[:n]
			*made = append(*made, func() {
				if d, err := t.fs.walkFrom(root, dir, s.given, walkOptions{}); err == nil {
					unix.Unlinkat(d.fd, d.name, unix.AT_REMOVEDIR)
					d.close()
				}
			})
		}
		o.mayMiss, o.parents = false, true
		if p, err = t.fs.walk(s.given, o); err != nil {
			return err
		}
	}
	s.place = p
	if s.exists && s.was == nil {
		return t.fs.permitNonDirectory(p)
	}
	return nil
}

// stage writes the new content next to the file.
func (t *patcher) stage(ctx context.Context, s *patchFile) error {
	content, err := s.content()
	if err != nil {
		return err
	}
	r := replacement{old: s.was, content: content, executable: s.mode}
	if s.kind == KindSymlink {
		r.old = nil // a file in the place of a link, whose mode means nothing
	}
	if s.source != nil {
		r.old, r.attributes = s.source.was, s.source.place
	}
	s.staged, err = t.fs.prepare(ctx, s.place, r)
	if err == errOwner {
		return fail(codePermission, "the owner of %s cannot be kept; change the file with edit_file", quote(s.given))
	}
	return err
}

func (s *patchFile) conflict() error {
	return fail(codeConflict, "%s was changed by another program while the patch was applied; read it again and repeat the patch", quote(s.given))
}

func (s *patchFile) content() ([]byte, error) {
	if !s.parsed {
		return []byte(s.text), nil
	}
	return s.doc.bytes(s.text, s.given)
}

// take does the rename that makes a change visible. back undoes it; remove,
// when not nil, deletes the old file for good.
func (s *patchFile) take() (back, remove func(), err error) {
	dir, name := s.place.fd, s.place.name
	switch {
	case s.was == nil: // new
		if err := s.staged.commitNew(); err != nil {
			return nil, nil, err
		}
		return func() { unix.Unlinkat(dir, name, 0) }, nil, nil
	case !s.exists: // gone
		old := tempName()
		if err := unix.Renameat(dir, name, dir, old); err != nil {
			return nil, nil, err
		}
		back = func() { renameNoReplace(dir, old, dir, name) }
		// The inode number does not tell: on an overlay, a rename can copy the file up and
		// give it another one.
		now, err := statAt(dir, old)
		if err != nil || !sameContent(now, s.was) {
			back()
			return nil, nil, errRewritten
		}
		if s.movedTo != nil {
			s.displaced = leftBehind(dir, old, now, s.movedTo)
		}
		return back, func() { unix.Unlinkat(dir, old, 0) }, nil
	}
	tmp := s.staged.tmp
	s.displaced, err = displace(dir, tmp, name, s.was)
	if err == nil {
		// The temporary name holds the old file now; discard removes it.
		return s.displaced.back, nil, nil
	}
	if err != unix.EINVAL && err != unix.ENOSYS && err != unix.ENOTSUP {
		return nil, nil, err
	}
	old := tempName()
	if err := unix.Renameat(dir, name, dir, old); err != nil {
		return nil, nil, err
	}
	if err := unix.Renameat(dir, tmp, dir, name); err != nil {
		unix.Renameat(dir, old, dir, name)
		return nil, nil, err
	}
	s.staged.done = true
	return func() { unix.Renameat(dir, old, dir, name) }, func() { unix.Unlinkat(dir, old, 0) }, nil
}
