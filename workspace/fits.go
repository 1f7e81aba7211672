package workspace

import "golang.org/x/sys/unix"

// size is how long the file will be.
func (r *replacement) size() int64 {
	n := int64(len(r.content))
	if r.before != nil && r.old != nil {
		n += r.old.Size
	}
	return n
}

// fits refuses a file of size bytes in the place of old, nil for none, that the
// limits do not allow. Codes: too_large, and those of Options.Grow.
func (f *FS) fits(p *resolved, old *unix.Stat_t, size int64) error {
	was := int64(0)
	if old != nil {
		was = old.Size
	}
	return f.fitsAfter(p, was, size)
}

func (f *FS) fitsAfter(p *resolved, was, size int64) error {
	if size <= was {
		return nil
	}
	if most := f.opts.MaxFile; most > 0 && size > most {
		return fail(codeTooLarge, "%s would be %d bytes long and a file may have %d; write less into one file, or the operator can raise --limit-file-size", quote(p.given), size, most)
	}
	return f.grow(p.root, size-was)
}

// grow asks for room in the workspace.
func (f *FS) grow(r *root, n int64) error {
	if f.opts.Grow == nil || r != f.roots[0] || n <= 0 {
		return nil
	}
	return f.opts.Grow(n)
}
