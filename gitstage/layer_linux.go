package gitstage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/gitconfig"
)

// ErrOther says that the session has gone on since it was looked at.
var ErrOther = errors.New("the session has changed it meanwhile; look again")

// A Layer publishes the git directories of a workspace that is staged as a whole: the
// upper layer of its overlay has theirs. Nothing is published until a person has
// looked, so what a directory was when the session began outlasts the server, in a
// file of the stage. Its methods are not safe for concurrent use.
type Layer struct {
	p     *Publisher
	state string
}

// base is what a git directory was when the session and the project last agreed.
type base struct {
	Refs   map[string]string `json:"refs"`
	Heads  map[string]string `json:"heads"`
	Index  string            `json:"index"`
	Config string            `json:"config"`
	// Files are fingerprints of heads, texts and states, see print. What is not in it, or
	// with Sure false a ref that is not in Refs, may have been anything.
	Files map[string]string `json:"files,omitempty"`
	Sure  bool              `json:"sure,omitempty"`
	// Conflicts are the session's sides of refs that were changed twice and are kept in
	// the project, Told the items that it has, or had.
	Conflicts map[string]string `json:"conflicts,omitempty"`
	Told      map[string]string `json:"told,omitempty"`
}

// maxState bounds the file of the bases, in bytes.
const maxState = 256 << 20

// OpenLayer opens a project and the upper layer over it by their descriptors, of which
// it keeps copies until Close. state is the file of the bases.
func OpenLayer(root, upper *os.File, state string, o Options) (*Layer, error) {
	// A local place to fetch from is never published: who reviews does not know
	// where the session could write.
	o.Writable = func(string) bool { return true }
	p, err := New(root, upper, o)
	if err != nil {
		return nil, err
	}
	l := &Layer{p: p, state: state}
	l.Reload()
	return l, nil
}

// Reload reads the bases again, which the server of a running session has written.
func (l *Layer) Reload() {
	l.p.bases = map[string]base{}
	if fi, err := os.Stat(l.state); err == nil && fi.Size() < maxState {
		// Without them everything that was changed outside counts as changed twice.
		if b, err := os.ReadFile(l.state); err != nil || json.Unmarshal(b, &l.p.bases) != nil || l.p.bases == nil {
			l.p.bases = map[string]base{}
		}
	}
}

// Close closes the descriptors.
func (l *Layer) Close() {
	l.p.root.close()
	l.p.stage.close()
}

func (l *Layer) save() error {
	b, err := json.Marshal(l.p.bases)
	if err != nil {
		return err
	}
	tmp := l.state + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, l.state)
}

// Begin notes what git directories are now, paths in the workspace: what a session
// starts from. What has changed since, when the session may have read it already, is
// not known; since is in nanoseconds of the clock. What a former one has changed and nobody has decided about keeps the
// base that it has.
func (l *Layer) Begin(dirs []string, since int64) error {
	old := l.p.bases
	now := map[string]base{}
	var errs []error
	err := asOwner(l.p.o.UID, l.p.o.GID, func() error {
		for _, dir := range dirs {
			for _, rel := range append([]string{dir}, l.inside(dir)...) {
				l.p.bases = nil // what is there, and no base
				b, err := l.baseNow(rel, since)
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", rel, err))
					continue
				}
				if was, ok := old[rel]; ok {
					b = l.keep(rel, was, b)
				}
				now[rel] = b
			}
		}
		return nil
	})
	l.p.bases = now
	return errors.Join(append(errs, err, l.save())...)
}

// inside are the git directories of modules and linked worktrees of one.
func (l *Layer) inside(dir string) (out []string) {
	var visit func(at string, depth int)
	visit = func(at string, depth int) {
		names, _ := l.p.root.names(at)
		slices.Sort(names)
		for _, n := range names {
			p := at + "/" + n
			if e, err := l.p.root.stat(p); err != nil || e.kind != kindDir || len(out) >= maxSubs {
				continue
			}
			if _, err := l.p.root.stat(p + "/HEAD"); err == nil {
				out = append(out, p)
				visit(p+"/modules", depth)
			} else if depth < 8 {
				visit(p, depth+1)
			}
		}
	}
	visit(dir+"/modules", 0)
	visit(dir+"/worktrees", 8)
	return out
}

