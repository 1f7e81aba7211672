package workspace

import (
	"slices"
	"strings"
)

// plainNames tells names that cannot begin a match of any protection, so that most
// paths of a large tree need no closer look.
type plainNames struct {
	names []string // folded: what a match can begin with
	// lengths has, for each first byte of a name, a bit for each length; bit 63 is 63
	// and more. Most other names differ in one of them.
	lengths [256]uint64
}

// plain is the test for the paths of the workspace alone: nil where another
// protected root lies in it or above it, since that sees other components.
func (f *FS) plain() *plainNames {
	ws := f.roots[0].real
	for _, r := range f.roots[1:] {
		if f.patternsOf(r) == nil {
			continue
		}
		_, in := below(ws, r.real)
		_, above := below(r.real, ws)
		if in || above {
			return nil
		}
	}
	p := new(plainNames)
	for _, patterns := range [][][]string{f.protect.rooted, f.protect.deep} {
		for _, comps := range patterns {
			if !p.add(comps[0]) {
				return nil
			}
		}
	}
	for name := range bareObeyed {
		if !p.add(name) {
			return nil
		}
	}
	return p
}

// add takes a folded name; false is one of other characters than ASCII ones.
func (p *plainNames) add(name string) bool {
	for i := range len(name) {
		if name[i] >= 0x80 {
			return false
		}
	}
	if name != "" {
		p.names = append(p.names, name)
		p.lengths[name[0]] |= 1 << min(len(name), 63)
	}
	return true
}

// path says that no component of a clean relative path can begin a match. Names of
// other characters than ASCII ones are left to the closer look: folded, some of them
// are shorter.
func (p *plainNames) path(rel string) bool {
	from := 0
	for i := 0; i <= len(rel); i++ {
		if i < len(rel) && rel[i] != '/' {
			if rel[i] >= 0x80 {
				return false
			}
			continue
		}
		if i > from && p.has(rel[from:i]) {
			return false
		}
		from = i + 1
	}
	return true
}

// has compares an ASCII name with those that begin a match, in whatever case.
func (p *plainNames) has(name string) bool {
	c := name[0]
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return p.lengths[c]&(1<<min(len(name), 63)) != 0 &&
		slices.ContainsFunc(p.names, func(n string) bool { return strings.EqualFold(n, name) })
}
