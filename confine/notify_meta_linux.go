package confine

import (
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// A mode or an access list is changed without an open for writing. In a git directory
// it makes a program of a hook that its user has switched off, so it goes to the stage
// as well. The calls are done here, as a name could lead elsewhere when the kernel
// looks again.

// maxXattr is XATTR_SIZE_MAX of linux/limits.h.
const maxXattr = 64 << 10

// chmod changes a mode.
func (t *supervisorThread) chmod(q *request) reply {
	mode := uint32(q.args[q.mode]) & 0o7777
	if q.flagged()&^uint64(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return failed(unix.EINVAL)
	}
	return t.change(q, q.flagged()&unix.AT_SYMLINK_NOFOLLOW == 0, func(fd int, byFD bool) error {
		if byFD {
			return unix.Fchmod(fd, mode)
		}
		return unix.Chmod("/proc/self/fd/"+itoa(fd), mode)
	})
}

// setXattr sets an extended attribute, which may be an access list.
func (t *supervisorThread) setXattr(q *request) reply {
	const name, value, size, flags = 1, 2, 3, 4
	attr, err := q.who.name(q.args[name])
	if err != nil {
		return failed(err)
	}
	if q.args[size] > maxXattr {
		return failed(unix.E2BIG)
	}
	b := make([]byte, q.args[size])
	if len(b) > 0 {
		if n, err := q.who.memory(q.args[value], b); err != nil || n < len(b) {
			return failed(unix.EFAULT)
		}
	}
	return t.change(q, q.kind != callLsetxattr, func(fd int, byFD bool) error {
		if byFD {
			return unix.Fsetxattr(fd, attr, b, int(int32(q.args[flags])))
		}
		return unix.Setxattr("/proc/self/fd/"+itoa(fd), attr, b, int(int32(q.args[flags])))
	})
}

// removeXattr removes one: without its access list a file has the rights of its mode.
func (t *supervisorThread) removeXattr(q *request) reply {
	const name = 1
	attr, err := q.who.name(q.args[name])
	if err != nil {
		return failed(err)
	}
	return t.change(q, q.kind != callLremovexattr, func(fd int, byFD bool) error {
		if byFD {
			return unix.Fremovexattr(fd, attr)
		}
		return unix.Removexattr("/proc/self/fd/"+itoa(fd), attr)
	})
}

// change finds what a call is about and changes it by act: by the caller's descriptor,
// or by one that only stands for the place.
func (t *supervisorThread) change(q *request, follow bool, act func(fd int, byFD bool) error) reply {
	name, err := "", error(nil)
	if q.path != none {
		if name, err = q.who.name(q.args[q.path]); err != nil {
			return failed(err)
		}
	}
	if q.path == none || name == "" && q.flagged()&unix.AT_EMPTY_PATH != 0 {
		if q.path != none && q.directory(q.dir) == unix.AT_FDCWD {
			name = "."
		} else {
			fd, err := q.who.descriptor(int(q.directory(q.dir)))
			if err != nil {
				return failed(err)
			}
			defer unix.Close(fd)
			return t.changeObject(q, fd, q.path == none, act)
		}
	}
	p, err := t.source(q, name, follow)
	if err != nil {
		return failed(err)
	}
	defer p.close()
	if p.object >= 0 {
		return t.changeObject(q, p.object, false, act)
	}
	if p.proc {
		return failed(unix.EPERM) // the files there are init's
	}
	if r := t.permitChange(q, &p); r.err != 0 {
		return r
	}
	fd, err := unix.Openat(p.dir, p.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	return t.explain(q, t.changeObject(q, fd, false, act), &p)
}

// permitChange has the git directory staged that a place names or lies in.
func (t *supervisorThread) permitChange(q *request, p *place) reply {
	dir, at := t.s.gitDir(p.path)
	if !at {
		return t.permitGit(q, verbOpen, p)
	}
	var st unix.Stat_t
	if unix.Fstatat(p.dir, p.name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && t.stageGit(dir) != nil {
		t.s.denied(q.who, p.path, sandbox.DenialProtected)
		return reply{err: unix.EPERM, fd: none}
	}
	return reply{fd: none}
}

// changeObject changes what a descriptor refers to, unless that is in a git directory
// as it is outside.
func (t *supervisorThread) changeObject(q *request, fd int, byFD bool, act func(fd int, byFD bool) error) reply {
	path, err := t.pathOf(fd)
	if err != nil {
		return failed(err)
	}
	// A .git file, and the configuration of a bare repository, are no programs.
	path = strings.TrimSuffix(path, " (deleted)")
	if _, at := t.s.gitDir(path); !at || isDir(fd) {
		if r := t.permitGitObject(q, fd, path); r.err != 0 {
			return r
		}
	}
	return t.act(q, func() error { return act(fd, byFD) })
}

func isDir(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}
