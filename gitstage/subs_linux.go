package gitstage

import (
	"errors"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/gitconfig"
)

// A git directory holds those of its submodules (modules/NAME) and of its linked
// worktrees (worktrees/NAME). One that the session makes is published when the
// files in it that name others (gitdir, commondir, core.worktree) name what belongs
// together: git outside then finds data there alone.

// publishSubs publishes the git directories inside of this one.
func (r *repo) publishSubs(out *Report) error {
	if r.subs == nil {
		r.subs = map[string]*repo{}
	}
	var errs []error
	r.unmade = map[string]bool{}
	for _, p := range r.subDirs() {
		sub := r.subs[p]
		if sub == nil {
			sub = &repo{p: r.p, rel: r.rel + "/" + p, title: path.Join(r.title, p), seen: map[string]sig{}, linked: strings.HasPrefix(p, "worktrees/")}
			if sub.linked {
				sub.common = r
			}
			r.subs[p] = sub
		}
		if r.check != nil {
			sub.check = sub.stillShown
		}
		if e, err := r.real.stat(p + "/HEAD"); err != nil || e.kind != kindFile || sub.made {
			ok, err := r.makeSub(p, sub)
			if err != nil {
				errs = append(errs, err)
			}
			if !ok {
				out.Kept = append(out.Kept, path.Join(r.title, p))
				r.unmade[p] = true
				continue
			}
		}
		errs = append(errs, r.within(p, sub, func() error {
			report, err := sub.publish()
			out.add(report)
			return err
		}))
	}
	return errors.Join(append(errs, r.dropWorktrees())...)
}

// subDirs are the git directories below modules and worktrees in the stage. The
// name of a module may have slashes.
func (r *repo) subDirs() (dirs []string) {
	var visit func(dir string, depth int)
	visit = func(dir string, depth int) {
		names, _ := r.upper.names(dir)
		slices.Sort(names)
		for _, n := range names {
			p := dir + "/" + n
			if e, err := r.upper.stat(p); err != nil || e.kind != kindDir || len(dirs) >= maxSubs {
				continue
			}
			_, above := r.upper.stat(p + "/HEAD")
			_, below := r.real.stat(p + "/HEAD")
			if above == nil || below == nil {
				dirs = append(dirs, p)
			} else if dir != "worktrees" && depth < 8 {
				visit(p, depth+1)
			}
		}
	}
	visit("modules", 0) // a linked worktree has its own
	if !r.linked {
		visit("worktrees", 0)
	}
	return dirs
}

// maxSubs bounds the modules and worktrees of one directory.
const maxSubs = 2000

// makeSub makes the real directory of a module or worktree of this session, with
// what names others. It says false where that is not published.
func (r *repo) makeSub(p string, sub *repo) (bool, error) {
	if !sub.linked {
		if e, err := r.real.stat(p + "/config"); err == nil && e.kind == kindFile && sub.made {
			if err := r.unsetTree(p); err != nil {
				return false, err
			}
		}
		if _, ok := r.moduleTree(p, r.upper); !ok {
			return false, nil
		}
		sub.made = true
		return true, r.real.mkdirs(p)
	}
	common, err1 := r.upper.read(p+"/commondir", 4096)
	gitdir, err2 := r.upper.read(p+"/gitdir", 4096)
	if err1 != nil || err2 != nil || strings.TrimSpace(string(common)) != "../.." {
		return false, nil
	}
	if _, ok := r.p.inWorkspace(r.p.at(r.rel+"/"+p), string(gitdir)); !ok {
		return false, nil
	}
	sub.made = true
	for name, text := range map[string][]byte{"commondir": common, "gitdir": gitdir} {
		if now, err := r.real.read(p+"/"+name, 4096); err == nil && string(now) == string(text) {
			continue
		}
		if err := r.real.create(p+"/"+name, 0o644, true, func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
			return false, err
		}
	}
	return true, nil
}

// moduleTree is the working tree that the configuration of a module names, if it is
// a directory of the workspace outside of all git directories.
func (r *repo) moduleTree(p string, side tree) (string, bool) {
	b, err := side.read(p+"/config", gitconfig.MaxSize)
	if err != nil {
		return "", false
	}
	f, err := gitconfig.Parse(string(b))
	if err != nil {
		return "", false
	}
	tree := f.Last("core", "", "worktree")
	if tree == "" {
		return "", false
	}
	return r.p.inWorkspace(r.p.at(r.rel+"/"+p), tree+"/.git")
}

// inWorkspace gives the path, relative to the workspace, of a .git file that is
// named from a directory. Git goes there through links, as "x/.." does: a name that
// could lead elsewhere than it reads is refused.
func (p *Publisher) inWorkspace(from, name string) (string, bool) {
	name = strings.TrimRight(name, "\n")
	if !plain(name) || path.Base(name) != ".git" || path.Clean(name) != name {
		return "", false
	}
	if !path.IsAbs(name) {
		name = path.Join(from, name)
	}
	rel, ok := strings.CutPrefix(path.Clean(name), p.path+"/")
	if !ok || rel == ".git" || slices.Contains(strings.Split(foldPart(path.Dir(rel)), "/"), ".git") {
		return "", false
	}
	if e, err := p.root.stat(path.Dir(rel)); err == nil && e.kind != kindDir || err != nil && err != unix.ENOENT && err != unix.ENOTDIR {
		return "", false
	}
	return rel, true
}

// unsetTree takes the working tree from the published configuration of a module when
// a directory on the way there has become a link since.
func (r *repo) unsetTree(p string) error {
	if _, ok := r.moduleTree(p, r.real); ok {
		return nil
	}
	return waitLocked(func() error {
		return r.real.locked(p+"/config", 0o644, func() ([]byte, error) {
			b, err := r.real.read(p+"/config", gitconfig.MaxSize)
			if err != nil {
				return nil, err
			}
			f, err := gitconfig.Parse(string(b))
			if err != nil || f.Last("core", "", "worktree") == "" {
				return nil, nil // git outside refuses it, or finds no tree there
			}
			if err := f.Set("core", "", "worktree", nil); err != nil {
				return nil, err
			}
			return []byte(f.Text()), nil
		})
	})
}

// dropWorktrees removes worktrees that the session has removed, if their working
// tree has gone outside too: git outside would prune them as well.
func (r *repo) dropWorktrees() error {
	names, _ := r.real.names("worktrees")
	var errs []error
	for _, n := range names {
		p := "worktrees/" + n
		e, err := r.upper.stat(p)
		top, errTop := r.upper.stat("worktrees")
		sub := r.subs[p]
		gone := err == nil && e.kind == kindGone || err != nil && sub != nil && sub.made && sub.known ||
			errTop == nil && (top.kind == kindGone || r.upper.opaque("worktrees") && err != nil)
		if !gone {
			continue
		}
		gitdir, err := r.real.read(p+"/gitdir", 4096)
		tree, ok := r.p.inWorkspace(r.p.at(r.rel+"/"+p), string(gitdir))
		if _, locked := r.real.stat(p + "/locked"); err != nil || !ok || locked == nil {
			continue
		}
		if _, err := r.p.root.stat(tree); err != unix.ENOENT && err != unix.ENOTDIR {
			continue
		}
		head, _ := r.real.read(p+"/HEAD", 4096)
		if v := refValue(head); isOID(v) {
			r.after = r.refs
			if err := r.keepUndo("worktrees/"+n, v, ""); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		errs = append(errs, r.real.removeAll(p, 0))
		delete(r.subs, p)
	}
	return errors.Join(errs...)
}
