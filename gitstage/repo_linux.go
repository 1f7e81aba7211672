package gitstage

import (
	"errors"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/gitconfig"
)

// look notes what the real directory is.
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
	r.index = nil
	if b, err := r.real.read("index", maxIndex); err == nil && b != nil {
		r.index, _ = parseIndex(b, r.hexLen)
	}
	r.conflicts, r.blocked = map[string]string{}, map[string]bool{}
	r.sig, r.known, r.stale = r.signature(), true, false
	return nil
}

// staged is what a look at the stage found changed.
type staged struct {
	files map[string]entry // what is not an object, by path
	kept  []string
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
			case c == classKept && e.kind == kindFile:
				s.kept = append(s.kept, p)
				r.seen[p] = e.sig
			case c != classSilent && (e.kind == kindFile || e.kind == kindGone):
				s.files[p] = e
			}
		}
		return nil
	}
	err := visit("", 0)
	return s, err
}

// publish brings the stage's news outside.
func (r *repo) publish() (Report, error) {
	var out Report
	if e, err := r.upper.stat("HEAD"); err == nil && e.kind == kindGone {
		return out, nil // the session has removed its repository: outside it stays
	}
	r.stale = r.stale || r.signature() != r.sig
	errs := []error{r.publishSubs(&out)}
	// Everything that names objects is read before them: what it names is then
	// among what is published.
	news, err := r.scan()
	if err != nil {
		return out, errors.Join(append(errs, err)...)
	}
	job := &job{repo: r, news: news, out: &out}
	job.read()
	if !r.linked {
		n, err := publishObjects(r.upper, r.real, r.seen)
		out.Published += n
		if err != nil {
			return out, errors.Join(append(errs, err)...)
		}
	}
	if len(news.files) > 0 {
		errs = append(errs, job.apply()...)
	}
	for _, k := range news.kept {
		out.Kept = append(out.Kept, path.Join(r.title, k))
	}
	if out.Published > 0 || len(news.files) > 0 {
		r.sig = r.signature()
	}
	return out, errors.Join(errs...)
}

