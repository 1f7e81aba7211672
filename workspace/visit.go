package workspace

import (
	"context"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// dirHandle is an open directory shared by the visitor and the workers that
// open files in it.
type dirHandle struct {
	fd   int
	refs atomic.Int32
}

func newDirHandle(fd int) *dirHandle {
	h := &dirHandle{fd: fd}
	h.refs.Store(1)
	return h
}

func (h *dirHandle) retain() *dirHandle { h.refs.Add(1); return h }

func (h *dirHandle) release() {
	if h.refs.Add(-1) == 0 {
		unix.Close(h.fd)
	}
}

// visited is one entry met on a tour. dir stays open during the call only,
// unless retained.
type visited struct {
	dir  *dirHandle
	name string
	kind Kind
	rel  string // below the start of the tour
}

// tour walks a tree by descriptors, in the order of names, without following
// links.
type tour struct {
	ctx       context.Context
	all       bool // ignore files and version control directories do not leave anything out
	visit     func(visited) error
	truncated bool // there was too much to visit all of it
	left      int  // names left out because they are hidden by policy
	unread    Unread
	// ignored counts what ignore files left out; counts, when set, says which files
	// would have been of interest.
	ignored Ignored
	counts  func(rel, name string, kind Kind) bool
	leave   func(path string) // told of what ignore files leave out; or nil

	fs     *FS
	root   *root
	base   string // absolute path of the start
	hidden *hiddenSet

	work *ignoreWork
}

// Unread are names that could not be opened: permissions, mostly.
type Unread struct {
	Names []string // the first of them
	Count int
}

func (u *Unread) add(name string) {
	const most = 5
	if u.Count++; len(u.Names) < most {
		u.Names = append(u.Names, name)
	}
}

// below gives the names as callers know them.
func (u Unread) below(display string) Unread {
	names := make([]string, len(u.Names))
	for i, n := range u.Names {
		names[i] = joinDisplay(display, n)
	}
	u.Names = names
	return u
}

// Ignored counts what ignore files left out. What a directory holds is not
// counted: it was not looked into.
type Ignored struct{ Files, Directories int }

// run visits everything below the directory p.
func (t *tour) run(f *FS, p *resolved) error {
	t.fs, t.base, t.hidden = f, p.absolute(), f.hiddenNow(t.ctx)
	fd, err := openSubdir(p.fd, p.name)
	if err != nil {
		return err
	}
	h := newDirHandle(fd)
	defer h.release()
	at := place{comps: append([]string(nil), p.comps...)}
	if !t.all {
		t.root, t.work = p.root, newIgnoreWork(t.ctx)
		if at.rules, err = f.inheritedIgnore(p, t.work); err != nil {
			return err
		}
		at.repo = f.repositoryOf(p.root, p.comps)
	}
	return t.dir(h, at, 0)
}

// place is a directory on a tour.
type place struct {
	comps []string // below the root
	rel   string   // below the start of the tour
	rules *ignoreRules
	repo  *repository
	// tracked says that the directory is ignored and visited for the tracked files
	// in it alone.
	tracked bool
}

// leavesOut tells whether ignore files leave out an entry of the directory, and
// whether it is one that is ignored except for the tracked files in it.
func (t *tour) leavesOut(at *place, sub []string, isDir bool) (out, tracked bool, err error) {
	say := ignoredByGit
	if !at.tracked {
		if at.rules == nil {
			return false, false, nil
		}
		if say, err = at.rules.judge(sub, isDir, t.work); err != nil || say == wanted {
			return false, false, err
		}
	}
	if say == ignoredByGit && at.repo.has(sub, isDir) {
		return false, isDir, nil
	}
	return true, false, nil
}

func (t *tour) dir(h *dirHandle, in place, depth int) error {
	comps, rel := in.comps, in.rel
	entries, more, err := readEntries(t.ctx, h.fd)
	if err != nil {
		return err
	}
	t.truncated = t.truncated || more
	if !t.all {
		in.rules = readIgnore(h.fd, comps, in.rules, func(name string) bool { return hasEntry(entries, name) })
		if rel != "" && hasEntry(entries, ".git") {
			in.repo, in.tracked = t.fs.repositoryOf(t.root, comps), false
		}
	}
	at := t.base
	if t.hidden != nil && rel != "" {
		at += "/" + rel
	}
	for _, e := range entries {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		isDir := e.kind == KindDirectory
		if strings.HasPrefix(e.name, tempPrefix) || !t.all && isDir && controlDir(e.name) {
			continue
		}
		sub := append(comps, e.name)
		path := e.name
		if rel != "" {
			path = rel + "/" + e.name
		}
		trackedOnly := false
		if !t.all {
			out, only, err := t.leavesOut(&in, sub, isDir)
			if err != nil {
				return err
			}
			if out && t.leave != nil {
				t.leave(path)
			}
			switch trackedOnly = only; {
			case out && isDir:
				t.ignored.Directories++
				continue
			case out:
				if t.counts == nil || t.counts(path, e.name, e.kind) {
					t.ignored.Files++
				}
				continue
			}
		}
		if t.hidden != nil && t.fs.opts.Deny.CoversEntry(at, e.name) {
			t.left++
			continue
		}
		if err := t.visit(visited{h, e.name, e.kind, path}); err != nil {
			return err
		}
		if !isDir {
			continue
		}
		if depth >= maxDepth {
			t.truncated = true
			continue
		}
		fd, err := openSubdir(h.fd, e.name)
		if err != nil {
			// Unreadable or swapped; the rest of the tree is still worth a look.
			if unreadable(err) {
				t.unread.add(path)
			}
			continue
		}
		if t.hidden != nil {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil || t.hidden.has(&st) {
				unix.Close(fd)
				t.left++
				continue
			}
		}
		child := newDirHandle(fd)
		err = t.dir(child, place{sub, path, in.rules, in.repo, trackedOnly}, depth+1)
		child.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// unreadable tells failures to open what is there from those of names that are
// gone or were swapped for something else.
func unreadable(err error) bool {
	return err == unix.EACCES || err == unix.EPERM || err == unix.EIO || err == unix.EMFILE || err == unix.ENFILE
}

// hasEntry looks name up in sorted entries.
func hasEntry(entries []dirEntry, name string) bool {
	lo, hi := 0, len(entries)
	for lo < hi {
		if mid := (lo + hi) / 2; entries[mid].name < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(entries) && entries[lo].name == name
}
