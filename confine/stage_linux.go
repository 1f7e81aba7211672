package confine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	denylist "mcp-sandbox/deny"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/treecopy"
)

// A staged workspace is an overlay: the project lies below, read-only, and what
// the session changes goes to the upper layer, in the server's state directory. The
// server's own file tools reach it by a descriptor that init sends: the mount has
// no other name outside.

// layerStage is the layer of the report.
const layerStage = "staged workspace"

// The directories of a stage, see sandbox.Policy.Stage.
const (
	stageUpper = "upper"
	stageWork  = "work"
)

// stageWorkspace has the workspace staged, if the session wants that.
func (l *layout) stageWorkspace() error {
	if l.p.Stage == "" {
		return nil
	}
	if at := mountedBelow(l.p.Workspace); at != "" {
		return errorf("confinement_unavailable", nil, "the workspace cannot be staged: a file system is mounted in it, at %q, which an overlay does not show; unmount it, or name a directory without mounts", at)
	}
	if os.Geteuid() == 0 {
		for _, dir := range []string{"", stageUpper, stageWork} {
			if err := os.Chown(l.p.Stage+"/"+dir, l.id.uid, l.id.gid); err != nil {
				return errorf("internal", err, "the stage cannot be given to the session's user (%s); check the server's rights", errnoText(err))
			}
		}
	}
	l.cfg.Stage = []bind{hostTree(l.p.Stage, true, false)}
	for i := range l.cfg.Binds {
		if b := &l.cfg.Binds[i]; b.Path == l.p.Workspace {
			b.Write = false // the layer below
		}
	}
	return nil
}

// hideLinked hides the further names of hidden files where init cannot find them: those
// of an exact path, which is covered before init looks, or lies in nothing that is
// shown; and all of a staged workspace, as each name has an inode of its own in an
// overlay.
func (l *layout) hideLinked(list *denylist.List) error {
	if list.Empty() {
		return nil
	}
	find := list.FurtherNames
	if l.p.Stage != "" {
		find = list.Scan
	}
	found, err := find(context.Background())
	if err == nil && found.Partial {
		err = unix.E2BIG
	}
	if err != nil {
		return errorf("internal", err, "what is hidden in the workspace could not all be found (%s); name less with --deny-read", errnoText(err))
	}
	for _, p := range found.Linked() {
		l.cfg.Masks = append(l.cfg.Masks, mask{p, true})
	}
	return nil
}

// mountedBelow is a mount point below dir, "" without one (proc_pid_mountinfo(5)).
func mountedBelow(dir string) string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 5 {
			continue
		}
		if at := unescapeMount(fields[4]); at != dir && within(at, dir) {
			return at
		}
	}
	return ""
}

// openStage hangs the stage where only init reaches it while the root is built.
func (s *initState) openStage() error {
	if len(s.cfg.Stage) == 0 {
		return nil
	}
	tree, err := s.openTree(&s.cfg.Stage[0])
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	s.stage, err = s.hangHidden(tree, "stage")
	return err
}

