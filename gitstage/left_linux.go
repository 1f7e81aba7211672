package gitstage

import (
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/gitconfig"
)

// Left gives all that stays in the session, of every git directory, as of the last
// Publish.
func (p *Publisher) Left() (all []Left) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var add func(r *repo)
	add = func(r *repo) {
		for _, k := range slices.Sorted(maps.Keys(r.left)) {
			all = append(all, r.left[k])
		}
		if r.leftMore > 0 {
			all = append(all, Left{Dir: r.rel, Kind: LeftState, Name: "...",
				Unfit: fmt.Sprintf("%d more settings or files stay than are listed", r.leftMore)})
		}
		for _, k := range slices.Sorted(maps.Keys(r.subs)) {
			add(r.subs[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(p.repos)) {
		add(p.repos[k])
	}
	return all
}

// keepLeft notes what stays, if the stage has changed in that since. files are the
// staged files that stay, by their paths in the git directory; config is the session's
// configuration.
func (r *repo) keepLeft(side leftSide, news bool) {
	if !news {
		changed := false
		for p, s := range r.leftSigs {
			e, err := side.stat(p)
			changed = changed || err != nil || e.sig != s
		}
		if !changed {
			return
		}
	}
	old := r.left
	r.left, r.leftSigs = map[string]Left{}, map[string]sig{}
	r.leftSize, r.leftMore = 0, 0
	held := r.p.held()
	r.leftSettings(side, &held)
	for _, p := range side.kept() {
		e, err := side.stat(p)
		if err != nil || e.kind != kindFile {
			continue
		}
		r.leftSigs[p] = e.sig
		if held.count >= MaxLeftAll || held.size+2*int(min(e.size, maxLeft)) > MaxLeftBytes {
			l := Left{Kind: leftKind(p), Name: p, Sum: fingerprint(fmt.Sprint(r.rel, p, e.sig))}
			l.Strip()
			r.addLeft(l, nil, &held)
			continue
		}
		l := r.leftFile(side, p)
		if l.Unfit == "" && sameFile(l.Text, l.WasText, l.Mode, l.WasMode) {
			continue // such as one that was made and published outside since
		}
		r.addLeft(l, old, &held)
	}
	for unit, blocked := range r.blocked {
		if blocked {
			r.addLeft(Left{Kind: LeftState, Name: unit, Unfit: "it names commands or options of its own, so it goes on inside alone"}, old, &held)
		}
	}
	for p, why := range r.unfit {
		if e, err := side.stat(p); err == nil && e.kind == kindFile {
			r.leftSigs[p] = e.sig
			r.addLeft(Left{Kind: LeftFile, Name: p, Unfit: why}, nil, &held)
		} else {
			delete(r.unfit, p)
		}
	}
	for p := range r.unmade {
		r.addLeft(Left{Kind: LeftState, Name: p, Unfit: "it is not a module or worktree that leads to a place in the workspace and back"}, old, &held)
	}
}

// leftHeld is how much is kept of all git directories.
type leftHeld struct{ count, size int }

// held is what is kept of all repositories.
func (p *Publisher) held() (h leftHeld) {
	var add func(r *repo)
	add = func(r *repo) {
		h.count, h.size = h.count+len(r.left), h.size+r.leftSize
		for _, sub := range r.subs {
			add(sub)
		}
	}
	for _, r := range p.repos {
		add(r)
	}
	return h
}

// addLeft adds one, as far as the bounds allow; what the session found stays as it was
// first seen.
func (r *repo) addLeft(l Left, old map[string]Left, held *leftHeld) {
	if held.count >= MaxLeftAll || len(l.Name) > maxLeftName {
		r.leftMore++
		return
	}
	l.Dir, l.Bare = r.rel, r.bare
	l.Dev, l.Ino, _ = r.real.identity()
	key := string(l.Kind) + " " + l.Name
	if o, ok := old[key]; ok && l.Kind != LeftSetting {
		l.WasText, l.WasMode = o.WasText, o.WasMode
	}
	l.Sum = l.ID()
	if held.size+l.Size() > MaxLeftBytes {
		l.Strip()
	}
	held.count, held.size, r.leftSize = held.count+1, held.size+l.Size(), r.leftSize+l.Size()
	r.left[key] = l
}

// leftSettings adds the settings that stay.
func (r *repo) leftSettings(side leftSide, held *leftHeld) {
	e, err := side.stat("config")
	if err != nil || e.kind != kindFile || r.linked {
		return
	}
	r.leftSigs["config"] = e.sig
	mine, err1 := side.read("config", gitconfig.MaxSize)
	real, _, err2 := r.real.config("config")
	if err1 != nil || err2 != nil {
		return
	}
	session, err := gitconfig.Parse(string(mine))
	if err != nil {
		return
	}
	vars := variables(session)
	base := maps.Clone(r.config)
	if base == nil { // not published yet: what it starts from is what is there
		base = variables(real)
	}
	_, kept, _, err := mergeConfig(real, base, vars, r.fresh, r.configCheck())
	if err != nil {
		return
	}
	for _, name := range kept {
		v, ok := vars[name]
		if !ok {
			v.entry = r.config[name].entry
		}
		r.addLeft(Left{Kind: LeftSetting, Name: name, Section: v.entry.Section, Subsection: v.entry.Subsection, Key: v.entry.Key,
			Values: v.values, Was: r.config[name].values}, nil, held)
	}
}

// identity distinguishes a directory from any other, also after a move.
func (t tree) identity() (dev, ino uint64, err error) {
	var st unix.Stat_t
	err = unix.Fstat(t.fd, &st)
	return uint64(st.Dev), st.Ino, err
}

func leftKind(p string) LeftKind {
	if strings.HasPrefix(p, "hooks/") {
		return LeftHook
	}
	return LeftFile
}

func (r *repo) leftFile(side leftSide, p string) Left {
	l := Left{Kind: leftKind(p), Name: p}
	if strings.HasPrefix(p, "refs/") {
		l.Unfit = "git shows another object in place of the one that it names; make it yourself with git replace"
		return l
	}
	b, mode, err := side.readMode(p)
	if err != nil {
		l.Unfit = "it is too large, or cannot be read"
		return l
	}
	l.Text, l.Mode = b, mode
	if l.WasText, l.WasMode, err = r.real.readMode(p); err == unix.ENOENT {
		err = nil
	}
	if err != nil {
		l.Unfit = "what the project has there is no file"
	}
	return l
}

// leftSide is where the stage has the session's side of files, by their paths in the
// git directory.
type leftSide interface {
	stat(p string) (entry, error)
	read(p string, max int64) ([]byte, error)
	readMode(p string) ([]byte, uint32, error)
	kept() []string
}

// maxLeftFiles bounds the files of one git directory that stay and are listed.
const maxLeftFiles = 500

// kept are the files of a whole stage that stay.
func (t tree) kept() (files []string) {
	var visit func(dir string, depth int)
	visit = func(dir string, depth int) {
		names, _ := t.names(path.Join(dir, "."))
		slices.Sort(names)
		for _, n := range names {
			p := path.Join(dir, n)
			if dir == "" && slices.Contains([]string{"objects", "modules", "worktrees", "refs", "logs", "lfs", "rr-cache", "reftable"}, n) || len(files) >= maxLeftFiles {
				continue
			}
			e, err := t.stat(p)
			switch {
			case err != nil:
			case e.kind == kindDir && depth < 10:
				visit(p, depth+1)
			case e.kind == kindFile && classify(p) == classKept:
				files = append(files, p)
			}
		}
	}
	visit("", 0)
	if e, err := t.stat("refs/replace"); err == nil && e.kind == kindDir {
		visit("refs/replace", 1)
	}
	for _, p := range alternates {
		if e, err := t.stat(p); err == nil && e.kind == kindFile {
			files = append(files, p)
		}
	}
	return files
}

// readMode gives the content and the mode of one file; ENOENT is of one that is not there.
func (t tree) readMode(p string) ([]byte, uint32, error) {
	f, err := t.file(p)
	if err == unix.ENOTDIR {
		err = unix.ENOENT
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxLeft+1))
	if err == nil && len(b) > maxLeft {
		err = unix.EFBIG
	}
	return b, uint32(fi.Mode().Perm()) & 0o755, err
}

// configCheck is what the settings of a repository are judged by.
func (r *repo) configCheck() *configCheck {
	// In a Layer a bare repository is a directory like any other, with another name.
	named := r.p.bases != nil && !slices.Contains(strings.Split(r.rel, "/"), ".git")
	c := &configCheck{writable: r.p.o.Writable, bare: r.fresh && (r.bare || named)}
	if r.made {
		c.tree = func(v string) bool {
			_, ok := r.p.inWorkspace(r.p.at(r.rel), v+"/.git")
			return ok
		}
	}
	return c
}

// bareSide is the session's side of a bare repository of which parts alone are staged.
type bareSide struct {
	stage  tree
	prefix string // of the names of its stages
}

// at is where the stage has what lies at a path of the git directory.
func (b bareSide) at(p string) string {
	if p == bareConfig {
		return b.prefix + bareConfig + "/file"
	}
	top, rest, _ := strings.Cut(p, "/")
	return path.Join(b.prefix+top, "upper", rest)
}

func (b bareSide) stat(p string) (entry, error)             { return b.stage.stat(b.at(p)) }
func (b bareSide) read(p string, max int64) ([]byte, error) { return b.stage.read(b.at(p), max) }
func (b bareSide) readMode(p string) ([]byte, uint32, error) {
	return b.stage.readMode(b.at(p))
}

// kept are the files that stay, and the modules and worktrees.
func (b bareSide) kept() (files []string) {
	tops := []string{"objects/info"}
	if b.prefix != "" { // at the root nothing else can be changed
		tops = append(tops, "hooks", "info", "remotes", "branches")
	}
	for _, top := range tops {
		_ = b.stage.walk(b.at(top), 0, func(at string, e entry) {
			p := path.Join(top, strings.TrimPrefix(at, b.at(top)))
			if e.kind == kindFile && classify(p) == classKept && len(files) < maxLeftFiles {
				files = append(files, p)
			}
		})
	}
	return files
}

// alternates are files that name other places of objects.
var alternates = []string{"objects/info/alternates", "objects/info/http-alternates"}

// unmade are the modules and worktrees of it.
func (b bareSide) unmade() map[string]bool {
	m := map[string]bool{}
	if b.prefix == "" {
		return m
	}
	for _, top := range []string{"modules", "worktrees"} {
		names, _ := b.stage.names(b.at(top))
		for _, n := range names {
			if e, err := b.stat(top + "/" + n); err == nil && e.kind != kindGone && len(m) < maxLeftFiles {
				m[top+"/"+n] = true
			}
		}
	}
	return m
}
