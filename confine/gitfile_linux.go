package confine

import (
	"path"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// A file .git names a git directory elsewhere: of a linked worktree, of a submodule,
// of init --separate-git-dir. One that a command makes is staged like a directory: a
// file of the stage lies over an empty one, in which the server writes what leads to
// a directory of which git outside sees data alone. One that was there before the
// session stays as it is.

// makeGitFile makes the file .git that an open is about to make, and stages it.
func (t *supervisorThread) makeGitFile(q *request, p *place, how *unix.OpenHow) reply {
	ok := reply{fd: none}
	if how.Flags&unix.O_CREAT == 0 {
		return ok
	}
	dir, at := t.s.gitDir(p.path)
	if !at || p.name != gitName || !within(dir, t.s.cfg.Workspace) || t.s.protected.Load().judgeAt(verbOpen, p) != "" {
		return ok
	}
	if !t.waits(q.id) {
		return reply{err: unix.EINTR, fd: none}
	}
	fd, err := unix.Openat(p.dir, p.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(how.Mode))
	if err != nil {
		return ok // it is there, or cannot be made: the open itself says so
	}
	unix.Close(fd)
	t.s.onPrivilegedThread(func() { err = t.s.stageGitFile(dir) })
	if err != nil {
		unix.Unlinkat(p.dir, p.name, 0)
		return reply{err: unix.EPERM, fd: none}
	}
	how.Flags &^= unix.O_EXCL
	return ok
}

// openStaged opens the .git file of the stage that a change has been permitted for.
// Another thread may take that away at any moment: what is opened is the file that
// is found to be the one of the stage, and none is made.
func (t *supervisorThread) openStaged(q *request, p *place, dir string, how unix.OpenHow) reply {
	if how.Flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL {
		return reply{err: unix.EEXIST, fd: none}
	}
	fd, err := openat2(p.dir, p.name, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	if !t.s.git.holds(fd, dir) {
		t.s.denied(q.who, p.path, sandbox.DenialProtected)
		return reply{err: unix.EPERM, fd: none}
	}
	how.Flags &^= unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW
	how.Mode = 0
	return t.finish(q, unix.AT_FDCWD, "/proc/self/fd/"+itoa(fd), how)
}

// stageGitFile puts a file of the stage over a .git file of this session. The stage
// keeps which one that is, for the server. It runs with init's rights, and fails with
// ESTALE for a file that is another one.
func (s *initState) stageGitFile(p string) error {
	g := s.git
	g.mu.Lock()
	defer g.mu.Unlock()
	at, err := s.root.look(p)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.ESTALE
	}
	name := s.stageName(p)
	if len(name) > unix.NAME_MAX {
		return unix.ENAMETOOLONG
	}
	if err := unix.Mkdirat(g.fd, name, 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	if s.isOther(p) {
		if err := g.markPart(p, name); err != nil {
			return err
		}
		return g.hangFile(p, name, at, func() error { return g.fillConfig(name, at) })
	}
	made := utoa(st.Ino)
	fd, err := unix.Openat(g.fd, name+"/made", unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if g.paused != nil {
		var b [32]byte
		if n, _ := unix.Pread(fd, b[:], 0); string(b[:max(n, 0)]) != made {
			return unix.ESTALE
		}
	} else {
		unix.Unlinkat(g.fd, name+"/file", 0)
		if err := unix.Ftruncate(fd, 0); err != nil {
			return err
		}
		if _, err := unix.Pwrite(fd, []byte(made), 0); err != nil {
			return err
		}
	}
	return g.hangFile(p, name, at, func() error {
		file, err := unix.Openat(g.fd, name+"/file", unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, st.Mode&0o777)
		if err == nil {
			unix.Close(file)
		}
		return err
	})
}

// hangFile hangs the file that make has made in the stage over the one at at.
func (g *gitStage) hangFile(p, name string, at int, make func() error) error {
	if err := make(); err != nil {
		return err
	}
	tree, err := unix.OpenTree(g.fd, name+"/file", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := hang(tree, at); err != nil {
		return err
	}
	d := &stagedGit{made: true, file: true}
	if d.mount, err = mountID(tree); err != nil {
		return err
	}
	if d.lower, err = unix.FcntlInt(uintptr(at), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return err
	}
	if old := g.dirs[p]; old != nil {
		unix.Close(old.lower)
	}
	g.dirs[p] = d
	return nil
}

// fillConfig copies the configuration of a bare repository to the stage, unless the
// session has one there, and once more for the server to know what that was made of.
func (g *gitStage) fillConfig(name string, at int) error {
	for _, part := range []string{"/base", "/file"} {
		out, err := unix.Openat(g.fd, name+part, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return err
		}
		in, err := unix.Open("/proc/self/fd/"+itoa(at), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = sendAll(out, in)
			unix.Close(in)
		}
		unix.Close(out)
		if err != nil {
			return err
		}
	}
	return nil
}

// maxConfig bounds a configuration that takes the place of one, in bytes.
const maxConfig = 1 << 20

// replaceStaged puts a file in the place of one of the stage, on which nothing can be
// renamed: its content goes there. done is false for any other rename.
func (t *supervisorThread) replaceStaged(src, dst *place, flags uint) (done bool, err error) {
	dir, at := t.s.gitDir(dst.path)
	if !at || flags&^unix.RENAME_NOREPLACE != 0 || !t.s.isOther(dir) || !t.s.git.holdsFile(dst, dir) {
		return false, nil
	}
	if flags != 0 {
		return true, unix.EEXIST
	}
	in, err := unix.Openat(src.dir, src.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, err
	}
	defer unix.Close(in)
	var st unix.Stat_t
	if err := unix.Fstat(in, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxConfig {
		return true, unix.EBUSY
	}
	out, err := unix.Openat(dst.dir, dst.name, unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, err
	}
	defer unix.Close(out)
	if err := sendAll(out, in); err != nil {
		return true, err
	}
	return true, unix.Unlinkat(src.dir, src.name, 0)
}

// holdsFile says whether a place is a .git file behind one of the stage.
func (g *gitStage) holdsFile(p *place, dir string) bool {
	g.mu.Lock()
	d := g.dirs[dir]
	g.mu.Unlock()
	if d == nil || !d.file {
		return false
	}
	fd, err := openat2(p.dir, p.name, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return g.holds(fd, dir)
}

func isRegular(p *place) bool {
	var st unix.Stat_t
	return unix.Fstatat(p.dir, p.name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// unlink removes a name. Of a .git file the one of the stage goes first, as nothing
// that is mounted on can be removed.
func (t *supervisorThread) unlink(p *place, flags int) error {
	dir, at := t.s.gitDir(p.path)
	staged := at && t.s.git.holdsFile(p, dir)
	var err error
	if staged {
		t.s.onPrivilegedThread(func() { err = t.s.unstageGit(dir) })
	}
	if err == nil {
		err = unix.Unlinkat(p.dir, p.name, flags)
	}
	if staged && err == nil {
		t.dropStage(dir)
		t.forgetBare(path.Dir(dir))
	}
	return err
}