// hangHidden mounts tree where only init reaches it, by the descriptor it returns:
// below a directory that nobody can open.
func (s *initState) hangHidden(tree int, name string) (fd int, err error) {
	at := stageDir + "/" + name
	if err := unix.Mkdirat(s.root.fd, at, 0o700); err != nil {
		return -1, err
	}
	if err := s.root.mountAt(tree, at); err != nil {
		return -1, err
	}
	fd, err = unix.Openat(s.root.fd, at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := s.root.coverPath("/"+at, true); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// coverWorkspace puts the overlay over the workspace, which has just been hung, and
// keeps a second mount of it for the server: what is mounted in the session's own
// later, such as covers, does not show in that.
func (s *initState) coverWorkspace() error {
	lower, err := s.root.look(s.cfg.Workspace)
	if err != nil {
		return err
	}
	defer unix.Close(lower)
	var layer [2]int
	for i, part := range []string{stageUpper, stageWork} {
		layer[i], err = unix.Openat(s.stage, part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
		defer unix.Close(layer[i])
	}
	overlay, err := mountOverlay(lower, layer[0], layer[1], true)
	if err != nil {
		return err
	}
	defer unix.Close(overlay)
	if err := hang(overlay, lower); err != nil {
		return err
	}
	// Of one that hangs nowhere none can be made before Linux 6.15.
	s.merged, err = unix.OpenTree(overlay, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	return err
}

// dropStage takes the stage out of the session's mounts: the overlay has its own hold of
// the layers, and mountinfo would show where the state directory is. The working
// directory is the root's.
func (s *initState) dropStage() error {
	if s.cfg == nil || len(s.cfg.Stage) == 0 {
		return nil
	}
	unix.Close(s.stage)
	s.stage = -1
	const at = stageDir + "/stage"
	for range 2 { // its cover, and the layers
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return err
		}
	}
	return unix.Unlinkat(s.root.fd, at, unix.AT_REMOVEDIR)
}

// mountOverlay makes an overlay that is not hung anywhere yet. Its layers are named
// by descriptor: their paths are neither reachable nor to be shown in /proc/mounts.
// oneDevice asks for one device number of all files where the layers are on two file
// systems: who compares device numbers, as find -xdev does, would leave files out.
func mountOverlay(lower, upper, work int, oneDevice bool) (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, o := range []struct {
		key string
		fd  int
	}{{"lowerdir", lower}, {"upperdir", upper}, {"workdir", work}} {
		if err := unix.FsconfigSetString(fs, o.key, "/proc/self/fd/"+itoa(o.fd)); err != nil {
			return -1, fmt.Errorf("%s: %w", o.key, err)
		}
	}
	if oneDevice {
		if err := unix.FsconfigSetString(fs, "xino", "auto"); err != nil {
			return -1, fmt.Errorf("xino: %w", err)
		}
	}
	if err := unix.FsconfigSetFlag(fs, "userxattr"); err != nil {
		return -1, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrRW)
}

// Merged opens the workspace as the session sees it, for a staged one; it fails
// with fs.ErrNotExist for any other. The descriptor serves as long as it is open,
// also when the sandbox has ended.
func (s *Sandbox) Merged() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.merged < 0 {
		return nil, fs.ErrNotExist
	}
	fd, err := unix.Openat(s.merged, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "workspace"), nil
}

func (s *Sandbox) closeMerged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.merged >= 0 {
		unix.Close(s.merged)
		s.merged = -1
	}
}

// stageRefused says why a level that did not start is not replaced by a weaker one.
func stageRefused(un *unavailable) error {
	why := un.step + ": " + errnoText(un.err)
	var coded *sandbox.Error
	if errors.As(un.err, &coded) {
		why = coded.Error()
	}
	return errorf("confinement_unavailable", un.err, "the workspace cannot be staged on this host (%s): --staged needs the level namespaces, Linux 5.11, and a state directory on a file system that an overlay can write to (--state-dir); start without --staged", why)
}

// movingDir is a rename of a directory that the overlay refuses, on its way.
type movingDir struct {
	listener int
	id       uint64
	src, dst int // their own copies
	from, to string
	flags    uint
}

// maxMoving bounds the renames that wait for those before them.
const maxMoving = 64

// moveDir hands a rename over to the thread that copies, as the copy of a large
// tree would keep all other calls waiting.
func (t *supervisorThread) moveDir(q *request, src, dst *place, flags uint) reply {
	m := movingDir{listener: t.listener, id: q.id, from: src.name, to: dst.name, flags: flags}
	var err error
	if m.src, err = unix.FcntlInt(uintptr(src.dir), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return failed(err)
	}
	if m.dst, err = unix.FcntlInt(uintptr(dst.dir), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		unix.Close(m.src)
		return failed(err)
	}
	select {
	case t.moving <- m:
		return reply{later: true, fd: none}
	default:
		unix.Close(m.src)
		unix.Close(m.dst)
		return failed(unix.EXDEV)
	}
}

// keepMoving carries such renames out, one after the other, with the rights of the
// commands.
func (v *notifySupervisor) keepMoving() {
	t := &supervisorThread{notifySupervisor: v}
	if err := t.restrict(); err != nil {
		leave(1)
	}
	t.setUmask(0)
	for m := range v.moving {
		t.listener = m.listener
		if t.waits(m.id) {
			r := reply{fd: none}
			c := treecopy.Copier{MaxFile: v.s.cfg.Limits.FileSize}
			t.binding.RLock()
			err := c.RenameByCopy(m.src, strings.TrimRight(m.from, "/"), m.dst, strings.TrimRight(m.to, "/"), m.flags)
			t.binding.RUnlock()
			if err != nil {
				r = failed(err)
			}
			t.send(m.id, r)
		}
		unix.Close(m.src)
		unix.Close(m.dst)
	}
}
