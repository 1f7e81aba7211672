package gitstage

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/gitconfig"
)

// The root of a workspace can be a bare repository itself. Then its objects and its
// configuration are staged: what lies next to them is the workspace. Commands write refs where they
// are, and what those pointed to is kept afterwards. The same holds of one below the
// root that a session made, where hooks are staged too and stay in the session.

// bareObjects is the name of the objects of such a repository, relative to the
// workspace and in the stage.
const bareObjects = "objects"

// bare runs f for the repository of the root and for those below it, with their
// stages.
func (p *Publisher) bare(f func(r *repo, upper objectTree) error) error {
	names, err := p.inStage()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		dir, ok := strings.CutSuffix(n, escapedSlash+bareConfig)
		switch {
		case n == bareObjects:
			errs = append(errs, p.bareAt(".", "", f))
		case ok && p.isPart(n):
			if err := p.bareAt(unescape(dir), dir+escapedSlash, f); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", unescape(dir), err))
			}
		}
	}
	return errors.Join(errs...)
}

// isPart says whether a directory of the stage is of a part of a bare repository
// below the root.
func (p *Publisher) isPart(name string) bool {
	e, err := p.stage.stat(name + "/part")
	return err == nil && e.kind == kindFile
}

// bareAt runs f for one repository. prefix is what the names of its stages begin
// with.
func (p *Publisher) bareAt(rel, prefix string, f func(r *repo, upper objectTree) error) error {
	stage, err := p.stage.sub(prefix + bareObjects)
	if err != nil {
		return nil // the objects have not been staged
	}
	defer stage.close()
	r := p.repos[rel]
	if r == nil || !r.bare {
		r = &repo{p: p, rel: rel, seen: map[string]sig{}, hexLen: 40, bare: true, stage: prefix}
		if rel != "." {
			r.title = rel
		}
		made, _ := p.stage.read(prefix+bareConfig+"/part", 16)
		r.fresh = string(made) == "made"
		p.repos[rel] = r
	}
	if r.real, err = p.root.sub(rel); err != nil {
		return nil // removed
	}
	defer r.real.close()
	if !r.known {
		r.heads, r.undos = map[string]string{}, map[string]string{}
		if err := r.readBareRefs(prefix + bareConfig + "/was"); err != nil {
			return err
		}
		for _, m := range []map[string]string{r.refs.packed, r.refs.loose} {
			for name, v := range m {
				if strings.HasPrefix(name, RefPrefix) {
					r.undos[name] = v
				}
			}
		}
		r.known, r.sig = true, r.bareSignature()
		// What the session's was made of: it may be another one outside since.
		if b, err := p.stage.read(prefix+bareConfig+"/base", gitconfig.MaxSize); err == nil && b != nil {
			if f, err := gitconfig.Parse(string(b)); err == nil {
				r.config = variables(f)
			}
		}
		if err := r.keepHead(); err != nil {
			return err
		}
	}
	return f(r, objectTree{stage, "upper"})
}

// readBareRefs reads the refs as they were when the repository was staged, where the
// stage has that, or as they are.
func (r *repo) readBareRefs(stage string) (err error) {
	was, err := r.p.stage.sub(stage)
	if err != nil {
		e, err := r.real.stat("refs")
		r.plainRefs = err == nil && e.kind == kindDir
		r.refs, err = r.real.readRefs()
		return err
	}
	defer was.close()
	e, err := was.stat("refs")
	r.plainRefs = err == nil && e.kind == kindDir
	if r.refs, err = was.readRefs(); err != nil {
		return err
	}
	if b, err := was.read("HEAD", 4096); err == nil {
		r.heads["HEAD"] = refValue(b)
	}
	return r.p.stage.removeAll(stage, 0)
}

// keepUndos makes those refs of this package again that the session has changed.
func (r *repo) keepUndos(now refs) error {
	var errs []error
	for name, v := range r.undos {
		if isOID(v) && now.value(name) != v {
			errs = append(errs, r.plainRef(name, v))
		}
	}
	return errors.Join(errs...)
}

