package workspace

import (
	"context"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// walkFrom walks comps below r. Only one descriptor is held at a time; ".."
// starts again from the root with one component less, so that a directory moved
// away under the walk cannot carry it out.
func (f *FS) walkFrom(r *root, comps []string, given string, o walkOptions) (_ *resolved, err error) {
	w := walker{fs: f, o: o, hidden: f.hiddenNow(context.Background()), at: &resolved{fs: f, given: given}}
	defer func() {
		if err != nil {
			w.at.close()
		}
	}()
	w.restart(r, comps)
	for n := 0; ; n++ {
		if n > maxSteps {
			return nil, fromErrno(unix.ELOOP, given)
		}
		arrived, err := w.step()
		if err != nil {
			return nil, err
		}
		if arrived {
			break
		}
	}
	if w.at.name != "." && w.at.root.leaf == "" {
		w.at.comps = append(w.at.comps, w.at.name)
	}
	if err := f.checkEnd(w.at, w.hidden); err != nil {
		return nil, err
	}
	if o.write {
		if err := f.permit(w.at); err != nil {
			if w.at.made > 0 {
				f.removeMade(w.at, w.at.comps[:len(w.at.comps)-1])
			}
			return nil, err
		}
	}
	return w.at, nil
}

// walker is a walk under way. Its methods leave at.fd open on an error: walkFrom
// alone ends a walk.
type walker struct {
	fs     *FS
	o      walkOptions
	hidden *hiddenSet
	at     *resolved // the directory it stands in
	todo   []string  // components still to walk
	links  int       // how many were followed
}

// restart puts the walk at a root, with comps to walk from there.
func (w *walker) restart(r *root, comps []string) {
	p := w.at
	p.close()
	p.root, p.fd, p.name, p.comps = r, int(r.dir.Fd()), ".", p.comps[:0:0]
	p.inReadOnlyGrant, p.protected = false, false
	w.todo = comps
}

// step walks one component, and says whether that was the last.
func (w *walker) step() (arrived bool, err error) {
	p := w.at
	switch {
	case p.root.leaf != "":
		// A file grant: the one granted name and nothing else.
		if len(w.todo) > 0 {
			return false, fromErrno(unix.ENOTDIR, p.given)
		}
		p.name = p.root.leaf
		return true, nil
	case len(w.todo) == 0 && len(p.comps) == 0:
		return true, nil
	case len(w.todo) == 0:
		// A link to "." ends in a directory already entered; walk to it again so
		// that the place is a name in its parent.
		w.restart(p.root, slices.Clone(p.comps))
		return false, nil
	case w.todo[0] == "..":
		return false, w.up()
	}
	name := w.todo[0]
	if err := w.fs.inspect(p, w.o, w.hidden); err != nil {
		return false, err
	}
	if w.fs.hiddenName(p, name) {
		return false, hiddenError(p.given)
	}
	switch {
	case len(w.todo) > 1:
		return w.into(name)
	case w.o.follow:
		return w.follow(name)
	}
	p.name = name
	return true, nil
}

// up takes a "..": from a root, to whatever root holds its parent.
func (w *walker) up() error {
	p, rest := w.at, w.todo[1:]
	if n := len(p.comps); n > 0 {
		w.restart(p.root, slices.Concat(p.comps[:n-1], rest))
		return nil
	}
	r, comps, ok := w.fs.locate(path.Join(filepath.Dir(p.root.real), strings.Join(rest, "/")))
	if !ok {
		return outside(p.given)
	}
	w.restart(r, comps)
	return nil
}

// into enters the directory name, which more components follow.
func (w *walker) into(name string) (arrived bool, err error) {
	p := w.at
	fd, err := retryEINTR(func() (int, error) { return unix.Openat(p.fd, name, openDirFlags, 0) })
	switch {
	case err == nil:
		p.close()
		p.fd, p.owned = fd, true
		p.comps = append(p.comps, name)
		w.todo = w.todo[1:]
		return false, nil
	case err == unix.ENOENT && (w.o.parents || w.o.mayMiss):
		return w.missing()
	case err == unix.ENOTDIR || err == unix.ELOOP || err == unix.EMLINK:
		return w.follow(name)
	}
	return false, fromErrno(err, p.given)
}

// missing makes the directories that do not exist, or ends before the first.
func (w *walker) missing() (arrived bool, err error) {
	p := w.at
	if slices.Contains(w.todo, "..") {
		return false, fromErrno(unix.ENOENT, p.given)
	}
	if !w.o.parents {
		p.name, p.missing = w.todo[0], w.todo[1:]
		return true, nil
	}
	if err := w.fs.makeParents(p, w.todo, w.o); err != nil {
		w.fs.removeMade(p, p.comps)
		return false, fromErrno(err, p.given)
	}
	w.todo = w.todo[len(w.todo)-1:]
	return false, nil
}

// follow replaces name by what it links to. What is not a link ends the walk, or
// fails it when more components follow.
func (w *walker) follow(name string) (arrived bool, err error) {
	p, last := w.at, len(w.todo) == 1
	target, err := readlinkAt(p.fd, name)
	switch {
	case err == unix.EINVAL && !last:
		return false, fromErrno(unix.ENOTDIR, p.given)
	case err == unix.EINVAL, err == unix.ENOENT && last:
		p.name = name
		return true, nil
	case err != nil:
		return false, fromErrno(err, p.given)
	}
	if w.links++; w.links > maxLinks {
		return false, fromErrno(unix.ELOOP, p.given)
	}
	if !strings.HasPrefix(target, "/") {
		w.todo = slices.Concat(split(target), w.todo[1:])
		return false, nil
	}
	// Kept inside if it names a root: an absolute link into the workspace is
	// common (virtual environments, node_modules).
	r, comps, ok := w.fs.locateLink(target)
	if !ok {
		return false, outside(p.given)
	}
	w.restart(r, slices.Concat(comps, w.todo[1:]))
	return false, nil
}

// inspect looks at the directory p stands in by inode, so that renaming the
// parent of a read-only grant or of a protected directory does not open it. The
// deepest grant on the way decides.
func (f *FS) inspect(p *resolved, o walkOptions, hidden *hiddenSet) error {
	policy := o.write && (len(f.roots) > 1 || len(f.protect.ids) > 0)
	if !policy && hidden == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(p.fd, &st); err != nil {
		return fromErrno(err, p.given)
	}
	if hidden.has(&st) {
		return hiddenError(p.given)
	}
	if policy {
		f.recognise(p, idOf(&st))
	}
	return nil
}

func (f *FS) recognise(p *resolved, id fileID) {
	for _, r := range f.roots {
		if r.leaf == "" && r.id == id {
			p.inReadOnlyGrant = r.readOnly
		}
	}
	if _, ok := f.protect.ids[id]; ok {
		p.protected = true
	}
}

// makeParents makes every directory of todo but the last below p. What does
// not exist holds no links, so the whole path is known before the first one is
// made, and policy is asked first.
func (f *FS) makeParents(p *resolved, todo []string, o walkOptions) error {
	if f.hides() && f.opts.Deny.Covers(filepath.Join(append([]string{p.absolute()}, todo...)...)) {
		return hiddenError(p.given)
	}
	if o.write {
		whole := *p
		whole.owned, whole.missing = false, todo
		whole.name = todo[len(todo)-1]
		whole.comps = append(append([]string(nil), p.comps...), todo...)
		if err := f.permit(&whole); err != nil {
			return err
		}
	}
	for _, name := range todo[:len(todo)-1] {
		made := f.mkdirAt(p.fd, name)
		if made != nil && made != unix.EEXIST {
			return made
		}
		if made == nil && o.write && f.completesBare(p, name) {
			unix.Unlinkat(p.fd, name, unix.AT_REMOVEDIR)
			return protectedError(p.given)
		}
		fd, err := retryEINTR(func() (int, error) { return unix.Openat(p.fd, name, openDirFlags, 0) })
		if err != nil {
			return err
		}
		p.close()
		p.fd, p.owned = fd, true
		p.comps = append(p.comps, name)
		if made == nil || p.made > 0 {
			p.made++
		}
	}
	return nil
}

// removeMade removes the directories that the walk to p made, the last of those in
// dirs, as long as they are empty.
func (f *FS) removeMade(p *resolved, dirs []string) {
	for n := len(dirs); n > len(dirs)-p.made; n-- {
		d, err := f.walkFrom(p.root, dirs[:n], p.given, walkOptions{})
		if err != nil {
			return
		}
		err = unix.Unlinkat(d.fd, d.name, unix.AT_REMOVEDIR)
		d.close()
		if err != nil {
			return
		}
	}
}
