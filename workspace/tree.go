package workspace

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// MkdirResult tells what Mkdir did.
type MkdirResult struct {
	Path    string
	Created bool // false when the directory was there already
}

// Mkdir makes a directory; with parents, the missing ones on the way too. A
// directory that exists already is not an error; a missing parent is named.
func (f *FS) Mkdir(ctx context.Context, path string, parents bool) (MkdirResult, error) {
	var res MkdirResult
	err := f.at(path, walkOptions{follow: true, write: true, parents: parents}, func(p *resolved) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		res = MkdirResult{Path: p.display()}
		if p.root.leaf != "" {
			return unix.EEXIST
		}
		if p.isRoot() {
			return nil
		}
		err := f.mkdirAt(p.fd, p.name)
		if err == unix.EEXIST {
			st, serr := p.stat()
			if serr != nil || kindOf(st) == KindSymlink {
				return errSwapped
			}
			if kindOf(st) == KindDirectory {
				return nil
			}
		}
		if err != nil {
			return err
		}
		res.Created = true
		return nil
	})
	if sandbox.CodeOf(err) == codeNotFound && !parents {
		err = f.missingParent(path, err, "set recursive to make that as well")
	}
	return res, err
}

// missingParent says why path could not be made when err says that something is not
// there: which directory, or that the place is protected; next is what to do about the
// directory.
func (f *FS) missingParent(path string, err error, next string) error {
	parent := ""
	walkErr := f.at(path, walkOptions{follow: true, write: true, mayMiss: true}, func(p *resolved) error {
		if p.missing != nil {
			parent = p.display()
		}
		return nil
	})
	switch {
	case parent != "":
		return fail(codeNotFound, "%s cannot be made because its parent directory %s does not exist; %s", quote(path), quote(parent), next)
	case sandbox.CodeOf(walkErr) == codeProtected:
		return walkErr
	}
	return err
}

// RemoveResult tells what Remove did.
type RemoveResult struct {
	Path    string
	Kind    Kind
	Removed int // names removed, the path itself included; 0 when there was nothing
}

// Remove removes a file, a link (never what it points to), an empty directory,
// or with recursive a whole tree; nothing to remove is then no error, as with
// rm -rf. The workspace and grants themselves stay.
func (f *FS) Remove(ctx context.Context, path string, recursive bool) (RemoveResult, error) {
	var res RemoveResult
	err := f.at(path, walkOptions{write: true}, func(p *resolved) error {
		st, err := p.stat()
		if err != nil {
			return err
		}
		if err := f.keepRoots(p, st); err != nil {
			return err
		}
		res = RemoveResult{Path: p.display(), Kind: kindOf(st)}
		done, err := takeTurn(ctx, p.fd, path)
		if err != nil {
			return err
		}
		defer done()
		if res.Kind != KindDirectory {
			if err := unix.Unlinkat(p.fd, p.name, 0); err != nil {
				return err
			}
			res.Removed = 1
			syncDir(p.fd)
			return nil
		}
		if !recursive {
			if err := unix.Unlinkat(p.fd, p.name, unix.AT_REMOVEDIR); err != nil {
				if err == unix.EEXIST { // allowed by POSIX for a directory that is not empty
					err = unix.ENOTEMPTY
				}
				return err
			}
			res.Removed = 1
			return nil
		}
		if err := f.scan(ctx, p); err != nil {
			return err
		}
		r := remover{fs: f, ctx: ctx, given: path, check: true}
		err = r.remove(p.fd, p.name, p.absolute())
		res.Removed = r.count
		return err
	})
	if recursive && res.Removed == 0 && sandbox.CodeOf(err) == codeNotFound {
		return RemoveResult{Path: path}, f.permitMissing(path)
	}
	return res, err
}

// permitMissing asks policy about the whole of a path that is not there: what
// may not be touched is not said to be gone either.
func (f *FS) permitMissing(path string) error {
	return f.at(path, walkOptions{write: true, mayMiss: true}, func(p *resolved) error {
		whole := *p
		whole.owned = false
		whole.comps = append(append([]string(nil), p.comps...), p.missing...)
		return f.permit(&whole)
	})
}

// keepRoots refuses to remove or move what a root descriptor stands for, also
// when a grant is nested in the workspace.
func (f *FS) keepRoots(p *resolved, st *unix.Stat_t) error {
	named := p.isRoot() || p.root.leaf != ""
	for _, r := range f.roots {
		named = named || r.leaf == "" && r.id == idOf(st) || r.leaf != "" && r.real == p.absolute()
	}
	if named {
		return fail(codeInvalid, "%s is the workspace or a grant itself; name something inside it", quote(p.given))
	}
	return nil
}

