package confine

import (
	"slices"

	"golang.org/x/sys/unix"
)

// overflowID is what an owner looks like that the namespace has no number for
// (user_namespaces(7)).
const overflowID = 65534

// ownDirs makes the directories of a lower layer in the upper one where some of them
// have an owner or a group without a number in the sandbox, such as a group that the
// user shares with others: the kernel cannot copy them up (EOVERFLOW), which it
// does before anything is made in them. So are files that git writes in place.
func ownDirs(lower, upper int) {
	if w := (ownWalk{}); w.dir(lower, none, "", 0) {
		w.make = true
		w.dir(lower, upper, "", 0)
	}
}

// inPlace are the files git writes to where they are; it replaces all others but logs.
var inPlace = []string{"COMMIT_EDITMSG", "MERGE_MSG", "MERGE_MODE", "SQUASH_MSG", "FETCH_HEAD", "MERGE_HEAD", "TAG_EDITMSG", "NOTES_EDITMSG", "BISECT_LOG"}

// ownWalk goes through a git directory, objects excepted.
type ownWalk struct{ make bool }

// dir says whether something is foreign, without make at the first.
func (w ownWalk) dir(lower, upper int, below string, depth int) (foreign bool) {
	fd, err := unix.Openat(lower, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil || depth > 16 {
		return false
	}
	defer unix.Close(fd)
	for _, n := range namesIn(fd) {
		var st unix.Stat_t
		if unix.Fstatat(fd, n, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if !dir && (below != "logs" && !slices.Contains(inPlace, n) || st.Mode&unix.S_IFMT != unix.S_IFREG) {
			continue
		}
		theirs := st.Uid == overflowID || st.Gid == overflowID
		if theirs && !w.make {
			return true
		}
		switch {
		case !dir && theirs:
			copyFile(fd, upper, n, st.Mode&0o777|0o600)
		case dir && w.sub(fd, upper, n, &st, below, depth):
			return true
		}
	}
	return false
}

// sub goes into a directory of a directory.
func (w ownWalk) sub(lower, upper int, name string, st *unix.Stat_t, below string, depth int) bool {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	to := none
	if w.make {
		unix.Mkdirat(upper, name, st.Mode&0o777|0o700)
		var err error
		if to, err = unix.Openat(upper, name, flags, 0); err != nil {
			return false // the session has removed it
		}
		defer unix.Close(to)
	}
	if below == "objects" {
		return false
	}
	if below != "logs" {
		below = name
	}
	from, err := unix.Openat(lower, name, flags, 0)
	if err != nil {
		return false
	}
	defer unix.Close(from)
	return w.dir(from, to, below, depth+1)
}

// namesIn are the names in an open directory.
func namesIn(fd int) (names []string) {
	var b [8192]byte
	for {
		n, err := unix.ReadDirent(fd, b[:])
		if err != nil || n == 0 {
			return names
		}
		_, _, names = unix.ParseDirent(b[:n], -1, names)
	}
}
