package confine

import (
	"golang.org/x/sys/unix"
)

// isMade says whether a directory is staged and was made by this session.
func (g *gitStage) isMade(dir string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.dirs[dir]
	return d != nil && d.made && !d.file
}

// moveGitDir moves a git directory that this session made into another one, as git
// submodule absorbgitdirs does. It is copied, since no rename leads from one overlay
// to another. done is false for any other move.
func (t *supervisorThread) moveGitDir(src, dst *place, flags uint) (done bool, err error) {
	dir, at := t.s.gitDir(src.path)
	if into, top := t.s.gitDir(dst.path); !at || top || into == "" || into == dir || flags != 0 || !t.s.git.isMade(dir) {
		return false, nil
	}
	from, err := openat2(src.dir, src.name, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return true, err
	}
	defer unix.Close(from)
	if !t.s.git.holds(from, dir) {
		return true, unix.EBUSY
	}
	if err := copyTree(from, dst.dir, dst.name, 0); err != nil {
		if err != unix.EEXIST {
			removeAllAt(dst.dir, dst.name, 0)
		}
		return true, err
	}
	t.s.onPrivilegedThread(func() { err = t.s.unstageGit(dir) })
	if err != nil {
		return true, err
	}
	t.dropStage(dir)
	return true, removeAllAt(src.dir, src.name, 0)
}

// copyTree copies directories, files and links to a new name.
func copyTree(from, dir int, name string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if depth > 64 {
		return unix.ELOOP
	}
	if err := unix.Mkdirat(dir, name, st.Mode&0o777|0o700); err != nil {
		return err
	}
	to, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	var b [unix.PathMax]byte
	for _, n := range namesIn(from) {
		if err := unix.Fstatat(from, n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			var sub int
			if sub, err = unix.Openat(from, n, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
				err = copyTree(sub, to, n, depth+1)
				unix.Close(sub)
			}
		case unix.S_IFREG:
			err = copyFile(from, to, n, st.Mode&0o777)
		case unix.S_IFLNK:
			var l int
			if l, err = unix.Readlinkat(from, n, b[:]); err == nil {
				err = unix.Symlinkat(string(b[:l]), to, n)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to int, name string, mode uint32) error {
	in, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	return sendAll(out, in)
}

func sendAll(out, in int) error {
	for {
		n, err := unix.Sendfile(out, in, nil, 1<<30)
		if n == 0 || err != nil {
			return err
		}
	}
}
