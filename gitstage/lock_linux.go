package gitstage

import (
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A lock of git is a file NAME.lock. The server's is a second name of a file that
// identifies the server, so that the lock of a killed server can be distinguished from
// one of git and removed: it would block the user's git.

const (
	lockPrefix = ".mcp-lock-"
	lockSuffix = ".lock" // which git passes over wherever it lists names
)

// locked changes one file behind git's lock on it. change gives the new content,
// nil to leave the file as it is. It fails with EEXIST while git has the lock.
func (t tree) locked(name string, mode uint32, change func() ([]byte, error)) error {
	if err := t.mkdirs(path.Dir(name)); err != nil {
		return err
	}
	return t.in(name, func(dir tree, base string) error {
		mine := lockPrefix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(tempNumber.Add(1), 10) + lockSuffix
		fd, err := unix.Openat(dir.fd, mine, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), mine)
		defer unix.Unlinkat(dir.fd, mine, 0)
		lock := base + lockSuffix
		if err := unix.Linkat(dir.fd, mine, dir.fd, lock, 0); err != nil {
			f.Close()
			return err
		}
		b, err := change()
		if err == nil && b != nil {
			_, err = f.Write(b)
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err == nil && b != nil {
			return unix.Renameat(dir.fd, lock, dir.fd, base)
		}
		unix.Unlinkat(dir.fd, lock, 0)
		return err
	})
}

// dropLocks removes the locks and temporary files of killed servers.
func (t tree) dropLocks() {
	t.dropLocksIn(".")
	for _, top := range []string{"refs", "logs", "info", "hooks", "branches", "remotes", "objects/info"} {
		t.dropLocksIn(top)
		_ = t.walk(top, 0, func(p string, e entry) {
			if e.kind == kindDir {
				t.dropLocksIn(p)
			}
		})
	}
}

func (t tree) dropLocksIn(dir string) {
	names, err := t.names(dir)
	if err != nil {
		return
	}
	for _, n := range names {
		owner, ok := strings.CutPrefix(n, lockPrefix)
		if !ok {
			owner, ok = strings.CutPrefix(n, tempPrefix)
		}
		pid, _, _ := strings.Cut(owner, "-")
		id, err := strconv.Atoi(pid)
		if !ok || err != nil || unix.Kill(id, 0) != unix.ESRCH {
			continue
		}
		e, err := t.stat(path.Join(dir, n))
		if err != nil || e.kind != kindFile {
			continue
		}
		for _, l := range names {
			if l == n || !strings.HasSuffix(l, lockSuffix) {
				continue
			}
			if o, err := t.stat(path.Join(dir, l)); err == nil && o.sig.ino == e.sig.ino {
				_ = t.remove(path.Join(dir, l))
			}
		}
		_ = t.remove(path.Join(dir, n))
	}
}
