package workspace

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/deny"
)

// protection decides which paths of the workspace refuse changes. It looks at
// real components, after links, so an alias of a protected path is protected.
type protection struct {
	rooted [][]string // folded components from the workspace root
	deep   [][]string // folded components at any depth
	data   [][]string // the same, of what the tools alone may not change; "*" is any name
	except [][]string // at any depth: data does not cover these
	base   []string   // what data and except see in front of a path
	// ids are the inodes the rooted paths had when the workspace was opened.
	// A command may rename the parent of a protected directory; its inode goes
	// along and stays protected.
	ids  map[fileID]struct{}
	held []*os.File // keeps those inodes from being used for something else
	raw  [][]string // the rooted paths as configured, for finding them
}

func protectedError(given string) error {
	return fail(codeProtected, "%s is protected from changes in this workspace (the default list and --protect); ask the user to change it", quote(given))
}

func parseProtection(patterns []string) (*protection, error) {
	p := &protection{ids: map[fileID]struct{}{}}
	for _, pat := range patterns {
		rest, deep := strings.CutPrefix(pat, "**/")
		comps := split(rest)
		bad := len(comps) == 0 || strings.HasPrefix(pat, "/") || strings.ContainsRune(pat, 0)
		for _, c := range comps {
			bad = bad || c == ".." || c == "**"
		}
		if bad {
			return nil, fail(codeInvalid, "the protected path %q is not usable; give a path relative to the workspace such as .git/hooks or **/.envrc", pat)
		}
		if deep {
			p.deep = append(p.deep, foldAll(comps))
		} else {
			p.raw = append(p.raw, comps)
			p.rooted = append(p.rooted, foldAll(comps))
		}
	}
	return p, nil
}

// foldName maps names that some file system would take for the same name to
// one string.
func foldName(s string) string { return deny.Fold(s) }

func foldAll(comps []string) []string {
	out := make([]string, len(comps))
	for i, c := range comps {
		out[i] = foldName(c)
	}
	return out
}

func (p *protection) empty() bool { return len(p.rooted) == 0 && len(p.deep) == 0 }

// learn notes the inodes of the rooted paths that exist now. A path that runs
// through a link is left to its name.
func (p *protection) learn(dir *os.File) {
	for _, comps := range p.raw {
		fd, owned := int(dir.Fd()), false
		for i, name := range comps {
			flags := openDirFlags
			if i == len(comps)-1 {
				flags = openInodeFlags
			}
			next, err := retryEINTR(func() (int, error) { return unix.Openat(fd, name, flags, 0) })
			if owned {
				unix.Close(fd)
			}
			if owned = err == nil; !owned {
				break
			}
			fd = next
		}
		if !owned {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || kindOf(&st) == KindSymlink {
			unix.Close(fd)
			continue
		}
		p.ids[idOf(&st)] = struct{}{}
		p.held = append(p.held, os.NewFile(uintptr(fd), "protected"))
	}
}

// covers reports whether comps is a protected path or lies below one.
func (p *protection) covers(comps []string) bool {
	if p.empty() || len(comps) == 0 {
		return false
	}
	c := foldAll(comps)
	for _, pat := range p.rooted {
		if hasPrefix(c, pat) {
			return true
		}
	}
	return anyDepth(p.deep, c)
}

// parseData adds what the tools alone may not change.
func (p *protection) parseData(patterns []string) error {
	for _, pat := range patterns {
		rest, except := strings.CutPrefix(pat, "!")
		d, err := parseProtection([]string{rest})
		switch {
		case err != nil:
			return err
		case except:
			p.except = append(p.except, d.deep...)
		default:
			p.data = append(p.data, d.deep...)
		}
	}
	return nil
}

// coversData is covers for what the tools alone may not change.
func (p *protection) coversData(comps []string) bool {
	if len(p.data) == 0 {
		return false
	}
	c := slices.Concat(p.base, foldAll(comps))
	for _, pat := range p.except {
		if n := len(c) - len(pat); n >= 0 && hasPrefix(c[n:], pat) {
			c = c[:n+1] // the first name is the directory that the exception is of
			break
		}
	}
	for _, pat := range p.data {
		for i := 0; i+len(pat) <= len(c); i++ {
			if slices.EqualFunc(pat, c[i:i+len(pat)], func(want, name string) bool { return want == "*" || want == name }) {
				return true
			}
		}
	}
	return false
}

func anyDepth(pats [][]string, c []string) bool {
	for _, pat := range pats {
		for i := 0; i+len(pat) <= len(c); i++ {
			if hasPrefix(c[i:], pat) {
				return true
			}
		}
	}
	return false
}

// parentOf reports whether comps is a proper parent of a protected path, by
// name alone: moving, removing or replacing it would move, remove or replace
// what is protected. Patterns at any depth count where their first components
// match the end of comps.
func (p *protection) parentOf(comps []string) bool {
	if p.empty() {
		return false
	}
	c := foldAll(comps)
	for _, pat := range p.rooted {
		if len(c) < len(pat) && hasPrefix(pat, c) {
			return true
		}
	}
	for _, pat := range slices.Concat(p.deep, p.data) {
		for n := 1; n < len(pat) && n <= len(c); n++ {
			if hasPrefix(pat[:n], c[len(c)-n:]) {
				return true
			}
		}
	}
	return false
}

func hasPrefix(c, prefix []string) bool {
	if len(c) < len(prefix) {
		return false
	}
	for i := range prefix {
		if c[i] != prefix[i] {
			return false
		}
	}
	return true
}
