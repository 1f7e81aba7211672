package workspace

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Protection holds below every root that can be written: the workspace has one
// list, the other grants another (Options.Protect, Options.ProtectGrants). What a
// protected name leads to by links is protected like the name, and so are the
// links.

// patternsOf is the protection of a root, nil for none.
func (f *FS) patternsOf(r *root) *protection {
	switch {
	case r == f.roots[0]:
		return f.protect
	case r.readOnly || r.leaf != "":
		return nil
	}
	return f.protectGrants
}

// eachRoot calls fn with the components of abs below every protected root that
// contains it, until fn is true.
func (f *FS) eachRoot(abs string, fn func(p *protection, comps []string) bool) bool {
	for _, r := range f.roots {
		p := f.patternsOf(r)
		if p == nil || p.empty() {
			continue
		}
		rel, ok := below(r.real, abs)
		if !ok {
			continue
		}
		comps := split(rel)
		if fn(p, comps) {
			return true
		}
		// A grant of a repository's .git has what is protected in it by its own name.
		if base := path.Base(r.real); r != f.roots[0] && fn(p.below(base), comps) {
			return true
		}
	}
	return false
}

// below is the protection that patterns of the form base/rest give inside base.
func (p *protection) below(base string) *protection {
	out := &protection{data: p.data, except: p.except, base: []string{foldName(base)}}
	for _, pat := range [][][]string{p.rooted, p.deep} {
		for _, c := range pat {
			if len(c) > 1 && c[0] == foldName(base) {
				out.rooted = append(out.rooted, c[1:])
			}
		}
	}
	return out
}

// guards says whether the absolute path is protected or lies below what is.
func (f *FS) guards(abs string) bool {
	return f.eachRoot(abs, func(p *protection, comps []string) bool { return p.coversData(comps) }) || f.guardsAll(abs)
}

// guardsAll is guards for what no tool and no restore may change.
func (f *FS) guardsAll(abs string) bool {
	if f.eachRoot(abs, func(p *protection, comps []string) bool { return p.covers(comps) }) {
		return true
	}
	if t := f.targets.Load(); t != nil {
		for _, at := range *t {
			if _, ok := below(at, foldName(abs)); ok {
				return true
			}
		}
	}
	return f.guardsBare(abs)
}

// guardsParent says whether the absolute path is a parent of a protected one.
func (f *FS) guardsParent(abs string) bool {
	if f.eachRoot(abs, func(p *protection, comps []string) bool { return len(comps) > 0 && p.parentOf(comps) }) {
		return true
	}
	if t := f.targets.Load(); t != nil {
		for _, at := range *t {
			if rel, ok := below(foldName(abs), at); ok && rel != "" {
				return true
			}
		}
	}
	return false
}

// learnTargets looks where the protected names that are links, or run through
// one, lead now. Names at any depth (**/) are not followed.
func (f *FS) learnTargets() {
	var found []string
	for _, r := range f.roots {
		p := f.patternsOf(r)
		if p == nil || r.leaf != "" {
			continue
		}
		for _, comps := range p.raw {
			for i := range comps {
				name := strings.Join(comps[:i+1], "/")
				var st unix.Stat_t
				// A link on the way would be followed here, but then the loop has
				// stopped at it.
				if unix.Fstatat(int(r.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
					break
				}
				if kindOf(&st) != KindSymlink {
					continue
				}
				at, err := f.walkFrom(r, comps, name, walkOptions{follow: true, mayMiss: true})
				if err == nil {
					abs := path.Join(append([]string{at.absolute()}, at.missing...)...)
					if !f.isRootPath(abs) {
						found = append(found, foldName(abs))
					}
					at.close()
				}
				break
			}
		}
	}
	f.targets.Store(&found)
}

// isRootPath says that abs is a root or above one: a link that leads there makes
// nothing in it protected.
func (f *FS) isRootPath(abs string) bool {
	for _, r := range f.roots {
		if _, ok := below(abs, r.real); ok {
			return true
		}
	}
	return false
}