// publishSubs publishes the git directories inside of this one that are known
// outside. A new one stays: what it needs names files (gitdir, commondir).
func (r *repo) publishSubs(out *Report) error {
	if r.linked {
		return nil
	}
	if r.subs == nil {
		r.subs = map[string]*repo{}
	}
	var errs []error
	for _, top := range []string{"modules", "worktrees"} {
		names, _ := r.upper.names(top)
		slices.Sort(names)
		for _, n := range names {
			p := top + "/" + n
			if e, err := r.upper.stat(p); err != nil || e.kind != kindDir {
				continue
			}
			if e, err := r.real.stat(p + "/HEAD"); err != nil || e.kind != kindFile {
				out.Kept = append(out.Kept, path.Join(r.title, p))
				continue
			}
			sub := r.subs[p]
			if sub == nil {
				sub = &repo{p: r.p, rel: r.rel + "/" + p, title: p, seen: map[string]sig{}, linked: top == "worktrees"}
				r.subs[p] = sub
			}
			errs = append(errs, r.within(p, sub, func() error {
				report, err := sub.publish()
				out.add(report)
				return err
			}))
		}
	}
	return errors.Join(errs...)
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

// job is one publish of one repository.
type job struct {
	*repo
	news staged
	out  *Report

	refsNow refs
	content map[string][]byte
	changed []string // refs
	fail    []error
}

// read takes what is small of the news into memory.
func (j *job) read() {
	j.content = map[string][]byte{}
	refsChanged := false
	for p, e := range j.news.files {
		switch classify(p) {
		case classRef, classPacked:
			refsChanged = true
		case classHead, classText, classLog, classConfig, classIndex:
			if e.kind != kindFile {
				continue
			}
			limit := int64(maxText)
			switch classify(p) {
			case classIndex:
				limit = maxIndex
			case classLog:
				limit = maxPacked
			}
			b, err := j.upper.read(p, limit)
			if err != nil || b == nil {
				delete(j.news.files, p)
				continue
			}
			j.content[p] = b
		default:
			refsChanged = refsChanged || p == "refs" || strings.HasPrefix(p, "refs/")
		}
	}
	if !refsChanged {
		return
	}
	var err error
	if j.refsNow, err = stagedRefs(j.upper, j.repo.mounted); err != nil {
		j.fail = append(j.fail, err)
		return
	}
	j.changed = j.refsNow.changes(j.repo.refs)
	j.after = j.refsNow
}

// apply publishes in the order in which git would: what is named before what
// names it, and HEAD, which makes a directory a repository, last.
func (j *job) apply() []error {
	if j.fresh {
		for _, d := range []string{"objects/info", "objects/pack", "refs/heads", "refs/tags"} {
			if err := j.real.mkdirs(d); err != nil {
				return append(j.fail, err)
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(j.content)) {
		if classify(p) == classLog {
			j.done(p, j.publishLog(p))
		}
	}
	j.publishRefs()
	states := map[string]bool{}
	for _, p := range slices.Sorted(maps.Keys(j.news.files)) {
		e := j.news.files[p]
		top, _, _ := strings.Cut(p, "/")
		switch c := classify(p); {
		case slices.Contains(units, top):
			states[top] = true
		case c == classText:
			j.done(p, j.publishText(p, e))
		case c == classConfig && e.kind == kindFile && !j.linked:
			j.done(p, j.publishConfig())
		case c == classIndex && e.kind == kindFile:
			j.done(p, j.publishIndex())
		}
	}
	for _, unit := range slices.Sorted(maps.Keys(states)) {
		j.publishState(unit)
	}
	for _, p := range slices.Sorted(maps.Keys(j.news.files)) {
		if classify(p) == classHead {
			j.done(p, j.publishHead(p, j.news.files[p]))
		}
	}
	return j.fail
}

// done notes that a file of the stage needs no further look.
func (j *job) done(p string, err error) {
	switch err {
	case nil:
		j.seen[p] = j.news.files[p].sig
		j.out.Published++
	case unix.EEXIST: // git outside holds the lock: tried again by the next call
		j.out.Conflicts = append(j.out.Conflicts, path.Join(j.title, p)+" is locked outside ("+path.Base(p)+".lock); it is published when the lock has gone")
	default:
		j.fail = append(j.fail, err)
	}
}

// waitLocked tries for a moment, as a git outside holds its locks for one.
func waitLocked(f func() error) error {
	for range 20 {
		if err := f(); err != unix.EEXIST {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return unix.EEXIST
}

func (j *job) publishRefs() {
	whole := true
	for _, name := range j.changed {
		want, known := j.refsNow.value(name), j.repo.refs.value(name)
		if j.repo.conflicts[name] != "" {
			if j.repo.conflicts[name] == want {
				continue
			}
			if !isOID(want) || !j.real.leadsTo(want, known) {
				j.conflict(name, want)
				continue
			}
		}
		switch err := waitLocked(func() error { return j.setRef(name, want, known) }); err {
		case nil:
			j.note(name, want)
			j.out.Published++
		case errConflict:
			j.conflict(name, want)
		default:
			whole = false
			j.done(name, err)
		}
	}
	if !whole {
		return
	}
	for p, e := range j.news.files {
		if c := classify(p); c == classRef || c == classPacked || p == "refs" || strings.HasPrefix(p, "refs/") {
			j.seen[p] = e.sig
		}
	}
}

// note keeps what a ref is outside, and so in the session.
func (j *job) note(name, value string) {
	delete(j.repo.conflicts, name)
	if value == "" {
		delete(j.repo.refs.loose, name)
		delete(j.repo.refs.packed, name)
		_ = j.real.remove("logs/" + name)
		return
	}
	j.repo.refs.loose[name] = value
}

// conflict keeps the session's side of a ref that was changed outside too.
func (j *job) conflict(name, want string) {
	now, err := j.realRef(name)
	if err != nil {
		j.fail = append(j.fail, err)
		return
	}
	j.note(name, now)
	j.repo.conflicts[name] = want
	where := "it is gone in the session"
	if isOID(want) {
		ref := RefPrefix + "conflict/" + j.p.now().UTC().Format("20060102") + "/" + strings.TrimPrefix(name, "refs/") + "-" + want[:10]
		if err := waitLocked(func() error { return j.plainRef(ref, want) }); err != nil {
			j.fail = append(j.fail, err)
		}
		where = "the session's side is " + ref
	}
	j.out.Conflicts = append(j.out.Conflicts, path.Join(j.title, name)+" was changed outside too; "+where)
}

// publishHead publishes HEAD or one of the names like it.
func (j *job) publishHead(p string, e entry) error {
	want := ""
	if e.kind == kindFile {
		if want = refValue(j.content[p]); want == "" {
			return nil
		}
	} else if p == "HEAD" {
		return nil
	}
	known := j.heads[p]
	err := waitLocked(func() error {
		return j.real.locked(p, 0o644, func() ([]byte, error) {
			b, err := j.real.read(p, 4096)
			if err != nil {
				return nil, err
			}
			switch now := refValue(b); {
			case now == want && (want != "" || b == nil):
				return nil, nil
			case now != known && p == "HEAD":
				return nil, errConflict
			case want == "":
				if err := j.real.remove(p); err != nil && err != unix.ENOENT {
					return nil, err
				}
				return nil, nil
			}
			if p == "HEAD" {
				if err := j.keepUndo("HEAD", known, want); err != nil {
					return nil, err
				}
			}
			return []byte(want + "\n"), nil
		})
	})
	if err == errConflict {
		j.out.Conflicts = append(j.out.Conflicts, path.Join(j.title, p)+" was changed outside too; it stays as it is outside, and was "+want+" in the session")
		return nil
	}
	if err == nil {
		j.heads[p] = want
	}
	return err
}

var logLine = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) [^\n\x00]*> [0-9]+ [+-][0-9]{4}(\t[^\n\x00]*)?$`)

// publishLog appends what the session added to the log of a ref. The log of the
// stash is its content and becomes what the session's is; what it dropped stays
// reachable.
func (j *job) publishLog(p string) error {
	now, err := j.real.read(p, maxPacked)
	if err != nil {
		return err
	}
	old := slices.Collect(strings.SplitAfterSeq(string(now), "\n"))
	lines := slices.Collect(strings.SplitAfterSeq(string(j.content[p]), "\n"))
	lines = slices.DeleteFunc(lines, func(l string) bool { return !logLine.MatchString(strings.TrimSuffix(l, "\n")) || l[len(l)-1] != '\n' })
	common := 0
	for common < len(old) && common < len(lines) && old[common] == lines[common] {
		common++
	}
	if p == "logs/refs/stash" && common < len(old) && old[common] != "" {
		for _, l := range old[common:] {
			if f := strings.Fields(l); len(f) > 1 && isOID(f[1]) && !slices.Contains(lines, l) {
				if err := j.keepUndo("refs/stash", f[1], ""); err != nil {
					return err
				}
			}
		}
		return j.real.locked(p, 0o644, func() ([]byte, error) { return []byte(strings.Join(lines, "")), nil })
	}
	if common == len(lines) {
		return nil
	}
	added := strings.Join(lines[common:], "")
	if err := j.real.mkdirs(path.Dir(p)); err != nil {
		return err
	}
	fd, err := j.real.open(p, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(added))
	return err
}

// publishText replaces a file, or removes one that git removes when it is done.
func (j *job) publishText(p string, e entry) error {
	if e.kind == kindGone {
		if strings.Contains(p, "/") || p == "description" {
			return nil
		}
		if err := j.real.remove(p); err != nil && err != unix.ENOENT {
			return err
		}
		return nil
	}
	return j.real.create(p, 0o644, true, func(w io.Writer) error { _, err := w.Write(j.content[p]); return err })
}

func (j *job) publishState(unit string) {
	ok, err := j.publishUnit(unit)
	if err != nil {
		j.fail = append(j.fail, err)
		return
	}
	if j.blocked[unit] = !ok; !ok {
		j.out.Kept = append(j.out.Kept, path.Join(j.title, unit))
	} else {
		j.out.Published++
	}
	for p, e := range j.news.files {
		if top, _, _ := strings.Cut(p, "/"); top == unit {
			j.seen[p] = e.sig
		}
	}
}

// publishConfig publishes the settings that name no program.
func (j *job) publishConfig() error {
	session, err := gitconfig.Parse(string(j.content["config"]))
	if err != nil {
		return nil // half written, or broken: git inside refuses it as well
	}
	if j.fresh && session.Last("extensions", "", "objectformat") == "sha256" {
		j.hexLen = 64
	}
	check := &configCheck{writable: j.p.o.Writable}
	var kept, conflicts []string
	err = waitLocked(func() error {
		return j.real.locked("config", 0o644, func() ([]byte, error) {
			b, err := j.real.read("config", gitconfig.MaxSize)
			if err != nil {
				return nil, err
			}
			real, err := gitconfig.Parse(string(b))
			if err != nil {
				return nil, err
			}
			var changed bool
			changed, kept, conflicts, err = mergeConfig(real, j.config, variables(session), j.fresh, check)
			if err != nil {
				return nil, err
			}
			j.config = variables(real)
			if !changed {
				return nil, nil
			}
			return []byte(real.Text()), nil
		})
	})
	for _, k := range kept {
		j.out.Kept = append(j.out.Kept, path.Join(j.title, k))
	}
	for _, c := range conflicts {
		j.out.Conflicts = append(j.out.Conflicts, path.Join(j.title, c)+" was changed outside too; it stays as it is outside")
	}
	return err
}

// publishIndex replaces the index, unless it was changed outside too. Fresh times
// of the same entries are no change.
func (j *job) publishIndex() error {
	mine, err := parseIndex(j.content["index"], j.hexLen)
	if err != nil {
		j.out.Kept = append(j.out.Kept, path.Join(j.title, "index"))
		return nil
	}
	conflict := false
	err = waitLocked(func() error {
		return j.real.locked("index", 0o644, func() ([]byte, error) {
			b, err := j.real.read("index", maxIndex)
			if err != nil {
				return nil, err
			}
			if b != nil {
				now, err := parseIndex(b, j.hexLen)
				if err == nil && sameEntries(now, mine) {
					return nil, nil
				}
				if conflict = err != nil || !sameEntries(now, j.index); conflict {
					return nil, nil
				}
			}
			return j.content["index"], nil
		})
	})
	if err != nil {
		return err
	}
	if !conflict {
		j.index = mine
		return nil
	}
	ref, err := j.keepIndex(mine)
	if err != nil {
		return err
	}
	j.out.Conflicts = append(j.out.Conflicts, path.Join(j.title, "index")+" was changed outside too; the session's side is "+ref)
	return nil
}

// keepIndex makes a commit of what the session had staged.
func (j *job) keepIndex(entries []indexEntry) (string, error) {
	tree, err := j.real.writeTree(entries, j.hexLen)
	if err != nil {
		return "", err
	}
	when := strconv.FormatInt(j.p.now().Unix(), 10) + " +0000"
	who := "mcp-sandbox <mcp-sandbox@localhost> " + when
	body := "tree " + tree + "\nauthor " + who + "\ncommitter " + who + "\n\nThe index of a session, changed outside at the same time.\n"
	oid, err := j.real.writeObject("commit", []byte(body), j.hexLen)
	if err != nil {
		return "", err
	}
	ref := RefPrefix + "conflict/" + j.p.now().UTC().Format("20060102") + "/index-" + oid[:10]
	return ref, waitLocked(func() error { return j.plainRef(ref, oid) })
}
