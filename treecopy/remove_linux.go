package treecopy

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Remove removes what name is, with all that lies in it, however deep. Directories
// far below are moved up on the way, into the directory that is removed: what a kill
// leaves lies in that.
func Remove(dir int, name string) error {
	r := remover{top: -1}
	return r.remove(dir, name, 0)
}

const (
	// movedDepth is how deep a directory is removed where it is: each level takes an
	// open file.
	movedDepth = 256
	// maxMoved bounds how often a directory is moved up, as a session may make more of
	// them while it goes on.
	maxMoved = 1024
)

var errDeep = errors.New("a part is removed, and the rest has more directories in each other than are removed at once; try it again")

type remover struct {
	top   int      // the directory that is removed, -1 before it is open
	left  []string // names in top
	moved int
}

func (r *remover) remove(dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, 0)
	if err != unix.EISDIR && err != unix.EPERM || depth > maxDepth {
		return err
	}
	fd, err := unix.Openat(dir, name, openDir, 0)
	if err == unix.EACCES && Chmod(dir, name, unix.S_IFDIR, 0o700) == nil {
		fd, err = unix.Openat(dir, name, openDir, 0)
	}
	if err != nil {
		return err
	}
	isTop := r.top < 0
	if isTop {
		r.top = fd
	}
	names, err := Names(fd)
	for i := 0; i < len(names); i++ {
		rerr := r.removeIn(fd, names[i], depth)
		if rerr == unix.EACCES {
			unix.Fchmod(fd, 0o700)
			rerr = r.removeIn(fd, names[i], depth)
		}
		if err == nil && rerr != unix.ENOENT {
			err = rerr
		}
		if isTop {
			names, r.left = append(names, r.left...), nil
		}
	}
	unix.Close(fd)
	if err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

func (r *remover) removeIn(dir int, name string, depth int) error {
	if depth < movedDepth {
		return r.remove(dir, name, depth+1)
	}
	if err := unix.Unlinkat(dir, name, 0); err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	if r.moved >= maxMoved {
		return errDeep
	}
	tmp := TempName()
	err := unix.Renameat2(dir, name, r.top, tmp, unix.RENAME_NOREPLACE)
	if err == unix.EACCES {
		// Moving takes the right to write to both, and to what is moved (rename(2)).
		unix.Fchmod(r.top, 0o700)
		_ = Chmod(dir, name, unix.S_IFDIR, 0o700)
		err = unix.Renameat2(dir, name, r.top, tmp, unix.RENAME_NOREPLACE)
	}
	switch err {
	case nil:
		r.moved++
		r.left = append(r.left, tmp)
		return nil
	case unix.EACCES:
		return err
	}
	return r.remove(dir, name, depth+1)
}
