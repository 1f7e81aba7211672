package confine

import (
	"path"

	"golang.org/x/sys/unix"
)

// Staging a bare repository is all or nothing. What the session made is copied to the
// stage and hung over the directories first, and taken out of these last: whatever
// fails before leaves it where it was. What cannot be judged is refused.

// asideConfig is where the configuration waits until the one of the stage is in its
// place.
const asideConfig = ".config.mcp-sandbox"

// stageBare stages what git obeys in a directory, while no other change is made.
// completed says that a name is about to make it a repository: then what is in its
// staged names has to be of this session, and goes to the stage.
func (t *supervisorThread) stageBare(dir string, completed bool) error {
	g := t.s.git
	fd, err := openat2(t.root, "."+dir, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if g.isBare(dir) {
		if !completed {
			return nil
		}
		return t.lookAgain(fd, dir)
	}
	if err := t.checkBare(fd, dir, completed); err != nil {
		return err
	}
	t.s.onPrivilegedThread(func() { err = g.try() })
	if err != nil {
		return err
	}
	b := &bareStaging{t: t, fd: fd, dir: dir, made: completed}
	defer b.close()
	if err := b.stage(); err != nil {
		b.undo()
		return err
	}
	if err := b.empty(); err != nil {
		g.mu.Lock()
		g.setBare(func(all map[string]bareRepo) { all[dir] = bareRepo{made: completed, partial: true} })
		g.mu.Unlock()
		return err
	}
	return nil
}

// lookAgain looks at a registered repository that lost one of its names and gets it
// back: the file tools could write to it meanwhile, as it was none.
func (t *supervisorThread) lookAgain(fd int, dir string) error {
	g := t.s.git
	if r := (*g.bare.Load())[dir]; !r.made || r.partial {
		return unix.EPERM
	}
	if !g.holdsFile(&place{dir: fd, name: bareConfig}, path.Join(dir, bareConfig)) || !isMissing(fd, bareNever) || !isMissing(fd, bareWorktree) {
		return unix.EPERM
	}
	// One that has been published, or a file tool has written, cannot be told apart.
	var st unix.Stat_t
	g.mu.Lock()
	config := g.dirs[path.Join(dir, bareConfig)].lower
	g.mu.Unlock()
	if err := unix.Fstat(config, &st); err != nil || st.Size != 0 {
		return unix.EPERM
	}
	for _, name := range bareDirs {
		p := path.Join(dir, name)
		part, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return err
		}
		held := g.holds(part, p)
		unix.Close(part)
		if !held {
			return unix.EPERM
		}
		g.mu.Lock()
		lower := g.dirs[p].lower
		g.mu.Unlock()
		if name == "objects" { // they are published, and info leads to others
			if !isMissing(lower, "info") {
				return unix.EPERM
			}
			continue
		}
		empty, err := isEmptyDir(lower)
		if err != nil || !empty {
			return unix.EPERM
		}
	}
	return checkHeads(fd)
}

// checkHeads refuses links in place of what is data.
func checkHeads(fd int) error {
	for _, n := range []string{"HEAD", "refs"} {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, n, &st, unix.AT_SYMLINK_NOFOLLOW); err != unix.ENOENT && (err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK) {
			return unix.EPERM
		}
	}
	return nil
}

// checkBare looks whether all of a directory can be staged, before anything of it is.
func (t *supervisorThread) checkBare(fd int, dir string, completed bool) error {
	if !isMissing(fd, bareNever) || completed && !isMissing(fd, bareWorktree) {
		return unix.EPERM
	}
	if completed {
		if err := checkHeads(fd); err != nil {
			return err
		}
	}
	for _, name := range append([]string{bareConfig}, bareDirs...) {
		p := path.Join(dir, name)
		if len(t.s.stageName(p)) > unix.NAME_MAX {
			return unix.ENAMETOOLONG
		}
		if t.holdsGit(p) {
			return unix.EPERM
		}
		var st, stage unix.Stat_t
		err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case err == unix.ENOENT && name != bareConfig:
			continue
		case err != nil && err != unix.ENOENT:
			return err
		case err == nil && name == bareConfig && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxConfig):
			return unix.EPERM
		case name != bareConfig && st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return unix.EPERM
		}
		if !completed {
			continue
		}
		// A stage of that name can hold what is nowhere else.
		if unix.Fstatat(t.s.git.fd, t.s.stageName(p), &stage, unix.AT_SYMLINK_NOFOLLOW) != unix.ENOENT {
			return unix.EEXIST
		}
		if err == nil && !t.s.git.isSessions(fd, name, 0) {
			return unix.EPERM
		}
	}
	return nil
}

// isSessions says whether a name and all below it was made since the session started.
func (g *gitStage) isSessions(dir int, name string, depth int) bool {
	var st unix.Statx_t
	if depth > 64 || unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_TYPE, &st) != nil || st.Mask&unix.STATX_BTIME == 0 {
		return false
	}
	if st.Btime.Sec < g.began.Sec || st.Btime.Sec == g.began.Sec && int64(st.Btime.Nsec) <= g.began.Nsec {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFLNK:
		return true
	case unix.S_IFDIR:
	default:
		return false
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	for _, n := range namesIn(fd) {
		if !g.isSessions(fd, n, depth+1) {
			return false
		}
	}
	return true
}

