package snapshot

import (
	"errors"

	"golang.org/x/sys/unix"
)

// A root server restores with its own rights, since it builds where the session
// cannot reach. What the session's user may not do it must not do for them; an
// ordinary server is held by the kernel at the act itself.

// mayChange fails unless the user may make and remove names in an open directory, or
// could give themselves the right.
func (a *apply) mayChange(fd int) error {
	u := a.tree.user
	if u == nil || a.mayOwn(fd, ".") == nil {
		return nil
	}
	leave, err := u.Enter()
	if err != nil {
		return err
	}
	defer leave()
	return mayWriteDir(fd)
}

// mayOwn fails unless name is the user's, who alone can set its mode and times.
func (a *apply) mayOwn(dir int, name string) error {
	if a.tree.user == nil {
		return nil
	}
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && int(st.Uid) != a.r.uid {
		err = unix.EPERM
	}
	return err
}

// mayReplace fails where name is another user's in a directory that keeps what
// belongs to others (the sticky bit, unlink(2)).
func (a *apply) mayReplace(dir int, name string) error {
	if a.tree.user == nil {
		return nil
	}
	st, err := fstat(dir)
	if err != nil || st.mode&unix.S_ISVTX == 0 || a.mayOwn(dir, ".") == nil {
		return err
	}
	if err := a.mayOwn(dir, name); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
