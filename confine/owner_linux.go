package confine

import (
	"errors"
	"hash/fnv"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// Commands of a root server never run as the real root. A workspace that belongs
// to root is worked on by an ordinary id that no account has, and its tree and
// those of the grants are mounted with that id and root's exchanged
// (mount_setattr(2), MOUNT_ATTR_IDMAP, Linux 5.12): what is root's on disk is the
// session's inside, and what the session makes is root's on disk.

// The ids sessions of root's workspaces run as: systemd's range for dynamic users
// (systemd.exec(5), DynamicUser=), which no distribution gives to accounts.
const (
	mappedIDMin = 61184
	mappedIDMax = 65519
)

// idPair is an id on disk and the one it is exchanged with.
type idPair struct{ disk, inside int }

// ownerMap exchanges one user and one group. The zero value exchanges nothing.
type ownerMap struct{ uid, gid idPair }

func (m ownerMap) needed() bool { return m != ownerMap{} }

// mapOwner gives the map for a tree of the given owner, where one is needed: the
// session's user and group are never 0. The id follows from the tree, so that
// every session of it is the same user and finds an init waiting.
func mapOwner(uid, gid int, st *syscall.Stat_t) ownerMap {
	if uid != 0 && gid != 0 {
		return ownerMap{}
	}
	h := fnv.New32a()
	h.Write(strconv.AppendUint(strconv.AppendUint(nil, uint64(st.Dev), 16), st.Ino, 10))
	id := mappedIDMin + int(h.Sum32()%(mappedIDMax-mappedIDMin+1))
	if uid == 0 {
		// Of a group of the host's, root's trees give the session nothing.
		return ownerMap{idPair{0, id}, idPair{gid, id}}
	}
	return ownerMap{idPair{uid, uid}, idPair{0, id}}
}

// realRoot says whether uid 0 here is uid 0 of the host, as far as can be seen:
// in a user namespace, as of a rootless container, it is somebody else.
var realRoot = sync.OnceValue(func() bool {
	if os.Geteuid() != 0 {
		return false
	}
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "0" {
			return f[1] == "0"
		}
	}
	return true
})

// exchange lists the ranges of an id map (user_namespaces(7)) in which the two ids
// of p change places and all others stay.
func (p idPair) exchange() []syscall.SysProcIDMap {
	const last = int64(1<<32 - 2) // 2^32-1 is not an id
	lo, hi := int64(min(p.disk, p.inside)), int64(max(p.disk, p.inside))
	var out []syscall.SysProcIDMap
	add := func(from, to, n int64) {
		if n > 0 {
			out = append(out, syscall.SysProcIDMap{ContainerID: int(from), HostID: int(to), Size: int(n)})
		}
	}
	if lo == hi {
		add(0, 0, last+1)
		return out
	}
	add(0, 0, lo)
	add(lo, hi, 1)
	add(lo+1, lo+1, hi-lo-1)
	add(hi, lo, 1)
	add(hi+1, hi+1, last-hi)
	return out
}

// ownerSpaces are the user namespaces that hold the maps, by map; each is made
// once for the life of the server.
var ownerSpaces struct {
	sync.Mutex
	fds map[ownerMap]int
}

// namespace opens the user namespace of m. It is the server's: nobody closes it.
func (m ownerMap) namespace() (int, error) {
	ownerSpaces.Lock()
	defer ownerSpaces.Unlock()
	if fd, ok := ownerSpaces.fds[m]; ok {
		return fd, nil
	}
	fd, err := m.makeNamespace()
	if err != nil {
		return -1, err
	}
	if ownerSpaces.fds == nil {
		ownerSpaces.fds = map[ownerMap]int{}
	}
	ownerSpaces.fds[m] = fd
	return fd, nil
}

// makeNamespace starts an init that waits to be told what to do, takes its user
// namespace, and ends it. A namespace lives as long as a descriptor of it.
func (m ownerMap) makeNamespace() (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return -1, err
	}
	defer null.Close()
	attr := &syscall.SysProcAttr{
		Setsid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWUSER,
		UidMappings: m.uid.exchange(), GidMappings: m.gid.exchange(), GidMappingsEnableSetgroups: true,
	}
	pid, _, err := forkInit(attr, []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(pair[1])}, nil)
	if err != nil {
		return -1, err
	}
	// It cannot have been reaped, so the number is its own.
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	endChild(pid)
	return fd, err
}

// mapTree gives a detached tree the map m.
func mapTree(tree int, attr uint64, m ownerMap) error {
	ns, err := m.namespace()
	if err != nil {
		return &spaceError{err}
	}
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE,
		&unix.MountAttr{Attr_set: attr | unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)})
}

// spaceError is a user namespace that could not be made.
type spaceError struct{ err error }

