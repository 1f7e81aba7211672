package treecopy

import (
	"golang.org/x/sys/unix"
)

// Usage measures what lies below an open directory, which may be read only once: the
// bytes on disk, and how many names of other things than directories there are. It
// takes time by their number however deep they lie, and two open files in addition to
// top. What cannot be read is left out; err says that this is for another reason than
// its mode or that it went away.
func Usage(top int) (bytes int64, files int, err error) {
	u := usage{top: top}
	id, err := inodeOf(top)
	if err != nil {
		return 0, 0, err
	}
	u.levels = []level{{id: id, dirs: u.list(top)}}
	u.walk()
	return u.bytes, u.files, u.err
}

type usage struct {
	top    int
	levels []level // from top to the directory that is looked at
	bytes  int64
	files  int
	err    error
}

type level struct {
	id   inode
	name string
	dirs []string // not looked at yet
}

type inode struct{ dev, ino uint64 }

func inodeOf(fd int) (inode, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return inode{uint64(st.Dev), st.Ino}, err
}

func (u *usage) walk() {
	dir := u.top
	for {
		last := &u.levels[len(u.levels)-1]
		n := len(last.dirs) - 1
		if n < 0 {
			if u.levels = u.levels[:len(u.levels)-1]; len(u.levels) == 0 {
				return
			}
			dir = u.up(dir)
			continue
		}
		name := last.dirs[n]
		last.dirs = last.dirs[:n]
		in, id, err := openLevel(dir, name)
		if err != nil {
			u.note(err)
			continue
		}
		// One without directories in it is left by what is still open: its mode may
		// allow no way up.
		if dirs := u.list(in); len(dirs) > 0 {
			u.levels = append(u.levels, level{id, name, dirs})
			dir, in = in, dir
		}
		u.close(in)
	}
}

// list counts what an open directory holds, and gives the directories in it.
func (u *usage) list(dir int) (dirs []string) {
	b := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(dir, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			u.note(err)
			return dirs
		}
		_, _, names := unix.ParseDirent(b[:n], -1, nil)
		for _, name := range names {
			var st unix.Stat_t
			if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				u.note(err)
				continue
			}
			u.bytes += st.Blocks * 512 // stat(2): st_blocks are of 512 bytes everywhere
			if uint32(st.Mode)&unix.S_IFMT == unix.S_IFDIR {
				dirs = append(dirs, name)
			} else {
				u.files++
			}
		}
	}
}

// up gives the directory of the last level. Where dir has been moved away meanwhile,
// that is looked for by its names, and is one above if it has been moved as well.
func (u *usage) up(dir int) int {
	if len(u.levels) == 1 {
		u.close(dir)
		return u.top
	}
	to, id, err := openLevel(dir, "..")
	u.close(dir)
	if err == nil {
		if id == u.levels[len(u.levels)-1].id {
			return to
		}
		u.close(to)
	}
	dir = u.top
	for i, l := range u.levels[1:] {
		in, id, err := openLevel(dir, l.name)
		if err != nil {
			u.note(err)
		} else if id != l.id {
			u.close(in)
			err = unix.ESTALE
		}
		if err != nil {
			u.levels = u.levels[:i+1]
			break
		}
		u.close(dir)
		dir = in
	}
	return dir
}

func (u *usage) close(fd int) {
	if fd != u.top {
		unix.Close(fd)
	}
}

func (u *usage) note(err error) {
	switch err {
	case nil, unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ESTALE, unix.EACCES, unix.EPERM:
		return
	}
	if u.err == nil {
		u.err = err
	}
}

func openLevel(dir int, name string) (int, inode, error) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, inode{}, err
		}
		id, err := inodeOf(fd)
		if err != nil {
			unix.Close(fd)
		}
		return fd, id, err
	}
}
