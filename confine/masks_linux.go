package confine

import "golang.org/x/sys/unix"

// makeMasks prepares what hides a path. One tree is cloned per use.
func (r *root) makeMasks() error {
	for i, c := range []struct {
		name string
		dir  bool
		mode uint32
	}{
		{stageDir + "/empty.d", true, 0o555}, {stageDir + "/empty", false, 0o444},
		{stageDir + "/denied.d", true, 0}, {stageDir + "/denied", false, 0},
	} {
		if c.dir {
			if err := unix.Mkdirat(r.fd, c.name, c.mode); err != nil {
				return err
			}
		} else if err := r.write(c.name, "", c.mode); err != nil {
			return err
		}
		fd, err := unix.Openat(r.fd, c.name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		r.masks[fileID{st.Dev, st.Ino}] = true
		if i < 2 {
			r.empty[i] = fd
		} else {
			r.denied[i-2] = fd
		}
	}
	return nil
}

// hangClone hangs a clone of what name is below dir over at. Attributes go on the
// clone, never on the original; recursive takes the mounts below along.
func hangClone(dir int, name string, attr uint64, recursive bool, at int) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(dir, name, flags)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := setAttr(tree, attr, recursive); err != nil {
		return err
	}
	return hang(tree, at)
}

// overlay hangs a file of the stage over at.
func (r *root) overlay(staged string, at int) error {
	return hangClone(r.fd, staged, attrRO, false, at)
}

// cover hides what lies at at. Directories and everything else need a cover of
// their own kind.
func (r *root) mask(at int, denied bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return err
	}
	src := &r.empty
	if denied {
		src = &r.denied
	}
	i := 1
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		i = 0
	}
	return hangClone(src[i], "", attrRO, false, at)
}

// masked says whether st is what hides a path. That something is the root of a mount
// does not say it: the host may have mounted there, and so does a protected path.
func (r *root) masked(st *unix.Stat_t) bool { return r.masks[fileID{st.Dev, st.Ino}] }

// scratchDir makes a writable directory of the session, hung at name.
func (r *root) scratchDir(name string, mode uint32) error {
	staged := stageDir + "/scratch/" + itoa(r.scratched)
	r.scratched++
	if err := unix.Mkdirat(r.fd, staged, mode); err != nil {
		return err
	}
	// mkdir's mode passes through the umask; the sticky bit must stay.
	if err := unix.Fchmodat(r.fd, staged, mode, 0); err != nil {
		return err
	}
	if err := r.mkdirs(name, 0o755); err != nil {
		return err
	}
	at, err := r.look(name)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	r.covered(name)
	return hangClone(r.fd, staged, attrRW, false, at)
}

// selfBind makes a directory or file of the root a mount of its own, so that it
// can neither be renamed nor removed (EBUSY) and can have its own attributes.
func (r *root) selfBind(at int, attr uint64) error {
	return hangClone(at, "", attr, true, at)
}

// isMountRoot says whether the object at at is the root of a mount.
func isMountRoot(at int) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(at, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st); err != nil {
		return false, err
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
