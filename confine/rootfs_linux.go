package confine

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// buildRoot makes the file system commands live in and moves init there.
func (s *initState) buildRoot() error {
	// Nothing mounted or unmounted on the host from now on shows up here, and
	// nothing done here shows up there.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// All host trees are opened before anything is covered: the workspace may
	// well lie under the place the new root is built on.
	trees, err := s.openTrees()
	if err != nil {
		return err
	}
	r, err := newRoot(s.cfg.Limits)
	if err != nil {
		return fmt.Errorf("make the root: %w", err)
	}
	s.root = r
	for i, dir := range s.cfg.Dirs {
		if err := r.mkdirs(dir, 0o755); err != nil {
			return fmt.Errorf("make directory %d: %w", i, err)
		}
	}
	if err := s.scratchDirs(); err != nil {
		return err
	}
	for i := range s.cfg.Binds {
		if trees[i] < 0 {
			continue
		}
		if err := r.attach(&s.cfg.Binds[i], trees[i]); err != nil {
			return fmt.Errorf("mount tree %d: %w", i, &pathError{s.cfg.Binds[i].Path, err})
		}
		unix.Close(trees[i])
	}
	for i, l := range s.cfg.Links {
		if err := r.link(l); err != nil {
			return fmt.Errorf("make link %d: %w", i, err)
		}
	}
	for i, f := range s.cfg.Files {
		if err := r.putFile(f); err != nil {
			return fmt.Errorf("make file %d: %w", i, err)
		}
	}
	if err := s.specialMounts(); err != nil {
		return err
	}
	if err := s.hidePaths(); err != nil {
		return err
	}
	if err := s.protectPaths(); err != nil {
		return err
	}
	return s.pivot()
}

func (s *initState) openTrees() ([]int, error) {
	trees := make([]int, len(s.cfg.Binds))
	for i := range s.cfg.Binds {
		b := &s.cfg.Binds[i]
		if b.Tree >= 0 {
			// Opened and made read-only by a root server, because this identity
			// could not walk there.
			if b.Tree >= len(s.trees) {
				return nil, errWire
			}
			trees[i] = s.trees[b.Tree]
			continue
		}
		tree, err := b.detach()
		if err != nil && b.Optional && !errors.Is(err, unix.ESTALE) {
			trees[i] = -1
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open tree %d: %w", i, &pathError{b.Path, err})
		}
		trees[i] = tree
	}
	// Kept for grants while the sandbox runs. Only init's unrestricted threads
	// can use it, and init is undumpable.
	root := bind{Path: "/", Write: true}
	if tree, err := root.detach(); err == nil {
		s.hostRoot = tree
	}
	return trees, nil
}

// scratchDirs makes what a session may write to besides its workspace: parts of
// one tmpfs, so that one size bounds them all.
func (s *initState) scratchDirs() error {
	dirs := []struct {
		name string
		mode uint32
	}{
		{"/tmp", 0o1777}, {"/var/tmp", 0o1777}, {"/run", 0o755},
	}
	if s.cfg.Home != "" {
		dirs = append(dirs, struct {
			name string
			mode uint32
		}{s.cfg.Home, 0o700})
	}
	for i, d := range dirs {
		if err := s.root.scratchDir(d.name, d.mode, i); err != nil {
			return fmt.Errorf("make %s: %w", [...]string{"/tmp", "/var/tmp", "/run", "the home directory"}[i], err)
		}
	}
	return nil
}