func (e *spaceError) Error() string { return "make the user namespace of the map: " + e.err.Error() }
func (e *spaceError) Unwrap() error { return e.err }

// whyNotMapped says what an error of mapTree means.
func whyNotMapped(err error) string {
	var space *spaceError
	switch {
	case errors.As(err, &space):
		return "the server cannot make a user namespace for it (" + errnoText(err) + ")"
	case errors.Is(err, unix.EINVAL):
		return "its file system, or one mounted in it, has no id-mapped mounts on this kernel"
	case errors.Is(err, unix.ENOSYS):
		return "id-mapped mounts need Linux 5.12"
	case errors.Is(err, unix.EPERM):
		return "the server has no CAP_SYS_ADMIN for its file system"
	}
	return errnoText(err)
}

// viewDir is the directory through which file tools reach what is at p: itself, or
// the one that holds a file.
func viewDir(p string) string {
	if fi, err := os.Lstat(p); err == nil && !fi.IsDir() {
		return path.Dir(p)
	}
	return p
}

// mapTrees opens the workspace and the grants of a session whose user is not their
// owner, and the file tools' view of each. A tree that can only be read is shown
// as it is where it cannot be mapped; what is to be written is refused then.
func (l *layout) mapTrees() error {
	m := l.id.owner
	if !m.needed() {
		return nil
	}
	l.views = map[string]int{}
	for i := range l.cfg.Binds {
		b := &l.cfg.Binds[i]
		if !b.Mapped {
			continue
		}
		tree, err := b.detachAs(m)
		if err == nil && b.Source == "" { // no file tool looks into another
			err = l.view(b, m)
		}
		if err != nil {
			if tree >= 0 {
				unix.Close(tree)
			}
			switch {
			case errors.Is(err, unix.ESTALE):
				return errorf("invalid_argument", err, "the workspace was replaced by another directory; start a new session")
			case b.Path == l.p.Workspace:
				return refuseRoot("the workspace", whyNotMapped(err))
			case b.Write:
				return refuseRoot("a write grant", whyNotMapped(err))
			}
			b.Mapped = false
			l.warn("the read grant %q is shown with its own owners (%s): what only root may read in it cannot be read", b.Path, whyNotMapped(err))
			continue
		}
		b.Tree = len(l.trees)
		l.trees = append(l.trees, tree)
	}
	return nil
}

// view keeps a second tree of b for the file tools.
func (l *layout) view(b *bind, m ownerMap) error {
	dir := viewDir(b.Path)
	if _, ok := l.views[dir]; ok {
		return nil
	}
	v := bind{Path: dir, Write: true, Tree: -1}
	if dir == b.Path {
		v.Dev, v.Ino = b.Dev, b.Ino
	}
	tree, err := v.detachAs(m)
	if err == nil {
		l.views[dir] = tree
	}
	return err
}

// CheckOwner refuses, before any session is started, a workspace of root's whose
// commands could not be another user. Where the level that auto takes decides, the
// start of the session tells. Codes: confinement_unavailable and those of Start for
// a bad Policy.
func CheckOwner(p sandbox.Policy) error {
	if err := normalise(&p); err != nil {
		return err
	}
	id, err := identify(&p)
	if err != nil || !id.owner.needed() {
		return err
	}
	if p.Level == sandbox.LevelLandlock || p.Level == sandbox.LevelNone {
		return refuseRootAt(p.Level)
	}
	for _, dir := range append([]string{p.Workspace}, p.Write...) {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return nil // Start names it
		}
		b := bind{Path: real, Write: true}
		tree, err := b.detachAs(id.owner)
		if err != nil {
			what := "the workspace"
			if dir != p.Workspace {
				what = "a write grant"
			}
			return refuseRoot(what, whyNotMapped(err))
		}
		unix.Close(tree)
	}
	return nil
}

// refuseRootAt refuses root's workspace at a level that shows files as they are.
func refuseRootAt(l sandbox.Level) error {
	return refuseRoot("the workspace", "the level "+string(l)+" cannot show its files as another user's, which needs namespaces")
}

// Owner is who commands run as, and whether root's files are shown as that user's:
// file tools then work through OpenDir, with the identity given.
func (s *Sandbox) Owner() (uid, gid int, mapped bool) {
	return s.uid, s.gid, s.views != nil
}

// OpenDir opens a directory of the workspace's or a grant's path as commands see it;
// fs.ErrNotExist is one that is shown as it is on the host.
func (s *Sandbox) OpenDir(dir string) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tree, ok := s.views[dir]
	if !ok || s.closed {
		return nil, fs.ErrNotExist
	}
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// closeViews lets go of the trees of OpenDir.
func (s *Sandbox) closeViews() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for dir, tree := range s.views {
		unix.Close(tree)
		delete(s.views, dir)
	}
}
