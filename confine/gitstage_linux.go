package confine

import (
	"context"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A git directory that a program outside reads is staged: an overlay lies over it
// whose lower layer is the real directory, read-only, and whose upper layer lies
// in the stage, a directory of the server. What commands write to it stays there
// until the server publishes what is data (package gitstage). A configuration or
// a hook that a command wrote is therefore obeyed inside and never outside.
//
// Whoever is asked for a change below a name .git (notify_do_linux.go) looks
// whether it would reach such an overlay, stages the directory if it would not,
// and refuses what cannot be staged. So a directory that is made while a command
// runs is staged too, and none is ever written where it really is.

// gapGitStage names the gap of a host that cannot mount an overlay, gapGitMemory
// that of one whose state directory cannot hold one.
const gapGitStage, gapGitMemory = "git stage", "git stage on disk"

// layerGit is the layer of the report.
const layerGit = "git directories"

// gitStage is init's part of it.
type gitStage struct {
	fd    int           // the stage's directory
	began unix.Timespec // when the session started, by the clock of file systems

	// turn is held by each change of a name, and alone by one that stages a bare
	// repository, of which bare holds all: no change is judged before and done after.
	turn sync.RWMutex
	bare atomic.Pointer[map[string]bareRepo]

	mu     sync.Mutex
	dirs   map[string]*stagedGit // by the name all of the sandbox sees
	paused map[string]stagedGit  // what renewGit took away
}

// stagedGit is one git directory behind its overlay, or a .git file behind one of
// the stage.
type stagedGit struct {
	lower int    // the real directory or file
	mount uint64 // kernel's number of the overlay
	made  bool   // by this session: it was empty when it was first staged
	file  bool
}

// gitName is the name of a git directory, as package session stages it too.
const gitName = ".git"

// gitDir gives the outermost git directory a path of the workspace names or lies
// in, "" for none; at says that the path is its name.
func (s *initState) gitDir(p string) (dir string, at bool) {
	if s.git == nil {
		return "", false
	}
	for _, g := range s.cfg.OtherGit {
		if within(p, g) {
			return g, p == g
		}
	}
	if part, _ := s.git.barePart(p); part != "" {
		return part, p == part
	}
	if !within(p, s.cfg.Workspace) {
		return "", false
	}
	for i := len(s.cfg.Workspace); i < len(p); {
		end := len(p)
		if j := strings.IndexByte(p[i+1:], '/'); j >= 0 {
			end = i + 1 + j
		}
		if name := p[i+1 : end]; len(name) >= len(gitName) && foldName(name) == gitName {
			return p[:end], end == len(p)
		}
		i = end
	}
	return "", false
}

// openGitStage hangs the git stage of the state directory.
func (s *initState) openGitStage() error {
	if len(s.cfg.GitStage) == 0 {
		return nil
	}
	b := &s.cfg.GitStage[0]
	tree, err := s.openTree(b)
	if err != nil {
		return &pathError{b.Path, err}
	}
	defer unix.Close(tree)
	fd, err := s.hangHidden(tree, "git")
	if err != nil {
		return err
	}
	s.git = &gitStage{fd: fd, dirs: map[string]*stagedGit{}}
	return unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &s.git.began)
}

// stageKnownGit stages what is there when the session starts: in memory where the
// state directory cannot hold it, as one in a container's own file system. A host that
// can do neither has the directories read-only instead, and says so.
func (s *initState) stageKnownGit() error {
	if s.git == nil {
		return nil
	}
	err := s.stageKnown()
	if err == nil {
		return nil
	}
	disk := s.git.fd
	if s.gitInMemory() == nil {
		merged, merr := unix.FcntlInt(uintptr(s.git.fd), unix.F_DUPFD_CLOEXEC, 0)
		if merr == nil {
			if merr = s.stageKnown(); merr == nil {
				unix.Close(disk)
				s.merged = merged
				s.gap(gapGitMemory, err)
				return nil
			}
			unix.Close(merged)
		}
		// What could be staged in memory is staged on disk again: the server publishes
		// from there.
		for p := range maps.Clone(s.git.dirs) {
			if err := s.unstageGit(p); err != nil {
				return err
			}
		}
		unix.Close(s.git.fd)
		s.git.fd = disk
		_ = s.stageKnown() // it fails where it did
	}
	s.gap(gapGitStage, err)
	return nil
}

