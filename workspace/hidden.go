package workspace

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"mcp-sandbox/deny"
)

// Hidden files are refused by the names a walk really took, and by inode: the
// exact paths of Options.Deny wherever they have been moved, and every further
// name (hard link) of a hidden file.

func hiddenError(given string) error {
	return fail(codePermission, "%s is hidden from this session (--deny-read, --deny-secrets or the server's own files); go on without it or ask the user", quote(given))
}

// hides says whether anything is hidden at all.
func (f *FS) hides() bool { return !f.opts.Deny.Empty() }

// learnHidden notes the inodes of the exact paths as they are now, and keeps
// them from being used for something else.
func (f *FS) learnHidden() {
	f.hiddenIDs = map[fileID]struct{}{}
	for _, p := range f.opts.Deny.Paths() {
		dir, name := f.hiddenAt(p)
		fd, err := retryEINTR(func() (int, error) { return unix.Openat(dir, name, openInodeFlags, 0) })
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || f.holdsRoot(p) {
			unix.Close(fd)
			continue
		}
		f.hiddenIDs[idOf(&st)] = struct{}{}
		f.hiddenHeld = append(f.hiddenHeld, os.NewFile(uintptr(fd), "hidden"))
	}
}

// hiddenAt is where the absolute path of what is hidden is looked up: in a staged
// workspace, as the session has it.
func (f *FS) hiddenAt(p string) (dir int, name string) {
	if rel, ok := below(f.roots[0].real, p); ok && rel != "" && f.opts.Staged != nil {
		return int(f.roots[0].dir.Fd()), rel
	}
	return unix.AT_FDCWD, p
}

// holdsRoot says that p is the workspace or a parent of it, which hides what is
// elsewhere below p and not the workspace.
func (f *FS) holdsRoot(p string) bool {
	_, ok := below(p, f.roots[0].real)
	return ok
}

// hiddenSet is what is hidden by inode, as looked up for one call. A nil set
// hides nothing.
type hiddenSet struct {
	f     *FS
	ctx   context.Context
	ids   map[fileID]struct{}
	once  sync.Once
	links map[fileID]struct{}
	all   bool // the names could not all be looked at: no file with several is shown
}

// hiddenNow looks the exact paths up again: one that appeared or was replaced
// since Open is hidden as well.
func (f *FS) hiddenNow(ctx context.Context) *hiddenSet {
	if !f.hides() {
		return nil
	}
	h := &hiddenSet{f: f, ctx: ctx, ids: map[fileID]struct{}{}}
	for _, p := range f.opts.Deny.Paths() {
		var st unix.Stat_t
		dir, name := f.hiddenAt(p)
		if unix.Fstatat(dir, name, &st, 0) == nil && !f.holdsRoot(p) {
			h.ids[idOf(&st)] = struct{}{}
		}
	}
	return h
}

// has says whether the inode is hidden, by whatever name it was reached.
func (h *hiddenSet) has(st *unix.Stat_t) bool {
	return h != nil && h.hasID(idOf(st), kindOf(st) == KindFile && st.Nlink > 1)
}

// hasID is has for an inode; linked says that it is a file with several names.
func (h *hiddenSet) hasID(id fileID, linked bool) bool {
	if _, ok := h.ids[id]; ok {
		return true
	}
	if _, ok := h.f.hiddenIDs[id]; ok {
		return true
	}
	// In an overlay each name of a file has an inode of its own.
	if !linked || !h.f.opts.Deny.Wild() && h.f.opts.Staged == nil {
		return false
	}
	h.once.Do(func() {
		found, err := h.f.opts.Deny.Scan(h.ctx)
		h.all = err != nil || found.Partial
		h.links = map[fileID]struct{}{}
		for _, m := range found.Matches {
			if id, ok := h.f.shownID(m); ok {
				h.links[id] = struct{}{}
			}
		}
	})
	_, found := h.links[id]
	return found || h.all
}

// shownID is the inode that a walk meets where Scan found a match: Scan reads the
// names of the host.
func (f *FS) shownID(m deny.Match) (fileID, bool) {
	rel, ok := below(f.roots[0].real, m.Path)
	if !ok || f.opts.Staged == nil {
		return fileID{m.ID.Dev, m.ID.Ino}, true
	}
	st, err := statAt(int(f.roots[0].dir.Fd()), rel)
	if err != nil {
		return fileID{}, false
	}
	return idOf(st), true
}

// hiddenName says whether a name in the directory p stands in is hidden.
func (f *FS) hiddenName(p *resolved, name string) bool {
	return f.hides() && (p.root.hidden || f.opts.Deny.CoversEntry(p.absolute(), name))
}

// checkEnd refuses a walk that ends at something hidden: by name, or by the
// inode that is there now.
func (f *FS) checkEnd(p *resolved, h *hiddenSet) error {
	if h == nil {
		return nil
	}
	hidden := p.root.hidden
	if !p.isRoot() {
		at := p.absolute()
		hidden = hidden || f.opts.Deny.CoversEntry(filepath.Dir(at), filepath.Base(at))
		for _, m := range p.missing {
			hidden = hidden || f.opts.Deny.CoversEntry(at, m)
			at = path.Join(at, m)
		}
	}
	if !hidden && p.missing == nil {
		if st, err := p.stat(); err == nil {
			hidden = h.has(st)
		}
	}
	if hidden {
		return hiddenError(p.given)
	}
	return nil
}

// hiddenBelow is what a tree or its parent holds that is hidden; at is absolute.
func (f *FS) hiddenBelow(at string, st *unix.Stat_t) bool {
	if !f.hides() {
		return false
	}
	if _, ok := f.hiddenIDs[idOf(st)]; ok {
		return true
	}
	return f.opts.Deny.CoversEntry(path.Dir(at), path.Base(at))
}
