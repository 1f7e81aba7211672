package workspace

import (
	"context"
	"path"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// MoveResult tells what Move did.
type MoveResult struct {
	From, To string
	Copied   bool // it crossed file systems, so it was copied and then removed
}

// Move gives a file, link or directory another name, also from one grant to
// another. A destination that is a directory takes it inside under its old
// name; anything else that exists is refused and left alone. Links move as
// links.
func (f *FS) Move(ctx context.Context, src, dst string) (MoveResult, error) {
	var res MoveResult
	err := f.at(src, walkOptions{write: true}, func(from *resolved) error {
		st, err := from.stat()
		if err != nil {
			return err
		}
		if err := f.keepRoots(from, st); err != nil {
			return err
		}
		if kindOf(st) == KindDirectory {
			if err := f.scan(ctx, from); err != nil {
				return err
			}
		}
		to, err := f.destination(dst, from.name)
		if err = fromErrno(err, dst); sandbox.CodeOf(err) == codeNotFound {
			return f.missingParent(dst, err, "make it first, with mkdir")
		} else if err != nil {
			return err
		}
		defer to.close()
		res = MoveResult{From: from.display(), To: to.display()}
		if err := f.permitMove(from, to, st); err != nil {
			return err
		}
		done, err := takeTurns(ctx, []int{from.fd, to.fd}, src)
		if err != nil {
			return err
		}
		defer done()
		err = renameNoReplace(from.fd, from.name, to.fd, to.name)
		if err == unix.EXDEV {
			res.Copied = true
			err = f.moveByCopy(ctx, from, to, st)
		}
		if err == unix.EEXIST || err == unix.ENOTEMPTY {
			return fromErrno(unix.EEXIST, dst)
		}
		if err != nil {
			return err
		}
		syncDir(to.fd)
		syncDir(from.fd)
		return nil
	})
	return res, err
}

// destination is the place dst names for something called name.
func (f *FS) destination(dst, name string) (*resolved, error) {
	to, err := f.walk(dst, walkOptions{follow: true, write: true})
	if err != nil {
		return nil, err
	}
	st, err := to.stat()
	to.close()
	switch {
	case err == unix.ENOENT:
	case err != nil:
		return nil, err
	case kindOf(st) == KindDirectory:
		dst = path.Join(dst, name)
	default:
		return nil, unix.EEXIST
	}
	to, err = f.walk(dst, walkOptions{write: true})
	if err == nil && (to.isRoot() || to.root.leaf != "") {
		to.close()
		return nil, unix.EEXIST
	}
	return to, err
}

func (f *FS) permitMove(from, to *resolved, st *unix.Stat_t) error {
	if from.root == to.root && hasPrefix(to.comps, from.comps) {
		return fail(codeInvalid, "%s cannot be moved into itself; choose another destination", quote(from.given))
	}
	// Whatever takes the place of a parent of a protected path would bring its
	// own content there.
	return f.permitNonDirectory(to)
}

// moveByCopy copies to a temporary name next to the destination, takes the name,
// and only then removes the source.
func (f *FS) moveByCopy(ctx context.Context, from, to *resolved, st *unix.Stat_t) error {
	tmp := tempName()
	c := remover{fs: f, ctx: context.WithoutCancel(ctx), given: from.given}
	if err := f.copyTree(ctx, from.fd, from.name, to.fd, tmp, from.given, 0); err != nil {
		if _, serr := statAt(to.fd, tmp); serr == nil {
			c.removeAny(to.fd, tmp)
		}
		return err
	}
	if err := renameNoReplace(to.fd, tmp, to.fd, to.name); err != nil {
		c.removeAny(to.fd, tmp)
		return err
	}
	return c.removeAny(from.fd, from.name)
}

// removeAny removes a name of any kind, without asking held.
func (r *remover) removeAny(dir int, name string) error {
	st, err := statAt(dir, name)
	if err != nil {
		return err
	}
	if kindOf(st) == KindDirectory {
		return r.remove(dir, name, "")
	}
	return unix.Unlinkat(dir, name, 0)
}
