package confine

import (
	"path"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// permitGit sends a change below a git directory to its stage. The place it is
// given becomes that of the overlay.
func (t *supervisorThread) permitGit(q *request, v verb, p *place) reply {
	ok := reply{fd: none}
	if t.s.git == nil {
		return ok
	}
	dir, at := t.s.gitDir(p.path)
	if dir == "" {
		if r, staged := t.permitBare(q, v, p); r.err != 0 || !staged {
			return r
		}
		if dir, at = t.s.gitDir(p.path); dir == "" {
			return ok
		}
	}
	if at {
		if r := t.permitBareObjects(q, v, p, dir); r.err != 0 {
			return r
		}
		other := t.s.isOther(dir)
		switch {
		case v == verbMakeDir && (dir[len(dir)-len(gitName):] == gitName || other):
			return ok // those of another name are there
		case v == verbRemoveDir:
			return ok // see removeGitDir
		case v == verbTake && t.s.git.isMade(dir):
			return ok // see moveGitDir; any other rename of it is EBUSY
		case v == verbOpen && t.s.git.holdsFile(p, dir):
			return ok
		case v == verbPlace && other && t.s.git.holdsFile(p, dir):
			return ok // see replaceStaged
		case v == verbRemove && other && t.s.git.holdsFile(p, dir) && t.s.git.madeBare(dir):
			return ok
		case v == verbRemove && !other && (t.s.git.holdsFile(p, dir) || dir != t.s.cfg.Workspace+"/"+gitName && isRegular(p)):
			return ok
		}
		// A link, a file that was there before, or a directory made under another
		// name, would not be staged.
		t.s.denied(q.who, p.path, sandbox.DenialProtected)
		return reply{err: unix.EPERM, fd: none}
	}
	if t.s.git.holds(p.dir, dir) {
		return ok
	}
	err := t.stageGit(dir)
	if err == nil {
		err = p.again(t, dir)
	}
	if err != nil {
		t.s.denied(q.who, p.path, sandbox.DenialProtected)
		return reply{err: unix.EPERM, fd: none}
	}
	return ok
}

// permitGitObject judges what one of the caller's descriptors refers to, opened
// perhaps before its directory was staged.
func (t *supervisorThread) permitGitObject(q *request, fd int, path string) reply {
	if t.s.git == nil {
		return reply{fd: none}
	}
	dir, _ := t.s.gitDir(path)
	bare := false
	if dir == "" && within(path, t.s.cfg.Workspace) && path != t.s.cfg.Workspace {
		above, _ := t.bareAbove(&place{path: path}, false)
		bare = above != ""
	}
	if bare || dir != "" && !t.s.git.holds(fd, dir) {
		t.s.denied(q.who, path, sandbox.DenialProtected)
		return reply{err: unix.EPERM, fd: none}
	}
	return reply{fd: none}
}

// rename moves a name. A directory that git directories lie in keeps to the
// workspace, where they are staged.
func (t *supervisorThread) rename(src, dst *place, flags uint) error {
	if done, err := t.replaceStaged(src, dst, flags); done {
		return err
	}
	if done, err := t.moveGitDir(src, dst, flags); done {
		return err
	}
	holds := t.holdsGit(src.path)
	for _, g := range t.s.cfg.OtherGit {
		if within(g, src.path) {
			return unix.EBUSY // it is known by its path alone
		}
	}
	if flags&unix.RENAME_EXCHANGE != 0 && (holds || t.holdsGit(dst.path)) || holds && !within(dst.path, t.s.cfg.Workspace) {
		return unix.EBUSY
	}
	err := unix.Renameat2(src.dir, src.name, dst.dir, dst.name, flags)
	if err == nil && holds {
		t.moveGit(src.path, dst.path)
	}
	return err
}

func (t *supervisorThread) stageGit(dir string) (err error) {
	t.s.onPrivilegedThread(func() { err = t.s.stageGit(dir) })
	return err
}

// again finds the directory of a place by its path, as it was reached before the
// overlay was put there.
func (p *place) again(t *supervisorThread, git string) error {
	parent, _ := splitLast(p.path)
	dir, err := openat2(t.root, "."+parent, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil || !t.s.git.holds(dir, git) {
		unix.Close(dir)
		return unix.EPERM
	}
	unix.Close(p.dir)
	p.dir, p.id = dir, fileID{st.Dev, st.Ino}
	return nil
}

// makeGitDir makes a directory, and stages it where it is a git directory.
func (t *supervisorThread) makeGitDir(p *place, mode uint32) error {
	if err := unix.Mkdirat(p.dir, p.name, mode); err != nil {
		return err
	}
	dir, at := t.s.gitDir(p.path)
	if !at {
		return nil
	}
	if err := t.stageGit(dir); err != nil {
		unix.Unlinkat(p.dir, p.name, unix.AT_REMOVEDIR)
		return unix.EPERM
	}
	return nil
}

// removeGitDir removes an empty directory. The one of a repository goes when
// nothing is below its overlay, or when this session made it, with what was
// published of it; any other is the user's.
func (t *supervisorThread) removeGitDir(q *request, p *place) error {
	dir, at := t.s.gitDir(p.path)
	made := false
	if at {
		var err error
		if made, err = t.releaseGitDir(q, p, dir); err != nil {
			return err
		}
	}
	if made {
		if err := removeAllAt(p.dir, p.name, 0); err != nil {
			return err
		}
		t.forgetBare(path.Dir(p.path))
		return nil
	}
	err := unix.Unlinkat(p.dir, p.name, unix.AT_REMOVEDIR)
	if err == nil {
		t.forgetBare(p.path)
	}
	return err
}

// releaseGitDir takes the overlay of an empty git directory away. made says that
// the session made the directory.
func (t *supervisorThread) releaseGitDir(q *request, p *place, dir string) (made bool, err error) {
	g := t.s.git
	g.mu.Lock()
	d := g.dirs[dir]
	g.mu.Unlock()
	if d == nil || d.file {
		return false, nil
	}
	top, err := openat2(p.dir, p.name, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return false, err
	}
	empty, err := isEmptyDir(top)
	unix.Close(top)
	if err == nil && !empty {
		err = unix.ENOTEMPTY
	}
	if err == nil {
		empty, err = isEmptyDir(d.lower)
	}
	if err == nil && !empty && !d.made {
		t.s.denied(q.who, p.path, sandbox.DenialProtected)
		err = unix.EBUSY
	}
	if err != nil {
		return false, err
	}
	made = d.made
	t.s.onPrivilegedThread(func() { err = t.s.unstageGit(dir) })
	if err == nil {
		t.dropStage(dir)
	}
	return made, err
}

// dropStage removes what is left of a stage whose directory is empty.
func (t *supervisorThread) dropStage(dir string) {
	name := t.s.stageName(dir)
	t.s.onPrivilegedThread(func() { removeAllAt(t.s.git.fd, name, 0) })
}

// moveGit follows a directory that git directories lie in to its new name.
func (t *supervisorThread) moveGit(from, to string) {
	g := t.s.git
	g.mu.Lock()
	defer g.mu.Unlock()
	g.moveBare(from, to)
	for p, d := range g.dirs {
		if !within(p, from) || p == from {
			continue
		}
		moved := to + p[len(from):]
		if !within(moved, t.s.cfg.Workspace) {
			continue
		}
		unix.Renameat(g.fd, t.s.stageName(p), g.fd, t.s.stageName(moved))
		delete(g.dirs, p)
		g.dirs[moved] = d
	}
}

// holdsGit says whether staged directories lie below p.
func (t *supervisorThread) holdsGit(p string) bool {
	g := t.s.git
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for dir := range g.dirs {
		if within(dir, p) {
			return true
		}
	}
	return false
}

// removeAllAt removes a tree of the stage, following nothing.
func removeAllAt(dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, 0)
	if err != unix.EISDIR && err != unix.EPERM || depth > 64 {
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.EACCES {
		unix.Fchmodat(dir, name, 0o700, 0)
		fd, err = unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	for _, n := range namesIn(fd) {
		removeAllAt(fd, n, depth+1)
	}
	unix.Close(fd)
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}