// bareStaging is the staging of one bare repository.
type bareStaging struct {
	t    *supervisorThread
	fd   int
	dir  string
	made bool

	copied []string       // staged names whose stage this has made
	parts  map[string]int // the directories as they were before an overlay lay over them
	aside  bool           // the configuration
	config bool           // one has been made
}

func (b *bareStaging) close() {
	for _, fd := range b.parts {
		unix.Close(fd)
	}
}

func (b *bareStaging) stage() error {
	g := b.t.s.git
	b.parts = map[string]int{}
	for _, name := range bareDirs {
		part, err := unix.Openat(b.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return err
		}
		b.parts[name] = part
		if !b.made {
			continue
		}
		if err := b.newStage(name, func(to int) error { return copyTree(part, to, "upper", 0) }); err != nil {
			return err
		}
	}
	if b.made {
		if err := b.newStage(bareConfig, func(to int) error { return copyConfig(b.fd, to) }); err != nil {
			return err
		}
	}
	g.mu.Lock()
	g.setBare(func(all map[string]bareRepo) { all[b.dir] = bareRepo{made: b.made} })
	g.mu.Unlock()
	for name := range b.parts {
		if err := b.t.stageGit(path.Join(b.dir, name)); err != nil {
			return err
		}
		g.setMade(path.Join(b.dir, name), b.made)
	}
	if err := b.stageConfig(); err != nil || b.made {
		return err
	}
	return b.keepRefs()
}

// keepRefs copies what names commits, for the server: they are changed where they are,
// and it looks when the first change of them is over.
func (b *bareStaging) keepRefs() error {
	const was = "was"
	at := b.t.s.stageName(path.Join(b.dir, bareConfig)) + "/" + was
	removeAllAt(b.t.s.git.fd, at, 0)
	if err := unix.Mkdirat(b.t.s.git.fd, at, 0o700); err != nil {
		return err
	}
	to, err := unix.Openat(b.t.s.git.fd, at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	for _, name := range []string{"HEAD", "packed-refs"} {
		if err := copyFile(b.fd, to, name, 0o644); err != nil && err != unix.ENOENT && err != unix.ELOOP {
			return err
		}
	}
	refs, err := unix.Openat(b.fd, "refs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // a link, and no repository to the server
	}
	defer unix.Close(refs)
	return copyTree(refs, to, "refs", 0)
}

// newStage makes the stage of one name and fills it.
func (b *bareStaging) newStage(name string, fill func(to int) error) error {
	g, stage := b.t.s.git, b.t.s.stageName(path.Join(b.dir, name))
	if err := unix.Mkdirat(g.fd, stage, 0o700); err != nil {
		return err
	}
	b.copied = append(b.copied, name)
	to, err := unix.Openat(g.fd, stage, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return fill(to)
}

// copyConfig copies the configuration of a directory to the stage, where it is what
// the session made of nothing.
func copyConfig(from, to int) error {
	if isMissing(from, bareConfig) {
		return nil
	}
	base, err := unix.Openat(to, "base", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	unix.Close(base)
	if err := copyFile(from, to, bareConfig, 0o644); err != nil {
		return err
	}
	return unix.Renameat(to, bareConfig, to, "file")
}

// stageConfig stages the configuration. One of this session is another file outside,
// as commands may have it open.
func (b *bareStaging) stageConfig() error {
	if b.made && !isMissing(b.fd, bareConfig) {
		if err := unix.Renameat2(b.fd, bareConfig, b.fd, asideConfig, unix.RENAME_NOREPLACE); err != nil {
			return err
		}
		b.aside = true
	}
	file, err := unix.Openat(b.fd, bareConfig, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err == nil {
		b.config = true
		unix.Close(file)
	} else if b.made || err != unix.EEXIST {
		return err
	}
	b.t.s.onPrivilegedThread(func() { err = b.t.s.stageGitFile(path.Join(b.dir, bareConfig)) })
	return err
}

// undo takes everything back. Where an overlay stays, so does what is in its stage.
func (b *bareStaging) undo() {
	g := b.t.s.git
	for _, name := range append([]string{bareConfig}, bareDirs...) {
		p := path.Join(b.dir, name)
		b.t.s.onPrivilegedThread(func() { b.t.s.unstageGit(p) })
	}
	if b.config {
		unix.Unlinkat(b.fd, bareConfig, 0)
	}
	if b.aside {
		unix.Renameat2(b.fd, asideConfig, b.fd, bareConfig, unix.RENAME_NOREPLACE)
	}
	for _, name := range b.copied {
		if p := path.Join(b.dir, name); !b.t.holdsGit(p) {
			b.t.dropStage(p)
		}
	}
	g.mu.Lock()
	g.setBare(func(all map[string]bareRepo) { delete(all, b.dir) })
	g.mu.Unlock()
}

// empty takes what has been copied and lies below the overlays out of the
// directories. What cannot be taken out keeps the directory from being completed.
func (b *bareStaging) empty() error {
	if b.aside {
		if err := unix.Unlinkat(b.fd, asideConfig, 0); err != nil {
			return err
		}
	}
	if !b.made {
		return nil
	}
	for _, part := range b.parts {
		if _, err := unix.Seek(part, 0, 0); err != nil {
			return err
		}
		for _, n := range namesIn(part) {
			if err := removeAllAt(part, n, 0); err != nil {
				return err
			}
		}
	}
	return nil
}
