package gitstage

import (
	"errors"
	"maps"
	"path"
	"strings"

	"mcp-sandbox/gitconfig"
)

// look records the state of the real directory.
func (r *repo) look() (err error) {
	r.real.dropLocks()
	text, err := r.real.read("config", gitconfig.MaxSize)
	if err != nil {
		return err
	}
	f, err := gitconfig.Parse(string(text))
	if err != nil {
		return err // git outside refuses it too
	}
	r.fresh = r.fresh || text == nil && !r.linked
	r.config = variables(f)
	r.hexLen = 40
	if f.Last("extensions", "", "objectformat") == "sha256" {
		r.hexLen = 64
	}
	if r.refs, err = r.real.readRefs(); err != nil {
		return err
	}
	// What a command removes leaves a mark in the stage if it was there when the
	// overlay was mounted, and none if it was published since.
	r.mounted = refs{loose: maps.Clone(r.refs.loose), packed: maps.Clone(r.refs.packed)}
	r.heads = map[string]string{}
	for name, c := range files {
		if c == classHead {
			b, err := r.real.read(name, 4096)
			if err == nil && b != nil {
				r.heads[name] = refValue(b)
			}
		}
	}
	r.index = ""
	if b, err := r.real.read("index", maxIndex); err == nil && b != nil {
		entries, _ := parseIndex(b, r.hexLen)
		r.index = sumOf(entries)
	}
	r.conflicts, r.blocked = map[string]string{}, map[string]bool{}
	if r.p.bases != nil {
		if err := r.adopt(r.p.bases[r.rel]); err != nil {
			return err
		}
	}
	r.sig, r.known, r.stale = r.signature(), true, false
	return nil
}

// staged is what a look at the stage found changed.
type staged struct {
	files map[string]entry // what is not an object, by path
	kept  []string
	// reftable says that refs were changed that are not published.
	reftable bool
}

// scan finds what is new in the stage. Sub-repositories are left to their own.
func (r *repo) scan() (staged, error) {
	s := staged{files: map[string]entry{}}
	var visit func(dir string, depth int) error
	visit = func(dir string, depth int) error {
		names, err := r.upper.names(path.Join(dir, "."))
		if err != nil || depth > 40 {
			return err
		}
		for _, n := range names {
			p := path.Join(dir, n)
			if p == "objects" || p == "modules" || p == "worktrees" {
				continue
			}
			e, err := r.upper.stat(p)
			if err != nil {
				continue
			}
			if e.kind == kindDir {
				if r.seen[p] != e.sig && r.upper.opaque(p) {
					s.files[p] = e
				}
				if err := visit(p, depth+1); err != nil {
					return err
				}
				continue
			}
			if r.seen[p] == e.sig {
				continue
			}
			switch c := classify(p); {
			case strings.HasPrefix(p, "reftable/"):
				s.reftable = true
				r.seen[p] = e.sig
			case c == classKept && e.kind == kindFile:
				if !r.sameOutside(p) {
					s.kept = append(s.kept, p)
				}
				r.seen[p] = e.sig
			case c != classSilent && (e.kind == kindFile || e.kind == kindGone):
				s.files[p] = e
			}
		}
		return nil
	}
	err := visit("", 0)
	for _, p := range alternates {
		if e, err := r.upper.stat(p); err == nil && e.kind == kindFile && r.seen[p] != e.sig {
			if !r.sameOutside(p) {
				s.kept = append(s.kept, p)
			}
			r.seen[p] = e.sig
		}
	}
	return s, err
}

// sameOutside says whether a file is outside as in the stage: one that was only
// touched, or one of those that makeSub publishes.
func (r *repo) sameOutside(p string) bool {
	mine, mode, err := r.upper.readMode(p)
	if err != nil {
		return false
	}
	real, realMode, err := r.real.readMode(p)
	return err == nil && sameFile(mine, real, mode, realMode)
}

// publish copies what is new in the stage to the real directory.
func (r *repo) publish() (Report, error) {
	var out Report
	if e, err := r.upper.stat("HEAD"); err == nil && e.kind == kindGone {
		return out, nil // the session has removed its repository: outside it stays
	}
	r.stale = r.stale || r.signature() != r.sig
	if r.check != nil {
		// Also before anything inside is published.
		job, err := r.own()
		if err == nil {
			err = r.check(job)
		}
		if err != nil {
			return out, err
		}
	}
	errs := []error{r.publishSubs(&out)}
	// Everything that names objects is read before them: what it names is then
	// among what is published.
	news, err := r.scan()
	if err != nil {
		return out, errors.Join(append(errs, err)...)
	}
	job := &job{repo: r, news: news, out: &out}
	job.read()
	if r.check != nil {
		if err := r.check(job); err != nil {
			return out, err
		}
	}
	objects := r
	if r.linked {
		// Its HEAD and its index name objects as well, and those are published after it.
		if objects = r.common; len(news.files) == 0 {
			objects = nil
		}
	}
	if objects != nil {
		n, err := objects.publishObjects(objectTree{objects.upper, "objects"})
		out.Published += n
		if err != nil {
			return out, errors.Join(append(errs, err)...)
		}
	}
	if len(news.files) > 0 {
		errs = append(errs, job.apply()...)
	}
	if news.reftable {
		out.Conflicts = append(out.Conflicts, path.Join(r.title, "reftable")+": refs in this format are not published, so commits and branches end with the session; push them, or have the repository's owner run git refs migrate --ref-format=files")
	}
	for _, k := range news.kept {
		out.Kept = append(out.Kept, path.Join(r.title, k))
	}
	r.keepLeft(r.upper, len(news.kept) > 0 || len(news.files)+len(job.unread)+len(r.unmade) > 0)
	if out.Published > 0 || len(news.files) > 0 {
		r.sig = r.signature()
	}
	return out, errors.Join(errs...)
}

// within opens both sides of a directory inside.
func (r *repo) within(p string, sub *repo, f func() error) (err error) {
	if sub.upper, err = r.upper.sub(p); err != nil {
		return nil
	}
	defer sub.upper.close()
	if sub.real, err = r.real.sub(p); err != nil {
		return nil
	}
	defer sub.real.close()
	if !sub.known {
		if err := sub.look(); err != nil {
			return err
		}
	}
	return f()
}