func (l *Layer) baseNow(rel string, since int64) (base, error) {
	r := &repo{p: l.p, rel: rel, linked: path.Base(path.Dir(rel)) == "worktrees"}
	var err error
	if r.real, err = l.p.root.sub(rel); err != nil {
		return base{}, err
	}
	defer r.real.close()
	if err := r.look(); err != nil {
		return base{}, err
	}
	b := r.base()
	b.Files = r.real.prints()
	r.forget(&b, since)
	return b, nil
}

// keep is now with what was known before of all that the upper layer has a side of.
func (l *Layer) keep(rel string, was, now base) base {
	upper, err := l.p.stage.sub(rel)
	if err != nil {
		return now // the session has changed nothing
	}
	defer upper.close()
	has := func(p string) bool { _, err := upper.stat(p); return err == nil }
	packed := has("packed-refs") || upper.opaque("refs")
	for _, m := range []map[string]string{was.Refs, now.Refs} {
		for name := range m {
			if !packed && !has(name) {
				continue
			}
			if v, ok := was.Refs[name]; ok {
				now.Refs[name] = v
			} else {
				delete(now.Refs, name)
			}
		}
	}
	if packed || has("refs") {
		now.Sure = now.Sure && was.Sure
	}
	for _, name := range printed() {
		if !has(name) {
			continue
		}
		if v, ok := was.Files[name]; ok {
			now.Files[name] = v
		} else {
			delete(now.Files, name)
		}
		if files[name] != classHead {
			continue
		}
		if v, ok := was.Heads[name]; ok {
			now.Heads[name] = v
		} else {
			delete(now.Heads, name)
		}
	}
	if has("index") {
		now.Index = was.Index
	}
	if has("config") {
		now.Config = was.Config
	}
	now.Conflicts, now.Told = was.Conflicts, was.Told
	return now
}

// base is what the repository is known to be.
func (r *repo) base() base {
	b := base{Refs: map[string]string{}, Heads: maps.Clone(r.heads), Index: r.index, Files: maps.Clone(r.prints), Sure: r.sure, Conflicts: maps.Clone(r.conflicts)}
	maps.Copy(b.Refs, r.refs.packed)
	maps.Copy(b.Refs, r.refs.loose)
	if text, err := r.real.read("config", gitconfig.MaxSize); err == nil {
		b.Config = string(text)
	}
	return b
}

// adopt makes a base what the repository is known to be.
func (r *repo) adopt(b base) error {
	f, err := gitconfig.Parse(b.Config)
	if err != nil {
		return err
	}
	r.config, r.index, r.forwards = variables(f), b.Index, true
	r.refs = refs{loose: map[string]string{}, packed: map[string]string{}}
	maps.Copy(r.refs.loose, b.Refs)
	r.heads = map[string]string{}
	maps.Copy(r.heads, b.Heads)
	maps.Copy(r.conflicts, b.Conflicts)
	r.prints, r.sure = map[string]string{}, b.Sure
	maps.Copy(r.prints, b.Files)
	if _, err := r.real.stat("HEAD"); err == unix.ENOENT && b.Refs == nil {
		// Nobody's repository: the session's is about to be made here.
		r.prints, r.sure = r.real.prints(), true
	}
	return nil
}

// Look says what waits in a git directory. Nothing is written.
func (l *Layer) Look(dir string) (v View, err error) {
	err = asOwner(l.p.o.UID, l.p.o.GID, func() error {
		if _, err := l.p.root.stat(dir); err == unix.ENOENT || err == unix.ENOTDIR {
			if l.repository(dir) {
				v, err = l.newDirectory(dir)
				return err
			}
			return nil
		}
		r := &repo{p: l.p, rel: dir, seen: map[string]sig{}}
		return r.run(dir, func(r *repo) error { v, err = r.view(); return err })
	})
	return v, err
}

// repository says whether the session has made a directory that git takes for one
// (is_git_directory in its setup.c).
func (l *Layer) repository(dir string) bool {
	for _, n := range []string{"HEAD", "objects", "refs"} {
		if _, err := l.p.stage.stat(dir + "/" + n); err != nil {
			return false
		}
	}
	return true
}

