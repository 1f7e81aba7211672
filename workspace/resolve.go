package workspace

import (
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxPath  = 4096 // PATH_MAX of Linux; longer input cannot name anything
	maxLinks = 40   // MAXSYMLINKS of Linux, path_resolution(7)
	// maxSteps bounds one walk in all, since ".." in link targets starts it
	// again from the root.
	maxSteps = 16384
	// maxSwaps bounds how often a call starts over because a name changed
	// under it; an attacker may swap names for ever.
	maxSwaps = 64
)

// resolved is where a walk ended: a name in an open directory. Only the pair
// (fd, name) is given to system calls; comps is for policy and for show.
type resolved struct {
	fs    *FS
	root  *root
	fd    int    // directory that holds name
	owned bool   // fd is ours to close
	name  string // "." when the place is the root itself
	comps []string
	given string
	// inReadOnlyGrant says that a directory on the way is a read-only grant.
	inReadOnlyGrant bool
	// protected says that one is a protected directory under another name.
	protected bool
	missing   []string // components after name that do not exist, when walked so
	made      int      // the last of comps, made by the walk
}

func (p *resolved) close() {
	if p.owned {
		unix.Close(p.fd)
		p.owned = false
	}
}

func (p *resolved) isRoot() bool { return p.name == "." }

// absolute is the path on the host; it is shown only when inside a grant.
func (p *resolved) absolute() string {
	return filepath.Join(append([]string{p.root.real}, p.comps...)...)
}

// display is the path as the model should use it.
func (p *resolved) display() string {
	if p.inWorkspace() {
		if comps := p.workspaceComps(); len(comps) > 0 {
			return strings.Join(comps, "/")
		}
		return "."
	}
	return filepath.Join(append([]string{p.root.given}, p.comps...)...)
}

func (p *resolved) stat() (*unix.Stat_t, error) { return statAt(p.fd, p.name) }

// walkOptions say how a walk treats its end.
type walkOptions struct {
	follow  bool // follow a link in the last component
	write   bool // the place is going to be changed: apply policy
	parents bool // make missing directories on the way
	// mayMiss lets a walk end at the first missing directory, leaving the rest
	// in place.missing.
	mayMiss bool
}

// checkPath refuses what can never be a path.
func checkPath(p string) error {
	switch {
	case strings.ContainsRune(p, 0):
		return fail(codeInvalid, "the path holds a NUL byte; remove it")
	case len(p) > maxPath:
		return fail(codeInvalid, "the path is %d bytes long and at most %d are possible; shorten it", len(p), maxPath)
	}
	return nil
}

func outside(given string) error {
	return fail(codeOutside, "%s is outside the workspace and was not granted; use a path inside the workspace or ask the user to grant it with --read or --write", quote(given))
}

// locate maps a cleaned absolute path to a root and the components below it:
// the deepest root that contains it by name. The result is only a place to
// start walking.
func (f *FS) locate(abs string) (*root, []string, bool) {
	var best *root
	var rest string
	depth := -1
	for _, r := range f.roots {
		for _, base := range []string{r.given, r.real} {
			rel, ok := below(base, abs)
			if d := strings.Count(base, "/"); ok && (d > depth) {
				best, rest, depth = r, rel, d
			}
		}
	}
	if f.opts.Alias != "" {
		if rel, ok := below(f.opts.Alias, abs); ok && depth < 1 {
			best, rest = f.roots[0], rel
		}
	}
	if best == nil {
		best, rest = f.locateAlias(abs)
	}
	if best == nil {
		return nil, nil, false
	}
	return best, split(rest), true
}