// held reports what stops a tree from being moved or removed: a protected or
// hidden path or a grant in it. at is the absolute path of dir/name.
func (f *FS) held(at string, dir int, name string, kind Kind, given string) error {
	if f.guards(at) {
		return fail(codeProtected, "%s holds a protected path; ask the user to change it", quote(given))
	}
	if len(f.roots) == 1 && len(f.protect.ids) == 0 && !f.hides() {
		return nil
	}
	st, err := statAt(dir, name)
	if err != nil {
		return nil // gone
	}
	if f.hiddenBelow(at, st) {
		return fail(codePermission, "%s holds a path that is hidden from this session; work on its other parts one by one", quote(given))
	}
	if _, ok := f.protect.ids[idOf(st)]; ok {
		return fail(codeProtected, "%s holds a protected path; ask the user to change it", quote(given))
	}
	if kind == KindDirectory {
		for _, r := range f.roots {
			if r.leaf == "" && r.id == idOf(st) {
				return fail(codePermission, "%s holds a granted directory; name something inside it", quote(given))
			}
		}
	}
	return nil
}

// maxDepth bounds recursion, which holds one descriptor a level.
const maxDepth = 200

// scan looks through the tree at p for anything held before a part of it is
// touched.
func (f *FS) scan(ctx context.Context, p *resolved) error {
	if f.protect.empty() && len(f.roots) == 1 && !f.hides() {
		return nil
	}
	return f.scanTree(ctx, p.fd, p.name, p.absolute(), p.given, 0)
}

func (f *FS) scanTree(ctx context.Context, dir int, name, at, given string, depth int) error {
	fd, err := openSubdir(dir, name)
	if err != nil {
		if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
			return nil
		}
		return err
	}
	defer unix.Close(fd)
	entries, more, err := readEntries(ctx, fd)
	if err != nil {
		return err
	}
	if more || depth > maxDepth {
		return fail(codeLimit, "%s is too large to be checked for protected paths; work on its parts one by one", quote(given))
	}
	for _, e := range entries {
		sub := at + "/" + e.name
		if err := f.held(sub, fd, e.name, e.kind, given); err != nil {
			return err
		}
		if e.kind == KindDirectory {
			if err := f.scanTree(ctx, fd, e.name, sub, given, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// remover removes trees by descriptor: a directory swapped for a link under it
// is removed as a link.
type remover struct {
	fs    *FS
	ctx   context.Context
	given string
	check bool // ask held for every name again
	count int
}

func (r *remover) remove(dir int, name, at string) error {
	// Trees deeper than the descriptors allow are flattened: a directory too
	// deep moves up next to the top one and is removed from there.
	pending := []string{name}
	for len(pending) > 0 {
		top := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		deeper, err := r.tree(dir, top, dir, at, 0)
		if err != nil {
			return err
		}
		if len(deeper) > 0 {
			pending = append(append(pending, top), deeper...)
		}
	}
	return nil
}

// tree removes dir/name and below. deeper are directories it moved into topDir
// instead; then the tree is not gone yet.
func (r *remover) tree(dir int, name string, topDir int, at string, depth int) (deeper []string, err error) {
	fd, err := openSubdir(dir, name)
	if err == unix.EACCES {
		unix.Fchmodat(dir, name, 0o700, unix.AT_SYMLINK_NOFOLLOW)
		fd, err = openSubdir(dir, name)
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for {
		entries, more, err := readEntries(r.ctx, fd)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if err := r.ctx.Err(); err != nil {
				return nil, err
			}
			sub := at + "/" + e.name
			if r.check {
				if err := r.fs.held(sub, fd, e.name, e.kind, r.given); err != nil {
					return nil, err
				}
			}
			if e.kind == KindDirectory {
				if depth >= maxDepth {
					moved := tempName()
					if err := unix.Renameat(fd, e.name, topDir, moved); err != nil {
						return nil, err
					}
					deeper = append(deeper, moved)
					continue
				}
				d, err := r.tree(fd, e.name, topDir, sub, depth+1)
				if err == nil || err == unix.ENOENT {
					deeper = append(deeper, d...)
					continue
				}
				if err != unix.ENOTDIR && err != unix.ELOOP {
					return nil, err
				}
				// Swapped for something else: remove that as what it is.
			}
			if err := r.unlink(fd, e.name, 0); err != nil && err != unix.ENOENT {
				return nil, err
			}
		}
		if !more {
			break
		}
	}
	if len(deeper) > 0 {
		return deeper, nil
	}
	return nil, r.unlink(dir, name, unix.AT_REMOVEDIR)
}

// unlink makes the directory writable once if that is what stands in the way,
// as read-only module caches need.
func (r *remover) unlink(dir int, name string, flags int) error {
	err := unix.Unlinkat(dir, name, flags)
	if err == unix.EACCES {
		var st unix.Stat_t
		if unix.Fstat(dir, &st) == nil && uint32(st.Mode)&0o200 == 0 && int(st.Uid) == os.Geteuid() {
			if fd, oerr := openSubdir(dir, "."); oerr == nil {
				unix.Fchmod(fd, uint32(st.Mode)&0o7777|0o700)
				unix.Close(fd)
				err = unix.Unlinkat(dir, name, flags)
			}
		}
	}
	if err == nil {
		r.count++
	}
	return err
}