// clearWay removes what the session put in the way of a ref of this package: also, with
// all, a lock and modes, which nobody else sets there.
func (r *repo) clearWay(name string, all bool) {
	for i := range len(name) {
		if name[i] != '/' || name[:i] == "refs" && !(all && r.plainRefs) {
			continue
		}
		if e, err := r.real.stat(name[:i]); err == nil && e.kind != kindDir {
			_ = r.real.remove(name[:i])
		} else if all && err == nil {
			_ = r.real.in(name[:i], openMode)
		}
	}
	if strings.HasSuffix(name, "/") {
		return
	}
	if e, err := r.real.stat(name); err == nil && e.kind == kindDir {
		_ = r.real.removeAll(name, 0)
	}
	if all {
		_ = r.real.removeAll(name+".lock", 0)
	}
}

// openDirs lets the owner read and write the directories of refs.
func (r *repo) openDirs(dir string, depth int) {
	_ = r.real.in(dir, openMode)
	names, _ := r.real.names(dir)
	for _, n := range names {
		if e, err := r.real.stat(dir + "/" + n); err == nil && e.kind == kindDir && depth < 40 {
			r.openDirs(dir+"/"+n, depth+1)
		}
	}
}

// openMode lets the owner of a directory write to it.
func openMode(dir tree, base string) error {
	fd, err := unix.Openat(dir.fd, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&0o700 == 0o700 {
		return err
	}
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), st.Mode&0o777|0o700)
}

// publishBare publishes objects, and keeps what refs pointed to.
func (p *Publisher) publishBare(out *Report) error {
	return p.bare(func(r *repo, upper objectTree) error {
		n, err := r.publishObjects(upper)
		out.Published += n
		if err != nil {
			return err
		}
		now, err := r.real.readRefs()
		if err != nil {
			r.clearWay(RefPrefix, true)
			r.openDirs("refs", 0)
			if now, err = r.real.readRefs(); err != nil {
				return err
			}
		}
		r.after = now
		for _, name := range now.changes(r.refs) {
			if err := r.keepUndo(name, r.refs.value(name), now.value(name)); err != nil {
				return err
			}
		}
		r.refs = now
		err = errors.Join(r.keepHead(), r.keepUndos(now), r.publishBareConfig(out))
		r.keptInBare(out)
		return err
	})
}

// keptInBare names what stays in the session, and notes it for a review.
func (r *repo) keptInBare(out *Report) {
	side := bareSide{r.p.stage, r.stage}
	r.unmade = side.unmade()
	files := side.kept()
	for _, p := range append(slices.Sorted(maps.Keys(r.unmade)), files...) {
		out.Kept = append(out.Kept, path.Join(r.rel, p))
	}
	r.keepLeft(side, slices.ContainsFunc(files, func(p string) bool { _, known := r.leftSigs[p]; return !known }))
}

// escapedSlash is a slash in the name of a stage.
const escapedSlash = "%2F"

// bareConfig is the name of the configuration of such a repository.
const bareConfig = "config"

// publishBareConfig publishes what names no program of the configuration. It is
// written in place: another file would take the one inside away.
func (r *repo) publishBareConfig(out *Report) error {
	e, err := r.p.stage.stat(r.stage + bareConfig + "/file")
	if err != nil || r.seen[bareConfig] == e.sig {
		return nil
	}
	text, err := r.p.stage.read(r.stage+bareConfig+"/file", gitconfig.MaxSize)
	if err != nil {
		return err
	}
	session, err := gitconfig.Parse(string(text))
	if err != nil {
		return nil // half written
	}
	var kept, conflicts []string
	base := r.config
	err = waitLocked(func() error {
		return r.real.locked(bareConfig, 0o644, func() ([]byte, error) {
			real, size, err := r.real.config(bareConfig)
			if err != nil {
				return nil, err
			}
			if base == nil {
				base = variables(real)
			}
			base = maps.Clone(base)
			var changed bool
			changed, kept, conflicts, err = mergeConfig(real, base, variables(session), r.fresh, r.configCheck())
			if err != nil || !changed {
				return nil, err
			}
			out.Published++
			err = r.writeInPlace(bareConfig, real.Text(), size)
			r.sig = r.bareSignature()
			return nil, err
		})
	})
	if err == nil {
		r.seen[bareConfig], r.config = e.sig, base
	}
	for _, k := range kept {
		out.Kept = append(out.Kept, path.Join(r.title, k))
	}
	for _, c := range conflicts {
		out.Conflicts = append(out.Conflicts, path.Join(r.title, c)+" was changed outside too; it stays as it is outside")
	}
	return err
}