// specialMounts hangs the kernel's own file systems: a private shm, a private
// devpts, and a proc of this pid namespace.
func (s *initState) specialMounts() error {
	r := s.root
	for _, m := range []struct {
		at, kind string
		attr     int
		options  []string
	}{
		{"/dev/shm", "tmpfs", attrRW, []string{"mode=1777", "size=" + utoa(uint64(s.cfg.Limits.Shm))}},
		// A private instance: terminals of the host and of other sessions do not
		// exist here, and TIOCSTI has nobody to reach. gid=5 would need a mapped
		// group.
		{"/dev/pts", "devpts", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, []string{"ptmxmode=0666", "mode=620"}},
	} {
		if err := r.mkdirs(m.at, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", m.at, err)
		}
		fd, err := newFS(m.kind, m.attr, m.options...)
		if err == nil {
			err = r.mountAt(fd, m.at)
			unix.Close(fd)
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return s.mountProc()
}

// mountProc shows the sandbox's own processes. It is read-only as a whole: uid 0
// of a user namespace mapped to the real root could otherwise write
// /proc/sys/kernel/core_pattern and sysrq-trigger without any capability, which
// is code execution as root outside.
func (s *initState) mountProc() error {
	if err := s.root.mkdirs("/proc", 0o555); err != nil {
		return err
	}
	fd, err := -1, error(unix.EPERM)
	if !s.cfg.HostProc {
		fd, err = newFS("proc", attrRO|unix.MOUNT_ATTR_NOEXEC)
	}
	if err != nil {
		// The kernel refuses a fresh proc where parts of the host's are masked,
		// as containers do (mount_too_revealing). The host's, masks included, is
		// the next best; its pids are not the sandbox's.
		s.gap(gapProc, err)
		s.foreignProc = true
		b := bind{Path: "/proc"}
		if fd, err = b.detach(); err != nil {
			return fmt.Errorf("mount /proc: %w", err)
		}
	}
	defer unix.Close(fd)
	if err := s.root.mountAt(fd, "/proc"); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if s.cfg.UID != 0 {
		return nil // these need a real root to be read
	}
	for _, p := range []string{"kcore", "kmsg", "keys", "key-users", "timer_list", "sched_debug", "sysrq-trigger", "kpagecount", "kpageflags", "kpagecgroup", "vmallocinfo", "slabinfo", "scsi", "acpi"} {
		if err := s.root.coverPath("/proc/"+p, true); err != nil {
			return fmt.Errorf("cover /proc/%s: %w", p, err)
		}
	}
	return nil
}

// gapProc names the gap that makes the level namespaces-noproc.
const gapProc = "proc"

// coverPath hides a path where there is one.
func (r *root) coverPath(name string, denied bool) error {
	at, err := r.look(name)
	// EACCES: nobody of this identity gets there anyway.
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP || err == unix.EACCES {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return r.cover(at, denied)
}

func (s *initState) hidePaths() error {
	for i, c := range s.cfg.Covers {
		if err := s.root.coverPath(c.Path, c.Denied); err != nil {
			return fmt.Errorf("hide path %d: %w", i, &pathError{c.Path, err})
		}
	}
	return nil
}

// pivot makes the new root the root of init and of all it starts, and lets go
// of the host.
func (s *initState) pivot() error {
	r := s.root
	if err := unix.Fchdir(r.fd); err != nil {
		return err
	}
	if err := r.clearStage(); err != nil {
		return fmt.Errorf("clear the stage: %w", err)
	}
	// A second, writable mount of the same root stays with init for grants.
	rw, err := unix.OpenTree(r.fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	if err := setAttr(r.fd, unix.MOUNT_ATTR_RDONLY, false); err != nil {
		return err
	}
	// The same directory twice stacks the old root on the new one, so no
	// directory is needed for it (pivot_root(2), notes).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	r.rw = rw
	return unix.Chdir("/")
}

// clearStage removes the names of the stage; the mounts taken from it keep
// their objects. The working directory is the root's.
func (r *root) clearStage() error {
	if err := unix.Unmount(stageDir+"/scratch", unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return err
	}
	for i := range r.staged {
		if err := unix.Unlinkat(r.fd, stageDir+"/f"+itoa(i), 0); err != nil {
			return err
		}
	}
	return unix.Unlinkat(r.fd, stageDir+"/scratch", unix.AT_REMOVEDIR)
}
