package confine

import (
	"cmp"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// The new root is a tmpfs of our own into which host trees are hung by
// descriptor. Every name below it is either one we made or one inside a tree
// the host owner chose, and is walked without following a symbolic link, so a
// link planted by a command can never lead a mount (or a mount point's
// creation) out of the root: CVE-2026-87766 class.

const (
	attrRO = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	attrRW = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	// Read-only keeps the node's mode, owner, times and attributes; what is
	// written goes to the device, which the kernel does not ask the mount about.
	attrDevice = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC

	cloneTree = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE | unix.AT_EMPTY_PATH

	// stageDir holds, while the root is built, what mounts are taken from. The
	// covers stay in it: the kernel clones no tree whose directory is gone.
	stageDir = ".sandbox"
	// stagedFiles are files that are hung over the host's. They keep their names, as
	// a mask may be hung over each: the name of a mount point cannot be removed, and
	// nothing can be hung over a file without one.
	stagedFiles = stageDir + "/files"
)

// root is the file system under construction.
type root struct {
	fd      int // the root mount
	dev     uint64
	rw      int // a second, writable mount of it, once fd is read-only; -1 before
	scratch int // the session's own writable tmpfs, mounted in the stage
	// scratched counts the directories made in it.
	scratched int
	staged    int // files staged so far
	// made are the directories known to be there, while nobody else can remove
	// any: a third of the set-up's system calls would only find them again.
	made map[string]bool
	// ours are those of them that were made here and are not mounted over: the
	// way there holds neither a link nor a host tree, so a name below needs no
	// careful walk.
	ours   map[string]bool
	owned  map[uint64]bool
	empty  [2]int          // trees of an empty readable directory and file
	denied [2]int          // trees of an unreadable directory and file
	masks  map[fileID]bool // what those four are
}

func openat2(dir int, name string, flags, resolve uint64) (int, error) {
	for {
		fd, err := openHow(dir, name, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve})
		// EAGAIN: a rename raced with the walk.
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// walkHost opens a host path of which no component may be a link.
func walkHost(p string) (int, error) {
	return openat2(unix.AT_FDCWD, p, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
}

// detach opens the tree of b as a mount of our own, not yet hung anywhere.
// Identity is compared on the descriptor that is cloned, so nothing can be
// swapped in between.
func (b *bind) detach() (int, error) { return b.detachAs(ownerMap{}) }

// detachAs is detach with the owners of the tree exchanged by m.
func (b *bind) detachAs(m ownerMap) (int, error) {
	fd, err := walkHost(b.source())
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	if b.Dev != 0 || b.Ino != 0 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return -1, err
		}
		if st.Dev != b.Dev || st.Ino != b.Ino {
			return -1, unix.ESTALE
		}
	}
	// Recursive always: a mount made in a more privileged namespace is locked
	// together with what is mounted below it, and a part alone is EINVAL.
	tree, err := unix.OpenTree(fd, "", cloneTree)
	if err != nil {
		return -1, err
	}
	if m.needed() {
		err = mapTree(tree, b.attr(), m)
	} else {
		err = setAttr(tree, b.attr(), true)
	}
	if err != nil {
		unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

// source is where the tree lies on the host.
func (b *bind) source() string { return cmp.Or(b.Source, b.Path) }

func (b *bind) attr() uint64 {
	switch {
	case b.Device:
		return attrDevice
	case b.Write:
		return attrRW
	}
	return attrRO
}

func setAttr(tree int, attr uint64, recursive bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(tree, "", flags, &unix.MountAttr{Attr_set: attr, Propagation: 0})
}

func hang(tree, target int) error {
	defer mountChanges.Add(1)
	return unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// newFS makes a mount of a fresh file system.
func newFS(kind string, attr int, options ...string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		if err := unix.FsconfigSetString(fs, k, v); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
}

// inodesFor is how many files a tmpfs of size bytes may hold: one for each page,
// which a file that is not empty takes, and no fewer than 1,024. A directory, an
// empty file and a short link take no page but 1 to 1.5 KiB of kernel memory,
// and the kernel's own limit is half the pages of the machine (tmpfs(5)). User
// attributes are counted as inodes since Linux 6.6.
func inodesFor(size int64) uint64 { return max(uint64(size)/4096, 1024) }

// newRoot hangs the empty root and its stage. Its place is the top of the host's
// root: a path that starts there starts below the new root, so that all of the
// host stays within reach while the root is built.
func newRoot(tmp int64) (*root, error) {
	r := &root{rw: -1, scratch: -1, owned: map[uint64]bool{}, made: map[string]bool{}, ours: map[string]bool{"/": true}, masks: map[fileID]bool{}}
	var err error
	// Room for directories, links and the made files; commands can never write
	// here.
	r.fd, err = newFS("tmpfs", attrRW, "mode=0755", "size=16m", "nr_inodes=8192")
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return nil, err
	}
	r.dev = st.Dev
	r.owned[st.Dev] = true
	at, err := walkHost("/")
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	if err := hang(r.fd, at); err != nil {
		return nil, err
	}
	if err := unix.Mkdirat(r.fd, stageDir, 0o700); err != nil {
		return nil, err
	}
	for _, dir := range []string{stageDir + "/scratch", stagedFiles} {
		if err := unix.Mkdirat(r.fd, dir, 0o700); err != nil {
			return nil, err
		}
	}
	r.scratch, err = newFS("tmpfs", attrRW, "mode=0755", "size="+utoa(uint64(tmp)), "nr_inodes="+utoa(inodesFor(tmp)))
	if err != nil {
		return nil, err
	}
	if err := r.own(r.scratch); err != nil {
		return nil, err
	}
	if err := r.mountAt(r.scratch, stageDir+"/scratch"); err != nil {
		return nil, err
	}
	return r, r.makeMasks()
}

// own notes a file system in which mount points may be made.
func (r *root) own(mount int) error {
	var st unix.Stat_t
	if err := unix.Fstat(mount, &st); err != nil {
		return err
	}
	r.owned[st.Dev] = true
	return nil
}

// look opens a path of the new root, mounts crossed, links refused.
func (r *root) look(name string) (int, error) {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		name = "."
	}
	return openat2(r.fd, name, unix.O_PATH, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
}

func (r *root) mountAt(tree int, name string) error {
	at, err := r.look(name)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	r.covered(name)
	return hang(tree, at)
}

// covered notes that a tree is hung at name.
func (r *root) covered(name string) {
	if !r.ours[name] {
		return
	}
	for dir := range r.ours {
		if within(dir, name) {
			delete(r.ours, dir)
		}
	}
}

// short gives name as it is reached from the root mount, where the directory it
// lies in is ours.
func (r *root) short(name string) (rel string, ok bool) {
	if r.rw >= 0 || !r.ours[path.Dir(name)] {
		return "", false
	}
	return strings.TrimPrefix(name, "/"), true
}

// mkdirs makes the directories of name that are missing, in our own file
// systems only: EROFS says that one would have to be made in a host tree.
func (r *root) mkdirs(name string, mode uint32) error {
	if r.rw < 0 && r.made[name] {
		return nil
	}
	if rel, ok := r.short(name); ok && unix.Mkdirat(r.fd, rel, mode) == nil {
		r.made[name], r.ours[name] = true, true
		return nil
	}
	dir, err := unix.Dup(r.fd)
	if err != nil {
		return err
	}
	defer func() { unix.Close(dir) }()
	prefix := ""
	const walk = unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_BENEATH
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		if part == "" {
			continue
		}
		next, err := openat2(dir, part, unix.O_PATH|unix.O_DIRECTORY, walk)
		if err == unix.ENOENT {
			var st unix.Stat_t
			if err := unix.Fstat(dir, &st); err != nil {
				return err
			}
			if !r.owned[st.Dev] {
				return unix.EROFS
			}
			if st.Dev == r.dev && r.rw >= 0 {
				// Once the root is read-only. No mount has been crossed on the
				// way here, so the way is the same in the other mount.
				err = unix.Mkdirat(r.rw, prefix+part, mode)
			} else {
				err = unix.Mkdirat(dir, part, mode)
			}
			if err != nil {
				return err
			}
			// Not below a host tree, whose owner can make the way another.
			if r.rw < 0 && r.ours[path.Dir("/"+prefix+part)] {
				r.ours["/"+prefix+part] = true
			}
			next, err = openat2(dir, part, unix.O_PATH|unix.O_DIRECTORY, walk)
		}
		if err != nil {
			return err
		}
		unix.Close(dir)
		dir = next
		prefix += part + "/"
	}
	r.made[name] = true
	return nil
}

func (r *root) write(name, content string, mode uint32) error {
	fd, err := openat2(r.fd, strings.TrimPrefix(name, "/"), unix.O_PATH, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS)
	if err == nil {
		unix.Close(fd)
		return unix.EEXIST
	}
	fd, err = unix.Openat(r.fd, strings.TrimPrefix(name, "/"), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode|0o200)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for s := []byte(content); len(s) > 0; {
		n, err := unix.Write(fd, s)
		if err != nil {
			return err
		}
		s = s[n:]
	}
	return unix.Fchmod(fd, mode)
}

// attach hangs a host tree at its own path, making the mount point.
func (r *root) attach(b *bind, tree int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(tree, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if rel, ok := r.short(b.Path); ok && r.point(r.fd, rel, &st) == nil {
		return unix.MoveMount(tree, "", r.fd, rel, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	at, err := r.look(b.Path)
	if err == unix.ENOENT {
		if err := r.attachPoint(b, &st); err != nil {
			return err
		}
		at, err = r.look(b.Path)
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	r.covered(b.Path)
	return hang(tree, at)
}

// point makes what st can be hung on, a directory or a file.
func (r *root) point(dir int, name string, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.Mkdirat(dir, name, 0o755)
	}
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o444)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// attachPoint makes the missing directory or file that b, which is st, is hung
// on.
func (r *root) attachPoint(b *bind, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return r.mkdirs(b.Path, 0o755)
	}
	if err := r.mkdirs(path.Dir(b.Path), 0o755); err != nil {
		return err
	}
	return r.place(b.Path, func(dir int, base string) error { return r.point(dir, base, st) })
}

// place runs make in the directory of name, which must be our own.
func (r *root) place(name string, make func(dir int, base string) error) error {
	if rel, ok := r.short(name); ok {
		return make(r.fd, rel)
	}
	dir, err := r.look(path.Dir(name))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if !r.owned[st.Dev] {
		return unix.EROFS
	}
	if st.Dev == r.dev && r.rw >= 0 {
		return make(r.rw, strings.TrimPrefix(name, "/"))
	}
	return make(dir, path.Base(name))
}

// link makes a symbolic link of the root. Where a host tree already lies at the
// place, that tree has the link itself.
func (r *root) link(l link) error {
	if err := r.mkdirs(path.Dir(l.Path), 0o755); err != nil {
		return err
	}
	err := r.place(l.Path, func(dir int, base string) error { return unix.Symlinkat(l.Target, dir, base) })
	if err == unix.EROFS || err == unix.EEXIST {
		return nil
	}
	return err
}

// putFile makes a session file: written where the directory is ours, hung over
// the host's where it is not.
func (r *root) putFile(f file) error {
	err := r.mkdirs(path.Dir(f.Path), 0o755)
	if err == nil {
		err = r.place(f.Path, func(dir int, base string) error {
			fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, f.Mode)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			_, err = unix.Write(fd, []byte(f.Content))
			return err
		})
	}
	if err != unix.EROFS {
		return err
	}
	at, err := r.look(f.Path)
	if err == unix.ENOENT || err == unix.ELOOP {
		return nil // the host has no such file to replace, or a link to one elsewhere
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	staged := stagedFiles + "/" + itoa(r.staged)
	r.staged++
	if err := r.write(staged, f.Content, f.Mode); err != nil {
		return err
	}
	return r.overlay(staged, at)
}

func itoa(n int) string { return utoa(uint64(max(n, 0))) }

// utoa spares init the strconv and fmt machinery on its way to ready.
func utoa(n uint64) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}