// writeInPlace writes in one call, so that a reader has all of the old or the new. A
// shorter text ends with empty lines.
func (r *repo) writeInPlace(name, text string, old int) error {
	fd, err := r.real.open(name, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Pwrite(fd, []byte(text+strings.Repeat("\n", max(0, old-len(text)))), 0)
	return err
}

// pruneBareConfig makes the session's configuration what is outside, with what stays in
// the session.
func (r *repo) pruneBareConfig() error {
	b, err := r.p.stage.read(r.stage+bareConfig+"/file", gitconfig.MaxSize)
	if err != nil || b == nil {
		return err
	}
	text, err := r.real.read(bareConfig, gitconfig.MaxSize)
	if err != nil {
		return err
	}
	merged, ok, err := sessionConfig(string(b), string(text), r.config)
	if now, perr := gitconfig.Parse(string(text)); perr == nil {
		base := r.config
		r.config = variables(now)
		if mine, perr := gitconfig.Parse(string(b)); perr == nil && base != nil {
			r.config = newBase(base, variables(mine), r.config)
		}
	}
	if err != nil || !ok {
		return err
	}
	for name, text := range map[string]string{"/file": merged, "/base": string(text)} {
		if err := r.p.stage.rewrite(r.stage+bareConfig+name, text); err != nil {
			return err
		}
	}
	return nil
}

// keepHead puts back a HEAD without which git takes the directory for no repository.
func (r *repo) keepHead() error {
	if r.fresh {
		return nil // the session's own
	}
	b, err := r.real.read("HEAD", 4096)
	if v := refValue(b); err == nil && v != "" {
		if old := r.heads["HEAD"]; old != v {
			if err := r.keepUndo("HEAD", old, v); err != nil {
				return err
			}
		}
		r.heads["HEAD"] = v
		return nil
	}
	if r.heads["HEAD"] == "" {
		return nil
	}
	return r.real.create("HEAD", 0o644, true, func(w io.Writer) error { _, err := io.WriteString(w, r.heads["HEAD"]+"\n"); return err })
}

// bareChanged says whether packs were made outside.
func (p *Publisher) bareChanged() (changed bool) {
	_ = p.bare(func(r *repo, _ objectTree) error {
		now := r.bareSignature()
		changed, r.sig = changed || r.sig != now, now
		return nil
	})
	return changed
}

// bareSignature tells of packs and settings made outside.
func (r *repo) bareSignature() string {
	s := ""
	for _, p := range []string{bareObjects + "/pack", bareConfig} {
		if e, err := r.real.stat(p); err == nil {
			s += fmt.Sprintln(e.sig.ino, e.sig.mtime)
		}
	}
	return s
}

// pruneBare removes from the stage what is outside, and what hides it.
func (p *Publisher) pruneBare() error {
	return p.bare(func(r *repo, upper objectTree) error {
		dirs, _ := upper.names(bareObjects)
		for _, d := range dirs {
			dir := path.Join(bareObjects, d)
			names, err := upper.names(dir)
			if err != nil {
				_ = upper.t.remove(upper.path(dir))
				continue
			}
			for _, n := range names {
				f := path.Join(dir, n)
				e, err := upper.stat(f)
				if slices.Contains(alternates, f) && err == nil && e.kind == kindFile {
					continue // the session reads objects there
				}
				if c := classify(f); err == nil && e.kind == kindFile && !r.isOutside(f) && (c == classLoose || c == classPack) {
					continue // could not be published
				}
				if err := upper.t.removeAll(upper.path(f), 0); err != nil {
					return err
				}
			}
			_ = upper.t.in(upper.path(dir), func(t tree, base string) error { return unix.Unlinkat(t.fd, base, unix.AT_REMOVEDIR) })
		}
		r.seen = map[string]sig{}
		return r.pruneBareConfig()
	})
}
