package confine

import (
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// A directory with another name than .git is a git directory by what is in it: a
// bare repository, or where a .git file leads. It becomes one while commands stand
// in it, so no overlay can take its place. What git obeys there is staged by its own
// name instead, as soon as the directory is complete: what commands have put there
// by then goes to the stage, before the name is made that completes it.

// bareNames are what makes a directory a git directory (is_git_directory in git's
// setup.c).
var bareNames = []string{"head", "objects", "refs"}

// bareDirs are the directories that are staged there: remotes and branches are an old
// form of remote.*.url. Refs, logs and HEAD are data, and stay where they are.
var bareDirs = []string{"objects", "hooks", "info", "modules", "worktrees", "remotes", "branches"}

// bareConfig is the file that is staged. bareNever has git obey another directory or
// file, and is not made.
const bareConfig, bareNever, bareWorktree = "config", "commondir", "config.worktree"

// bareRepo is one such directory.
type bareRepo struct {
	made    bool // by this session
	partial bool // some of what was copied could not be taken out of the real directory
}

// isBare says whether a directory is registered as one.
func (g *gitStage) isBare(dir string) bool {
	all := g.bare.Load()
	if all == nil {
		return false
	}
	_, ok := (*all)[dir]
	return ok
}

// barePart is the staged name of a bare repository that a path names or lies in, ""
// for none.
func (g *gitStage) barePart(p string) (part string, r bareRepo) {
	all := g.bare.Load()
	if all == nil {
		return "", r
	}
	for i := 1; i < len(p); {
		j := strings.IndexByte(p[i:], '/')
		if j < 0 {
			return "", r
		}
		dir, end := p[:i+j], len(p)
		if k := strings.IndexByte(p[i+j+1:], '/'); k >= 0 {
			end = i + j + 1 + k
		}
		if r, ok := (*all)[dir]; ok && isBarePart(p[i+j+1:end]) {
			return p[:end], r
		}
		i += j + 1
	}
	return "", r
}

func isBarePart(name string) bool {
	name = foldName(name)
	return name == bareConfig || name == bareWorktree || name == bareNever || slices.Contains(bareDirs, name)
}

// isBareRef says whether a name holds refs, or is the lock or the new form of one that
// does: what they led to is noted before they change.
func isBareRef(name string) bool {
	name = foldName(name)
	return name == "refs" || name == "head" || name == "head.lock" || strings.HasPrefix(name, "packed-refs")
}

// setBare registers bare repositories, or takes them out, with g.mu held.
func (g *gitStage) setBare(change func(map[string]bareRepo)) {
	now := map[string]bareRepo{}
	if all := g.bare.Load(); all != nil {
		maps.Copy(now, *all)
	}
	change(now)
	g.bare.Store(&now)
}

// isOther says whether a staged path has another name than .git: it is of the
// configuration, or a part of a bare repository.
func (s *initState) isOther(dir string) bool {
	if within(dir, s.cfg.OtherGit...) {
		return true
	}
	part, _ := s.git.barePart(dir)
	return part == dir
}

// isComplete says whether a directory would be a git directory with the name without.
// A name counts whatever it is, as a link can come to lead to something, and so does
// one that cannot be looked at.
func isComplete(dir int, without string) bool {
	for _, n := range []string{"HEAD", "objects", "refs"} {
		if foldName(n) != without && isMissing(dir, n) {
			return false
		}
	}
	return true
}

func isMissing(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT
}

// permitBare looks whether a change would complete a bare repository or reach what
// git obeys in one, and stages that first. Such a change is done while no other one
// runs: alone says that it has to be asked for again in that way.
func (t *supervisorThread) permitBare(q *request, v verb, p *place) (r reply, staged bool) {
	top := t.s.cfg.Workspace
	parent := path.Dir(p.path)
	if p.proc || !within(p.path, top) || p.path == top {
		return reply{fd: none}, false
	}
	refuse := func() (reply, bool) {
		t.s.denied(q.who, p.path, sandbox.DenialProtected)
		return reply{err: unix.EPERM, fd: none}, false
	}
	name, puts := foldName(strings.TrimRight(p.name, "/")), v == verbOpen || v == verbMakeDir || v == verbPlace
	if name == bareNever && puts {
		return refuse()
	}
	if puts && parent != top && slices.Contains(bareNames, name) && !q.alone && isMissing(p.dir, p.name) {
		// Two of the names that are made at the same time complete it as well.
		return reply{err: unix.EAGAIN, fd: none, alone: true}, false
	}
	if puts && parent != top && slices.Contains(bareNames, name) && isComplete(p.dir, name) {
		if !q.alone {
			return reply{err: unix.EAGAIN, fd: none, alone: true}, false
		}
		if t.stageBare(parent, isMissing(p.dir, p.name)) != nil {
			return refuse()
		}
		return reply{fd: none}, true
	}
	dir, err := t.bareAbove(p, !puts)
	switch {
	case dir == "":
		return reply{fd: none}, false
	case !q.alone:
		return reply{err: unix.EAGAIN, fd: none, alone: true}, false
	case err != nil || t.stageBare(dir, false) != nil:
		return refuse()
	}
	return reply{fd: none}, true
}

// permitBareObjects looks at a repository that is completed by its objects, which are
// a staged name of it already.
func (t *supervisorThread) permitBareObjects(q *request, v verb, p *place, part string) reply {
	if v != verbMakeDir || path.Base(part) != "objects" || !t.s.git.isBare(path.Dir(part)) || !isComplete(p.dir, "objects") || !isMissing(p.dir, p.name) {
		return reply{fd: none}
	}
	if !q.alone {
		return reply{err: unix.EAGAIN, fd: none, alone: true}
	}
	if t.stageBare(path.Dir(part), true) != nil {
		t.s.denied(q.who, p.path, sandbox.DenialProtected)
		return reply{err: unix.EPERM, fd: none}
	}
	return reply{fd: none}
}

// bareAbove is the bare repository of whose staged names or refs one is in a path, that is
// not staged yet, or the directory of which that cannot be said, with why. With takes
// the last of the names may also be one that makes it a repository.
func (t *supervisorThread) bareAbove(p *place, takes bool) (dir string, err error) {
	for i := len(t.s.cfg.Workspace) + 1; i < len(p.path); {
		end := len(p.path)
		if j := strings.IndexByte(p.path[i:], '/'); j >= 0 {
			end = i + j
		}
		name := p.path[i:end]
		if dir := p.path[:i-1]; dir != t.s.cfg.Workspace && !t.s.git.isBare(dir) && (isBarePart(name) || isBareRef(name) || takes && end == len(p.path) && slices.Contains(bareNames, foldName(name))) {
			fd, err := openat2(t.root, "."+dir, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
			if err != nil {
				return dir, err
			}
			complete := isComplete(fd, "")
			unix.Close(fd)
			if complete {
				return dir, nil
			}
		}
		i = end + 1
	}
	return "", nil
}

func (g *gitStage) setMade(p string, made bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d := g.dirs[p]; d != nil {
		d.made = d.made || made
	}
}

// madeBare says whether a staged name is of a bare repository of this session.
func (g *gitStage) madeBare(dir string) bool {
	part, r := g.barePart(dir)
	return part == dir && r.made
}

// markPart notes in the stage of a part of a bare repository that it is one, and
// whether the session made it, for package gitstage.
func (g *gitStage) markPart(p, name string) error {
	part, r := g.barePart(p)
	if part != p {
		return nil
	}
	fd, err := unix.Openat(g.fd, name+"/part", unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if r.made {
		_, err = unix.Write(fd, []byte("made"))
	}
	return err
}

// forgetBare takes a directory out that is not a repository any more: its last staged
// name has gone, or it has itself.
func (t *supervisorThread) forgetBare(dir string) {
	g := t.s.git
	if g == nil || g.bare.Load() == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := (*g.bare.Load())[dir]; !ok {
		return
	}
	for p := range g.dirs {
		if path.Dir(p) == dir {
			return
		}
	}
	if fd, err := openat2(t.root, "."+dir, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS); err == nil {
		complete := isComplete(fd, "")
		unix.Close(fd)
		if complete {
			return
		}
	}
	g.setBare(func(all map[string]bareRepo) { delete(all, dir) })
}

// moveBare follows bare repositories to another name, with g.mu held.
func (g *gitStage) moveBare(from, to string) {
	if g.bare.Load() == nil {
		return
	}
	g.setBare(func(all map[string]bareRepo) {
		for dir, r := range maps.Clone(all) {
			if within(dir, from) {
				delete(all, dir)
				all[to+dir[len(from):]] = r
			}
		}
	})
}
