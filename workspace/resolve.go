package workspace

import (
	"context"
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
		return fail(codeInvalid, "the path holds a NUL byte, remove it")
	case len(p) > maxPath:
		return fail(codeInvalid, "the path is %d bytes long and at most %d are possible, shorten it", len(p), maxPath)
	}
	return nil
}

func outside(given string) error {
	return fail(codeOutside, "%s is outside the workspace and was not granted, use a path inside the workspace or ask the user to grant it with --read or --write", quote(given))
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
// elsewhere (AC-07).
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
				if r.leaf == "" && r.id == idOf(&st) {
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
// sibling that merely shares the prefix is not (AC-01).
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
		return nil, fail(codePermission, "this workspace is read-only, nothing can be changed in it")
	}
	if o.write {
		f.learnTargets()
	}
	return f.walkFrom(r, comps, given, o)
}

// walkFrom walks comps below r. Only one descriptor is held at a time; ".."
// starts again from the root with one component less, so that a directory moved
// away under the walk cannot carry it out.
func (f *FS) walkFrom(r *root, comps []string, given string, o walkOptions) (*resolved, error) {
	links := 0
	hidden := f.hiddenNow(context.Background())
	todo := comps
	p := &resolved{fs: f, root: r, given: given}
	restart := func(r *root, comps []string) {
		p.close()
		p.root, p.fd, p.name, p.comps = r, int(r.dir.Fd()), ".", p.comps[:0:0]
		p.inReadOnlyGrant, p.protected = false, false
		todo = comps
	}
	restart(r, comps)
	// enter makes p.fd the directory that was opened below it.
	enter := func(fd int, name string) {
		p.close()
		p.fd, p.owned = fd, true
		p.comps = append(p.comps, name)
	}
	for step := 0; ; step++ {
		if step > maxSteps {
			p.close()
			return nil, fromErrno(unix.ELOOP, given)
		}
		if p.root.leaf != "" {
			// A file grant: the one granted name and nothing else.
			if len(todo) > 0 {
				p.close()
				return nil, fromErrno(unix.ENOTDIR, given)
			}
			p.name = p.root.leaf
			break
		}
		if len(todo) == 0 {
			if len(p.comps) == 0 {
				break
			}
			// A link to "." ends in a directory already entered; walk to it
			// again so that the place is a name in its parent.
			restart(p.root, append([]string(nil), p.comps...))
			continue
		}
		name := todo[0]
		last := len(todo) == 1
		if name == ".." {
			if n := len(p.comps); n > 0 {
				restart(p.root, append(append([]string(nil), p.comps[:n-1]...), todo[1:]...))
				continue
			}
			abs := path.Join(filepath.Dir(p.root.real), strings.Join(todo[1:], "/"))
			nr, rest, ok := f.locate(abs)
			if !ok {
				p.close()
				return nil, outside(given)
			}
			restart(nr, rest)
			continue
		}
		err := f.inspect(p, o, hidden)
		if err == nil && f.hiddenName(p, name) {
			err = hiddenError(given)
		}
		if err != nil {
			p.close()
			return nil, err
		}
		if last && !o.follow {
			p.name = name
			break
		}
		if !last {
			fd, err := retryEINTR(func() (int, error) { return unix.Openat(p.fd, name, openDirFlags, 0) })
			if err == nil {
				enter(fd, name)
				todo = todo[1:]
				continue
			}
			if err == unix.ENOENT && (o.parents || o.mayMiss) {
				for _, c := range todo {
					if c == ".." {
						p.close()
						return nil, fromErrno(unix.ENOENT, given)
					}
				}
				if o.parents {
					if err := f.makeParents(p, todo, o); err != nil {
						p.close()
						return nil, fromErrno(err, given)
					}
					todo = todo[len(todo)-1:]
					continue
				}
				p.name, p.missing = name, todo[1:]
				break
			}
			if err != unix.ENOTDIR && err != unix.ELOOP && err != unix.EMLINK {
				p.close()
				return nil, fromErrno(err, given)
			}
		}
		target, err := readlinkAt(p.fd, name)
		if err == unix.EINVAL && !last {
			// Not a link, so it really is no directory.
			p.close()
			return nil, fromErrno(unix.ENOTDIR, given)
		}
		if err == unix.EINVAL || err == unix.ENOENT && last {
			p.name = name
			break
		}
		if err != nil {
			p.close()
			return nil, fromErrno(err, given)
		}
		if links++; links > maxLinks {
			p.close()
			return nil, fromErrno(unix.ELOOP, given)
		}
		if strings.HasPrefix(target, "/") {
			// Kept inside if it names a root: an absolute link into the
			// workspace is common (virtual environments, node_modules).
			nr, rest, ok := f.locateLink(target)
			if !ok {
				p.close()
				return nil, outside(given)
			}
			restart(nr, append(rest, todo[1:]...))
			continue
		}
		todo = append(split(target), todo[1:]...)
	}
	if p.name != "." && p.root.leaf == "" {
		p.comps = append(p.comps, p.name)
	}
	if err := f.checkEnd(p, hidden); err != nil {
		p.close()
		return nil, err
	}
	if o.write {
		if err := f.permit(p); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
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

// inspect looks at the directory p stands in by inode, so that renaming the
// parent of a read-only grant or of a protected directory does not open it. The
// deepest grant on the way decides.
func (f *FS) inspect(p *resolved, o walkOptions, hidden *hiddenSet) error {
	policy := o.write && (len(f.roots) > 1 || len(f.protect.ids) > 0)
	if !policy && hidden == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(p.fd, &st); err != nil {
		return fromErrno(err, p.given)
	}
	if hidden.has(&st) {
		return hiddenError(p.given)
	}
	if policy {
		f.recognise(p, idOf(&st))
	}
	return nil
}

func (f *FS) recognise(p *resolved, id fileID) {
	for _, r := range f.roots {
		if r.leaf == "" && r.id == id {
			p.inReadOnlyGrant = r.readOnly
		}
	}
	if _, ok := f.protect.ids[id]; ok {
		p.protected = true
	}
}

// makeParents makes every directory of todo but the last below p. What does
// not exist holds no links, so the whole path is known before the first one is
// made, and policy is asked first.
func (f *FS) makeParents(p *resolved, todo []string, o walkOptions) error {
	if f.hides() && f.opts.Deny.Covers(filepath.Join(append([]string{p.absolute()}, todo...)...)) {
		return hiddenError(p.given)
	}
	if o.write {
		whole := *p
		whole.owned, whole.missing = false, todo
		whole.name = todo[len(todo)-1]
		whole.comps = append(append([]string(nil), p.comps...), todo...)
		if err := f.permit(&whole); err != nil {
			return err
		}
	}
	for _, name := range todo[:len(todo)-1] {
		err := f.mkdirAt(p.fd, name)
		if err != nil && err != unix.EEXIST {
			return err
		}
		fd, err := retryEINTR(func() (int, error) { return unix.Openat(p.fd, name, openDirFlags, 0) })
		if err != nil {
			return err
		}
		p.close()
		p.fd, p.owned = fd, true
		p.comps = append(p.comps, name)
	}
	return nil
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
		return fail(codePermission, "%s is in a read-only grant, write inside the workspace", quote(p.given))
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
