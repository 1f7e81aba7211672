package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// before is a directory's state when it was first touched.
type before struct {
	mode  uint32
	mtime int64
	loose bool // made writable for the time being
}

// errMoved says that a process changed the very thing that was being restored.
var errMoved = sandbox.Errorf(codeFailed, nil, "the workspace changed while it was being restored, so it was left as it is; stop the running commands and try again")

// touch opens a directory of the workspace, notes what it was and makes it
// writable for now. The descriptor belongs to a.
func (a *apply) touch(dir string) (int, error) {
	if fd, ok := a.opened[dir]; ok {
		return fd, nil
	}
	if len(a.opened) >= maxOpened {
		for dir, fd := range a.opened {
			unix.Close(fd)
			delete(a.opened, dir)
		}
	}
	fd, err := a.tree.openDir(dir)
	if err != nil {
		return -1, err
	}
	st, err := fstat(fd)
	if err == nil {
		err = a.mayChange(fd)
	}
	if err == nil {
		b := before{mode: st.mode & dirModeMask, mtime: st.mtime, loose: st.mode&0o300 != 0o300}
		if _, known := a.was[dir]; !known {
			a.was[dir] = b
		}
		if b.loose {
			err = unix.Fchmod(fd, b.mode|0o700)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	a.opened[dir] = fd
	return fd, nil
}

// maxOpened bounds the directories held open.
const maxOpened = 128

// swap carries out the operations. Each one done leaves its opposite in
// a.undo; rollback runs those.
func (a *apply) swap(ctx context.Context) error {
	for i := range a.plan.ops {
		if err := ctx.Err(); err != nil {
			return err
		}
		o := &a.plan.ops[i]
		dir, name := splitPath(o.path)
		if err := a.one(dir, name, o); err != nil {
			if why := unreadable(err); why == gone {
				return errMoved
			}
			if forbidden(err) {
				// The user learns of all of them at once.
				a.refused = append(a.refused, o.path)
				a.reason = err
				continue
			}
			return fail(err, "%s could not be restored and the workspace is as it was", quote(o.path))
		}
	}
	if len(a.refused) > 0 {
		return a.partly()
	}
	return a.settle()
}

// forbidden tells errors that are about one path.
func forbidden(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBUSY)
}

// maxNamed bounds each list of paths in an error.
const maxNamed = 6

// partly says what stands in the way of a restore and what could be restored
// without it.
func (a *apply) partly() error {
	top := func(path string) string { first, _, _ := strings.Cut(path, "/"); return first }
	var rest []string
	for i := range a.plan.ops {
		path := a.plan.ops[i].path
		if slices.Contains(a.refused, path) {
			continue
		}
		if !slices.ContainsFunc(a.refused, func(r string) bool { return top(r) == top(path) }) {
			path = top(path)
		}
		if !slices.Contains(rest, path) {
			rest = append(rest, path)
		}
	}
	what := names(a.refused) + " could not be restored (" + reason(a.reason) + "), so the workspace is as it was"
	if len(rest) == 0 {
		return sandbox.Errorf(codeFailed, a.reason, "%s; have its owner change it", what)
	}
	return sandbox.Errorf(codeFailed, a.reason, "%s; the rest can be restored with path: %s", what, names(rest))
}

func names(paths []string) string {
	var b strings.Builder
	for i, p := range paths[:min(len(paths), maxNamed)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quote(p))
	}
	if more := len(paths) - maxNamed; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

func (a *apply) one(dir, name string, o *op) error {
	if o.kind == opMeta {
		return a.inOpenDir(dir, func(fd int) error { return a.meta(dir, fd, name, o) })
	}
	fd, err := a.touch(dir)
	if err != nil {
		return err
	}
	if o.kind == opRemove {
		return a.away(dir, fd, name)
	}
	return a.install(dir, fd, name, o)
}

// inOpenDir opens a directory that need not be writable, or uses the open one.
func (a *apply) inOpenDir(dir string, fn func(fd int) error) error {
	if fd, ok := a.opened[dir]; ok {
		return fn(fd)
	}
	fd, err := a.tree.openDir(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fn(fd)
}

// movable lets an ordinary user rename a directory elsewhere: rename(2) must
// write its "..", and so wants write permission on the directory itself.
func (a *apply) movable(dir string, fd int, name string) error {
	st, err := lstatAt(fd, name)
	if err != nil || st.mode&unix.S_IFMT != unix.S_IFDIR || st.mode&0o200 != 0 {
		return err
	}
	if err := chmodAt(fd, name, st.mode&dirModeMask|0o700); err != nil {
		return err
	}
	a.undo = append(a.undo, func() error {
		return a.inOpenDir(dir, func(fd int) error { return chmodAt(fd, name, st.mode&dirModeMask) })
	})
	return nil
}

// away moves name into the private directory. One that is gone already is fine.
func (a *apply) away(dir string, fd int, name string) error {
	err := a.mayReplace(fd, name)
	if err == nil {
		err = a.movable(dir, fd, name)
	}
	old := "old" + strconv.Itoa(a.trash)
	if err == nil {
		err = moveName(fd, name, a.fd, old)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	a.trash++
	a.undo = append(a.undo, func() error {
		return a.inOpenDir(dir, func(fd int) error { return renameNew(a.fd, old, fd, name) })
	})
	return nil
}

// install puts the staged object at name, swapping it with what is there, so
// that no reader ever finds the name missing.
func (a *apply) install(dir string, fd int, name string, o *op) error {
	err := a.mayReplace(fd, name)
	if err == nil {
		err = a.movable(dir, fd, name)
	}
	if err == nil {
		err = exchange(a.fd, o.staged, fd, name)
		if err == nil {
			a.undo = append(a.undo, func() error {
				return a.inOpenDir(dir, func(fd int) error { return exchange(a.fd, o.staged, fd, name) })
			})
			return nil
		}
		// A file system without the exchange: two steps.
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) {
			err = a.away(dir, fd, name)
		}
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := renameNew(a.fd, o.staged, fd, name); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return errMoved
		}
		return err
	}
	a.undo = append(a.undo, func() error {
		return a.inOpenDir(dir, func(fd int) error { return unix.Renameat(fd, name, a.fd, o.staged) })
	})
	return nil
}

// meta sets what differs on the object itself, if it still is the one that was
// compared and has no other name.
func (a *apply) meta(dir string, fd int, name string, o *op) error {
	st, err := lstatAt(fd, name)
	if err != nil {
		return err
	}
	if st.ino != o.from.ino || st.dev != o.from.dev {
		return errMoved
	}
	if err := a.mayOwn(fd, name); err != nil {
		return err
	}
	back := *o.from
	back.mode, back.mtime = st.mode&fileModeMask, st.mtime
	a.undo = append(a.undo, func() error {
		return a.inOpenDir(dir, func(fd int) error { return setMeta(fd, name, &back, st.ino) })
	})
	return setMeta(fd, name, o.to, st.ino)
}

func setMeta(dir int, name string, e *entry, ino uint64) error {
	if e.kind == kindFile {
		fd, err := openat(dir, name, openFileFlags)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		st, err := fstat(fd)
		if err != nil {
			return err
		}
		if st.mode&unix.S_IFMT != unix.S_IFREG || st.ino != ino || st.nlink > 1 {
			return errMoved
		}
		if err := writeXattrs(fd, e.xattrs); err != nil {
			return err
		}
		if err := unix.Fchmod(fd, e.mode); err != nil {
			return err
		}
	}
	return setTimes(dir, name, e.mtime)
}

// settle gives directories their modes and times, the deepest first, since a mode
// can shut out what is below. The root's come last of all, in finish: the
// private directory is still in it.
func (a *apply) settle() error {
	fixed := map[string]bool{}
	for i := len(a.plan.dirs) - 1; i >= 0; i-- {
		f := a.plan.dirs[i]
		fixed[f.to.path] = true
		if f.to.path == "" {
			continue
		}
		if err := a.setDir(f.to, f.from == nil); err != nil {
			return err
		}
		if f.from != nil {
			a.undo = append(a.undo, func() error { return a.setDir(f.from, false) })
		}
	}
	// Directories the target does not have, kept for what is in them.
	for dir, b := range a.was {
		if dir != "" && b.loose && !fixed[dir] {
			if err := a.reset(dir, b, false); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *apply) setDir(e *entry, chown bool) error {
	if e.path == "" {
		return a.inOpenDir("", func(fd int) error { return a.r.setDir(fd, ".", e, chown) })
	}
	dir, name := splitPath(e.path)
	return a.inOpenDir(dir, func(fd int) error {
		if !chown {
			if err := a.mayOwn(fd, name); err != nil {
				return err
			}
		}
		return a.r.setDir(fd, name, e, chown)
	})
}

// reset gives a touched directory back what it had.
func (a *apply) reset(dir string, b before, times bool) error {
	return a.inOpenDir(dir, func(fd int) error {
		if times {
			if err := setTimes(fd, ".", b.mtime); err != nil {
				return err
			}
		}
		if b.loose {
			return unix.Fchmod(fd, b.mode)
		}
		return nil
	})
}

// finish puts the root right once the private directory, which changed its time,
// is gone.
func (a *apply) finish(restored bool) {
	inRoot := func(o op) bool { return o.kind != opMeta && !strings.Contains(o.path, "/") }
	err := error(nil)
	if b, ok := a.was[""]; ok {
		err = a.reset("", b, !restored || !slices.ContainsFunc(a.plan.ops, inRoot))
	}
	if restored && err == nil && len(a.plan.dirs) > 0 && a.plan.dirs[0].to.path == "" {
		err = a.setDir(a.plan.dirs[0].to, false)
	}
	if err != nil {
		a.r.log.Warn("the workspace directory's own mode and time could not be set", "cause", err)
	}
}

// rollback undoes what was done, last first, and then the directories' times.
func (a *apply) rollback() error {
	var first error
	note := func(err error) {
		if err != nil && first == nil {
			first = err
		}
	}
	for i := len(a.undo) - 1; i >= 0; i-- {
		note(a.undo[i]())
	}
	dirs := slices.Collect(maps.Keys(a.was))
	slices.SortFunc(dirs, func(x, y string) int { return comparePaths(y, x) })
	for _, dir := range dirs {
		if dir != "" {
			note(a.reset(dir, a.was[dir], true))
		}
	}
	return first
}