// gitInMemory makes the stage a file system of this session. It needs attributes of
// users there (Linux 6.6), as an overlay without loses what replaces a directory.
func (s *initState) gitInMemory() error {
	tree, err := newFS("tmpfs", attrRW, "mode=0700", "size="+utoa(uint64(s.base.Tmp)), "nr_inodes="+utoa(inodesFor(s.base.Tmp)))
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	fd, err := s.hangHidden(tree, "git-memory")
	if err != nil {
		return err
	}
	if err := unix.Fsetxattr(fd, "user.overlay.opaque", []byte("n"), 0); err != nil {
		unix.Close(fd)
		return err
	}
	for p := range s.git.dirs {
		if err := s.unstageGit(p); err != nil {
			unix.Close(fd)
			return err
		}
	}
	s.git.fd = fd
	return nil
}

func (s *initState) stageKnown() error {
	if len(s.cfg.Git) == 0 {
		return s.git.try()
	}
	for _, p := range s.cfg.Git {
		err := s.stageGit(p)
		if err == unix.ENOTDIR {
			err = s.stageGitFile(p) // the configuration of a bare repository
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// try mounts an overlay as that of a git directory would be, to say at the start
// whether one that a command makes can be staged.
func (g *gitStage) try() error {
	const name = "try"
	defer removeAllAt(g.fd, name, 0)
	if err := unix.Mkdirat(g.fd, name, 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	if err := unix.Mkdirat(g.fd, name+"/lower", 0o700); err != nil && err != unix.EEXIST {
		return err
	}
	lower, err := unix.Openat(g.fd, name+"/lower", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(lower)
	overlay, err := g.overlay(name, lower, &unix.Stat_t{Mode: 0o700})
	if err != nil {
		return err
	}
	return unix.Close(overlay)
}

// stageName is the name below the stage of a git directory: of its path relative to
// the workspace, or of the whole path of one outside.
func (s *initState) stageName(p string) string {
	return strings.NewReplacer("%", "%25", "/", "%2F").Replace(strings.TrimPrefix(p, s.cfg.Workspace+"/"))
}

// stageGit puts the overlay over one git directory, unless it is there. It runs
// with init's rights.
func (s *initState) stageGit(p string) error {
	g := s.git
	g.mu.Lock()
	defer g.mu.Unlock()
	at, err := s.root.look(p)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	if d := g.dirs[p]; d != nil {
		if id, err := mountID(at); err == nil && id == d.mount {
			return nil
		}
		// A program outside has put another directory in its place.
		unix.Close(d.lower)
		delete(g.dirs, p)
	}
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	made, err := isEmptyDir(at)
	if err != nil {
		return err
	}
	// Whatever becomes of the overlay, the directory below it is read-only.
	if err := s.root.selfBind(at, attrRO); err != nil {
		return err
	}
	lower, err := s.root.look(p)
	if err != nil {
		return err
	}
	d := &stagedGit{lower: lower, made: made}
	overlay, err := g.overlay(s.stageName(p), lower, &st)
	if err == nil {
		if err = g.markPart(p, s.stageName(p)); err == nil {
			err = hang(overlay, lower)
		}
		if err == nil {
			d.mount, err = mountID(overlay)
		}
		unix.Close(overlay)
	}
	if err != nil {
		unix.Close(lower)
		return err
	}
	g.dirs[p] = d
	return nil
}

// overlay makes the mount of one git directory, whose changes go to name.
func (g *gitStage) overlay(name string, lower int, st *unix.Stat_t) (int, error) {
	if len(name) > unix.NAME_MAX {
		return -1, unix.ENAMETOOLONG
	}
	if err := unix.Mkdirat(g.fd, name, 0o700); err != nil && err != unix.EEXIST {
		return -1, err
	}
	var layer [2]int
	for i, part := range []string{"upper", "work"} {
		if err := unix.Mkdirat(g.fd, name+"/"+part, 0o700); err != nil && err != unix.EEXIST {
			return -1, err
		}
		var err error
		layer[i], err = unix.Openat(g.fd, name+"/"+part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer unix.Close(layer[i])
	}
	// The merged directory has the mode of the upper one.
	if err := unix.Fchmod(layer[0], st.Mode&0o777); err != nil {
		return -1, err
	}
	ownDirs(lower, layer[0])
	return mountOverlay(lower, layer[0], layer[1], false)
}

// unstageGit takes the overlay and the read-only mount away.
func (s *initState) unstageGit(p string) error {
	g := s.git
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.dirs[p]
	if d == nil {
		return nil
	}
	for range 2 {
		at, err := s.root.look(p)
		if err != nil {
			return err
		}
		root, err := isMountRoot(at)
		unix.Close(at)
		if err != nil || !root {
			break
		}
		err = unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		mountChanges.Add(1)
		if err != nil {
			return err
		}
	}
	unix.Close(d.lower)
	delete(g.dirs, p)
	return nil
}

// renewGit takes all overlays away, for the server to take out what it has
// published, or puts them back over what the directories are now. Processes keep
// what they have, so it is not done while there are any.
func (s *initState) renewGit(again bool) error {
	g := s.git
	if g == nil {
		return unix.ENOSYS
	}
	if again {
		for p, was := range g.paused {
			stage := s.stageGit
			if was.file {
				stage = s.stageGitFile
			}
			if err := stage(p); err != nil && err != unix.ENOENT && err != unix.ESTALE {
				return err
			}
			g.mu.Lock()
			if d := g.dirs[p]; d != nil {
				d.made = was.made
			}
			g.mu.Unlock()
		}
		g.paused = nil
		return nil
	}
	// Signal 0 to all but init and the caller: ESRCH says that there is nobody.
	if unix.Kill(-1, 0) != unix.ESRCH {
		return unix.EBUSY
	}
	g.mu.Lock()
	g.paused = map[string]stagedGit{}
	for p, d := range g.dirs {
		g.paused[p] = *d
	}
	g.mu.Unlock()
	for p := range g.paused {
		if err := s.unstageGit(p); err != nil {
			return err
		}
	}
	return nil
}

// holds says whether an open file or directory lies in an overlay.
func (g *gitStage) holds(fd int, dir string) bool {
	id, err := mountID(fd)
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.dirs[dir]
	return err == nil && d != nil && d.mount == id
}

// mountID is the kernel's number of the mount an open file is in (Linux 5.8).
func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &st); err != nil {
		return 0, err
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, unix.ENOSYS
	}
	return st.Mnt_id, nil
}

func isEmptyDir(at int) (bool, error) {
	fd, err := unix.Openat(at, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var b [512]byte
	for {
		n, err := unix.ReadDirent(fd, b[:])
		if err != nil || n == 0 {
			return n == 0, err
		}
		if _, _, names := unix.ParseDirent(b[:n], -1, nil); len(names) > 0 {
			return false, nil
		}
	}
}

// GitStage opens the stage of git directories where it is in memory; it fails with
// fs.ErrNotExist where it is the directory of the policy. The descriptor serves as
// long as it is open, also when the sandbox has ended.
func (s *Sandbox) GitStage() (*os.File, error) { return s.Merged() }

// RenewGit takes the overlays of all git directories away, or puts them back over
// what the directories are now. It fails with EBUSY while a process of the
// sandbox lives, and with ENOSYS where nothing is staged.
func (s *Sandbox) RenewGit(ctx context.Context, again bool) error {
	_, err := s.ask(ctx, opGit, func(e *encoder) { e.flag(again) })
	return err
}
