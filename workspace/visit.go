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
	all       bool // ignore files and version control directories are no reason to leave out
	visit     func(visited) error
	truncated bool              // something could not be visited
	leave     func(path string) // told of what ignore files leave out; or nil
	left      int               // names left out because they are hidden by policy

	fs     *FS
	base   string // absolute path of the start
	hidden *hiddenSet

	work *ignoreWork
}

// run visits everything below the directory p.
func (t *tour) run(f *FS, p *resolved) error {
	t.fs, t.base, t.hidden = f, p.absolute(), f.hiddenNow(t.ctx)
	fd, err := openSubdir(p.fd, p.name)
	if err != nil {
		return err
	}
	h := newDirHandle(fd)
	defer h.release()
	var rules *ignoreRules
	if !t.all {
		t.work = newIgnoreWork(t.ctx)
		if rules, err = f.inheritedIgnore(p, t.work); err != nil {
			return err
		}
	}
	return t.dir(h, append([]string(nil), p.comps...), "", rules, 0)
}

func (t *tour) dir(h *dirHandle, comps []string, rel string, rules *ignoreRules, depth int) error {
	entries, more, err := readEntries(t.ctx, h.fd)
	if err != nil {
		return err
	}
	t.truncated = t.truncated || more
	if !t.all {
		rules = readIgnore(h.fd, comps, rules, func(name string) bool { return hasEntry(entries, name) })
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
		if !t.all && rules != nil {
			out, err := rules.ignored(sub, isDir, t.work)
			if err != nil {
				return err
			}
			if out {
				if t.leave != nil {
					t.leave(strings.Join(sub, "/"))
				}
				continue
			}
		}
		path := e.name
		if rel != "" {
			path = rel + "/" + e.name
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
			t.truncated = t.truncated || err == unix.EACCES || err == unix.EMFILE
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
		err = t.dir(child, sub, path, rules, depth+1)
		child.release()
		if err != nil {
			return err
		}
	}
	return nil
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
