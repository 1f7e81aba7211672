package confine

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// openat2Refused says that a filter around the server forbids openat2(2), or
// that the kernel does not have it (before 5.6). systemd's RestrictSUIDSGID= and
// the profiles of older container runtimes answer ENOSYS, some EPERM: the flags
// lie in memory, which a filter cannot read. Names are then walked one component
// at a time, see openStepwise.
//
// Asked once, with a name nothing but a filter can refuse: on files EPERM has
// meanings of its own (O_NOATIME, immutable files).
var openat2Refused = sync.OnceValue(func() bool {
	for {
		fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC})
		switch err {
		case nil:
			unix.Close(fd)
			return false
		case unix.ENOSYS, unix.EPERM:
			return true
		case unix.EINTR, unix.EAGAIN:
		default:
			return false
		}
	}
})

// openHow is openat2(2), once, where it is allowed, else openStepwise.
func openHow(dir int, name string, how *unix.OpenHow) (int, error) {
	if openat2Refused() {
		return openStepwise(dir, name, how)
	}
	return unix.Openat2(dir, name, how)
}

// stepwiseKnown are the rules of RESOLVE_* that openStepwise keeps.
const stepwiseKnown = unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT

// openStepwise opens a name as openat2(2) would, by openat(2) and O_NOFOLLOW for
// each component, so that a link put in the way is refused (ELOOP) and not
// followed. Each step starts at the directory the one before opened, so what is
// renamed meanwhile cannot lead it elsewhere.
//
// Only rules with RESOLVE_NO_SYMLINKS can be kept so, others fail (EINVAL), and
// below a root ".." does (EXDEV): no caller has it in such a name. Without any
// rule it is openat(2).
func openStepwise(dir int, name string, how *unix.OpenHow) (int, error) {
	flags := int(how.Flags) | unix.O_CLOEXEC
	if how.Resolve == 0 {
		return unix.Openat(dir, name, flags, uint32(how.Mode))
	}
	if how.Resolve&unix.RESOLVE_NO_SYMLINKS == 0 || how.Resolve&^stepwiseKnown != 0 {
		return none, unix.EINVAL
	}
	if name == "" {
		return none, unix.ENOENT
	}
	at, owned := dir, false
	defer func() {
		if owned {
			unix.Close(at)
		}
	}()
	if name[0] == '/' && how.Resolve&unix.RESOLVE_IN_ROOT == 0 {
		if how.Resolve&unix.RESOLVE_BENEATH != 0 {
			return none, unix.EXDEV
		}
		root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return none, err
		}
		at, owned = root, true
	}
	rest := strings.TrimLeft(name, "/")
	for {
		comp, after, slash := strings.Cut(rest, "/")
		after = strings.TrimLeft(after, "/")
		if comp == ".." && how.Resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0 {
			return none, unix.EXDEV
		}
		if comp == "" {
			comp = "." // the root itself
		}
		if after == "" {
			return openLast(at, comp, slash, flags, uint32(how.Mode))
		}
		next, err := openComponent(at, comp)
		if err != nil {
			return none, err
		}
		if owned {
			unix.Close(at)
		}
		at, owned, rest = next, true, after
	}
}

// openComponent opens a directory on the way.
func openComponent(dir int, name string) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return none, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			return fd, nil
		case unix.S_IFLNK:
			err = unix.ELOOP
		default:
			err = unix.ENOTDIR
		}
	}
	unix.Close(fd)
	return none, err
}

// openLast opens the last component, of which no link is followed.
func openLast(dir int, name string, slash bool, flags int, mode uint32) (int, error) {
	if slash {
		// A name that ends with a slash is followed whatever O_NOFOLLOW says.
		if flags&unix.O_CREAT != 0 {
			return none, unix.EISDIR
		}
		flags |= unix.O_DIRECTORY
	}
	fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW, mode)
	if err == unix.ENOTDIR && flags&unix.O_DIRECTORY != 0 && isLink(dir, name) {
		return none, unix.ELOOP
	}
	if err != nil || flags&unix.O_PATH == 0 || flags&unix.O_NOFOLLOW != 0 {
		return fd, err
	}
	// O_PATH opens the link itself, which openat2 does for O_NOFOLLOW alone.
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = unix.ELOOP
	}
	if err != nil {
		unix.Close(fd)
		return none, err
	}
	return fd, nil
}

// isLink chooses an errno and decides nothing.
func isLink(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}