// locateAlias accepts a root reached by another name (a link to it, or other
// case where the file system folds case) by comparing inodes of the prefixes of
// abs. Nothing is opened by that name: a match only says which descriptor to
// start from. The kernel's own alias trees are left out, they exist to lead
// elsewhere (proc_pid_root(5)).
func (f *FS) locateAlias(abs string) (*root, string) {
	for _, k := range []string{"/proc", "/sys", "/dev/fd"} {
		if _, ok := below(k, abs); ok {
			return nil, ""
		}
	}
	const most = 64
	prefix := abs
	for i := 0; i < most && prefix != "/"; i++ {
		var st unix.Stat_t
		if err := unix.Stat(prefix, &st); err == nil {
			for _, r := range f.roots {
				if r.leaf == "" && r.named == idOf(&st) {
					rel, _ := below(prefix, abs)
					return r, rel
				}
			}
		}
		prefix = filepath.Dir(prefix)
	}
	return nil, ""
}

// below reports whether p is base or inside it, component by component: a
// sibling that merely shares the prefix is not (CVE-2025-53110).
func below(base, p string) (rel string, ok bool) {
	if p == base {
		return "", true
	}
	if !strings.HasSuffix(base, "/") {
		base += "/"
	}
	return strings.CutPrefix(p, base)
}

func split(p string) []string {
	var out []string
	for _, c := range strings.Split(p, "/") {
		if c != "" && c != "." {
			out = append(out, c)
		}
	}
	return out
}

// walk resolves given to a place. ".." in given is folded as text, as the
// model reads it; ".." in the target of a link is taken where it stands.
func (f *FS) walk(given string, o walkOptions) (*resolved, error) {
	if err := checkPath(given); err != nil {
		return nil, err
	}
	abs := given
	if !strings.HasPrefix(given, "/") {
		abs = f.roots[0].real + "/" + given
	}
	r, comps, ok := f.locate(path.Clean(abs))
	if !ok {
		return nil, outside(given)
	}
	if o.write && f.opts.ReadOnly {
		return nil, fail(codePermission, "this workspace is read-only; write somewhere else or ask the user")
	}
	if o.write {
		f.learnTargets()
	}
	return f.walkFrom(r, comps, given, o)
}

// locateLink is locate for the target of an absolute link, whose ".." must not
// be folded as text: only the part before the first ".." picks the root.
func (f *FS) locateLink(target string) (*root, []string, bool) {
	comps := split(target)
	head := len(comps)
	for i, c := range comps {
		if c == ".." {
			head = i
			break
		}
	}
	r, rest, ok := f.locate("/" + strings.Join(comps[:head], "/"))
	if !ok {
		return nil, nil, false
	}
	return r, append(rest, comps[head:]...), true
}

// permit applies grants and protection to a place about to be changed.
func (f *FS) permit(p *resolved) error {
	readOnly := p.inReadOnlyGrant
	if p.missing == nil && (len(f.roots) > 1 || len(f.protect.ids) > 0) {
		if st, err := p.stat(); err == nil {
			f.recognise(p, idOf(st))
			readOnly = p.inReadOnlyGrant
		}
		for _, r := range f.roots {
			if r.leaf != "" && r.real == p.absolute() {
				readOnly = r.readOnly
			}
		}
	}
	if readOnly {
		return fail(codePermission, "%s is in a read-only grant; write inside the workspace", quote(p.given))
	}
	if p.protected || p.root.leaf == "" && f.guards(p.absolute()) {
		return protectedError(p.given)
	}
	// A file or link where the parent of a protected path belongs, such as the
	// .git of a linked worktree, leads git to hooks elsewhere: it stays.
	if p.missing == nil && !p.isRoot() && p.root.leaf == "" && f.guardsParent(p.absolute()) {
		if st, err := p.stat(); err == nil && kindOf(st) != KindDirectory {
			return protectedError(p.given)
		}
	}
	return nil
}

func (p *resolved) inWorkspace() bool {
	if p.root == p.fs.roots[0] {
		return true
	}
	_, ok := below(p.fs.roots[0].real, p.absolute())
	return ok
}

// workspaceComps are the components below the workspace, also when the walk
// came in through a grant nested in it.
func (p *resolved) workspaceComps() []string {
	if p.root == p.fs.roots[0] {
		return p.comps
	}
	rel, _ := below(p.fs.roots[0].real, p.absolute())
	return split(rel)
}
