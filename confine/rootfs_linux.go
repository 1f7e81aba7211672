package confine

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// buildRoot hangs what is the session's into the base, and moves init there.
func (s *initState) buildRoot() error {
	if s.root == nil {
		return errWire
	}
	if s.cfg.Home != "" {
		if err := s.root.scratchDir(s.cfg.Home, 0o700); err != nil {
			return fmt.Errorf("make the home directory: %w", err)
		}
	}
	if err := s.openGitStage(); err != nil {
		return fmt.Errorf("open the git stage: %w", err)
	}
	if err := s.openStage(); err != nil {
		return fmt.Errorf("open the stage: %w", err)
	}
	if err := s.populate(s.cfg.Binds, s.cfg.Links, s.cfg.Files); err != nil {
		return err
	}
	if err := s.hidePaths(); err != nil {
		return err
	}
	if err := s.protectPaths(); err != nil {
		return err
	}
	if err := s.stageKnownGit(); err != nil {
		return err
	}
	return s.pivot()
}

// populate hangs trees, parents before children, then makes links and files.
func (s *initState) populate(binds []bind, links []link, files []file) error {
	r := s.root
	for i := range binds {
		tree, err := s.openTree(&binds[i])
		if err != nil {
			return fmt.Errorf("open tree %d: %w", i, &pathError{binds[i].Path, err})
		}
		if tree < 0 {
			continue
		}
		if err := r.attach(&binds[i], tree); err != nil {
			return fmt.Errorf("mount tree %d: %w", i, &pathError{binds[i].Path, err})
		}
		unix.Close(tree)
		if s.cfg != nil && len(s.cfg.Stage) > 0 && binds[i].Path == s.cfg.Workspace {
			if err := s.coverWorkspace(); err != nil {
				return fmt.Errorf("mount the staged workspace: %w", err)
			}
		}
	}
	s.trees = nil
	for i, l := range links {
		if err := r.link(l); err != nil {
			return fmt.Errorf("make link %d: %w", i, err)
		}
	}
	for i, f := range files {
		if err := r.putFile(f); err != nil {
			return fmt.Errorf("make file %d: %w", i, err)
		}
	}
	return nil
}

// openTree gives the tree to hang for b, -1 for one that has gone.
func (s *initState) openTree(b *bind) (int, error) {
	if b.Tree >= 0 {
		// Opened and made read-only by a root server, because this identity
		// could not walk there.
		if b.Tree >= len(s.trees) {
			return -1, errWire
		}
		return s.trees[b.Tree], nil
	}
	tree, err := b.detach()
	if err != nil && b.Optional && !errors.Is(err, unix.ESTALE) {
		return -1, nil
	}
	return tree, err
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
		{"/dev/shm", "tmpfs", attrRW, []string{"mode=1777", "size=" + utoa(uint64(s.base.Shm)), "nr_inodes=" + utoa(inodesFor(s.base.Shm))}},
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
			// Grants in the host's are hung in it.
			if m.kind == "tmpfs" {
				err = r.own(fd)
			}
			if err == nil {
				err = r.mountAt(fd, m.at)
			}
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
	fd, err := s.proc, error(nil)
	s.proc = -1
	switch {
	case fd >= 0:
		if err := setAttr(fd, unix.MOUNT_ATTR_RDONLY, false); err != nil {
			return fmt.Errorf("make /proc read-only: %w", err)
		}
	case s.base.HostProc:
		err = unix.EPERM
	default:
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
	if s.base.UID != 0 {
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
	return r.mask(at, denied)
}

func (s *initState) hidePaths() error {
	for i, c := range s.cfg.Masks {
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
	if err := s.dropStage(); err != nil {
		return fmt.Errorf("drop the layers of the workspace: %w", err)
	}
	// A second, writable mount of the same root stays with init, to remount masks.
	rw, err := unix.OpenTree(r.fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	if err := leaveBehind(rw); err != nil {
		return fmt.Errorf("hang the writable root: %w", err)
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

// leaveBehind hangs a tree in the host's root as init has it, from where it goes
// with that. To take a tree apart makes the kernel wait for all processors, and
// one that never hung anywhere is taken apart when init ends, before the kernel
// kills what runs in the sandbox.
func leaveBehind(tree int) error {
	at, err := walkHost("/proc")
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return hang(tree, at)
}

// clearStage leaves of the stage only what no command reaches; the mounts taken from
// it keep their objects. The working directory is the root's.
func (r *root) clearStage() error {
	if err := leaveBehind(r.scratch); err != nil {
		return err
	}
	if err := unix.Fchmodat(r.fd, stagedFiles, 0, 0); err != nil {
		return err
	}
	return unix.Unlinkat(r.fd, stageDir+"/scratch", unix.AT_REMOVEDIR)
}