// Wrote has the texts, before and after, of the configurations that the last Publish
// wrote, by path.
func (l *Layer) Wrote() map[string][2]string { return l.p.wrote }

// Publish publishes what waits in a git directory, if it is what Look saw. conflicts
// name what was changed on both sides, and where the session's side is now.
func (l *Layer) Publish(dir, seen string) (conflicts []string, err error) {
	l.p.wrote = map[string][2]string{}
	err = asOwner(l.p.o.UID, l.p.o.GID, func() error {
		r := &repo{p: l.p, rel: dir, seen: map[string]sig{}}
		made, ran := false, false
		if _, err := l.p.root.stat(dir); err == unix.ENOENT {
			if v, err := l.newDirectory(dir); err != nil || seen != v.Seen {
				return errors.Join(err, ErrOther)
			}
			made = true
			if err := l.p.root.in(dir, func(in tree, name string) error { return unix.Mkdirat(in.fd, name, 0o755) }); err != nil {
				return err
			}
			// It stays where something is in it.
			defer l.p.root.in(dir, func(in tree, name string) error { return unix.Unlinkat(in.fd, name, unix.AT_REMOVEDIR) })
		}
		err := r.run(dir, func(r *repo) error {
			ran = true
			l.p.shown = map[string]string{}
			before, err := r.view()
			if err != nil {
				return err
			}
			if made {
				l.p.shown[dir] = seen
			} else if before.Seen != seen {
				return ErrOther
			}
			r.check = r.stillShown
			report, err := r.publish()
			conflicts = report.Conflicts
			return errors.Join(err, l.noted(r))
		})
		if err == nil && !ran {
			err = errors.New("the git directory cannot be opened")
		}
		return err
	})
	return conflicts, errors.Join(err, l.save())
}

// stillShown says whether what is about to be published is what was looked at.
func (r *repo) stillShown(j *job) error {
	r.was = j.items()
	if len(j.fail) > 0 {
		return j.fail[0]
	}
	now := seenOf(r.was)
	want, ok := r.p.shown[r.rel]
	if ok && r.isNew(want) {
		var err error
		if now, err = r.upper.sum(); err != nil {
			return err
		}
		now = newPrefix + now
	}
	if !ok || now != want {
		return ErrOther
	}
	return nil
}

// newPrefix begins what identifies a directory that the session has made.
const newPrefix = "new "

func (r *repo) isNew(seen string) bool { return strings.HasPrefix(seen, newPrefix) }

// noted keeps what a repository and those inside are known to be. Decided is what the
// project has by now, and what was in conflict and is kept in it.
func (l *Layer) noted(r *repo) error {
	for _, sub := range r.subs {
		if !sub.known {
			continue
		}
		if err := r.within(strings.TrimPrefix(sub.rel, r.rel+"/"), sub, func() error { return l.noted(sub) }); err != nil {
			return err
		}
	}
	old := l.p.bases[r.rel]
	b := r.base()
	// What the session made of settings is told from those that it began with.
	b.Config, b.Told = old.Config, old.Told
	l.p.bases[r.rel] = b
	again := &repo{p: l.p, rel: r.rel, title: r.title, linked: r.linked, upper: r.upper, real: r.real, seen: map[string]sig{}}
	if err := again.look(); err != nil {
		return err
	}
	left, err := again.own()
	if err != nil {
		return err
	}
	waits := map[string]bool{}
	for _, i := range left.items() {
		waits[i.Name] = true
	}
	if len(left.fail) > 0 {
		return left.fail[0]
	}
	b.Told = map[string]string{}
	maps.Copy(b.Told, old.Told)
	for _, i := range r.was {
		if want, ok := r.settled[i.Name]; ok && want == i.want || !waits[i.Name] {
			b.Told[i.Name] = i.want
		}
	}
	l.p.bases[r.rel] = b
	return nil
}

func seenOf(items []Item) string {
	sum := sha256.New()
	for _, i := range items {
		fmt.Fprintf(sum, "%q %q\n", i.Name, i.want)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}
