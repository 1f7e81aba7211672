package confine

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// newLevelLayout plans one level.
func newLevelLayout(p *sandbox.Policy, id identity, level sandbox.Level, b *base) (*layout, error) {
	switch level {
	case sandbox.LevelNamespaces, sandbox.LevelNamespacesNoProc:
		return newLayout(p, id, b)
	case sandbox.LevelLandlock:
		return newLandlockLayout(p, id)
	case sandbox.LevelNone:
		return newOpenLayout(p, id)
	}
	return nil, errorf("invalid_argument", nil, "the confinement level %q does not exist on Linux; use auto, namespaces, landlock or none", string(level))
}

// newLandlockLayout plans the level without namespaces: nothing is mounted, a
// Landlock domain opens what the session may read and write, and the filter
// closes what Landlock cannot see.
func newLandlockLayout(p *sandbox.Policy, id identity) (*layout, error) {
	if landlockABI() < 1 {
		_, err := landlockVersion()
		if err == nil {
			err = unix.EOPNOTSUPP
		}
		return nil, &unavailable{step: "use Landlock", err: err}
	}
	l := &layout{p: p, id: id}
	if err := l.withoutMounts(); err != nil {
		return nil, err
	}
	if err := l.restrictions(); err != nil {
		l.undo()
		return nil, err
	}
	return l, nil
}

// newOpenLayout plans the level none.
func newOpenLayout(p *sandbox.Policy, id identity) (*layout, error) {
	l := &layout{p: p, id: id}
	l.cfg.Unconfined = true
	if err := l.withoutMounts(); err != nil {
		return nil, err
	}
	l.path = p.Path
	return l, nil
}

// withoutMounts plans what the levels without a file system of their own share.
func (l *layout) withoutMounts() error {
	c := &l.cfg
	c.Network = l.p.Network
	c.UID, c.GID = l.id.uid, l.id.gid
	c.Limits = l.p.Limits
	c.Workspace = l.p.Workspace
	// The host's own, as /dev/pts/ptmx has no permissions there.
	c.TTYMultiplexer = "/dev/ptmx"
	system, _ := systemTrees()
	etc := base{}
	if l.id.uid == 0 {
		etc.etcForRoot(nil)
	} else {
		hidden, err := l.hidden()
		if err != nil {
			return err
		}
		for _, open := range around("/etc", hidden) {
			system = append(system, hostTree(open, false, false))
		}
	}
	c.Binds = append(system, etc.cfg.Binds...)
	l.toolchains()
	if err := l.grants(); err != nil {
		return err
	}
	for _, b := range c.Binds {
		// A root server sees toolchains the session's identity cannot walk to.
		if !b.Write && (os.Geteuid() != 0 || l.id.uid == 0 || reachable(b.Path)) {
			c.ReadOnly = append(c.ReadOnly, b.Path)
		}
	}
	// What is copied elsewhere is granted in place here.
	c.ReadOnly = append(c.ReadOnly, etc.copies...)
	if l.p.ReadOnly {
		c.ReadOnly = append(c.ReadOnly, l.p.Workspace)
	} else {
		c.Writable = append(c.Writable, l.p.Workspace)
	}
	if !c.Unconfined {
		if err := l.hiddenWithoutMounts(); err != nil {
			return err
		}
	}
	if len(l.p.Protect) > 0 && !c.Unconfined {
		l.warn("protected paths can be changed by commands at this level, only the file tools refuse them; git's hooks and configuration are put back after each")
	}
	c.Binds, c.Links, c.Files, c.Masks = nil, nil, nil, nil
	return l.privateDir()
}

// hiddenWithoutMounts refuses what Landlock cannot express: rules only add, so
// no part of an opened tree can be closed again.
func (l *layout) hiddenWithoutMounts() error {
	open := slices.Concat(l.cfg.ReadOnly, l.cfg.Writable)
	list, err := denyList(l.p)
	if err != nil {
		return err
	}
	found, err := list.Scan(context.Background())
	if err != nil || found.Partial || len(found.Matches) > 0 {
		return &unavailable{step: "hide the files that --deny-read patterns match inside a readable directory, or hard links there to a file that it names, which needs namespaces", err: unix.EOPNOTSUPP}
	}
	if list.Wild() {
		l.warn("files that come to match a --deny-read pattern can be read by commands at this level, only the file tools and snapshots leave them out")
	}
	hidden, err := l.hidden()
	if err != nil {
		return err
	}
	for _, real := range hidden {
		if within(l.p.Workspace, real) && !within(real, l.cfg.ReadOnly...) {
			continue // holds the workspace, of which alone something is opened
		}
		if within(real, open...) {
			return &unavailable{step: "hide a path inside a readable directory, which needs namespaces", err: unix.EOPNOTSUPP}
		}
	}
	return nil
}

// hidden are the paths that the session may not see, without their links.
func (l *layout) hidden() ([]string, error) {
	list, err := denyList(l.p)
	if err != nil {
		return nil, err
	}
	var hidden []string
	for _, p := range slices.Concat(l.p.StateDirs, list.Paths()) {
		if real, err := filepath.EvalSymlinks(p); err == nil { // else there is nothing to hide
			hidden = append(hidden, real)
		}
	}
	return hidden, nil
}

// around is what of a tree can be opened when paths in it are hidden, such as a
// server's token file in /etc: the entries next to the way to each. What is made
// there later stays closed, and the directories on the way cannot be listed. A link
// needs no rule, its target has one or is closed.
func around(tree string, hidden []string) []string {
	inside := slices.DeleteFunc(slices.Clone(hidden), func(p string) bool { return !within(p, tree) })
	if len(inside) == 0 {
		return []string{tree}
	}
	if slices.Contains(inside, tree) {
		return nil
	}
	entries, err := os.ReadDir(tree)
	if err != nil {
		return nil // closed
	}
	var open []string
	for _, e := range entries {
		if e.Type().IsRegular() || e.IsDir() {
			open = append(open, around(path.Join(tree, e.Name()), inside)...)
		}
	}
	return open
}

// privateDir makes the session's own directory on the host, with its home and
// its temporary directory. Init removes it when the server cannot.
func (l *layout) privateDir() error {
	dir, err := newTempDir(l.p.TempDir)
	if err != nil {
		return err
	}
	l.cfg.Private = dir
	l.tmp = path.Join(dir, "tmp")
	made := []string{dir, l.tmp}
	if l.p.Home == "" {
		l.cfg.Home = path.Join(dir, "home")
		made = append(made, l.cfg.Home)
		// In place: the session's user must be able to walk there.
		if p := l.p.Cache; p != "" && (l.id.uid == os.Geteuid() || reachable(p)) {
			l.cache = p
			l.cfg.Writable = append(l.cfg.Writable, p)
		}
	}
	l.installs()
	for _, d := range made {
		err := os.Mkdir(d, 0o700)
		if errors.Is(err, os.ErrExist) && d == dir {
			err = nil
		}
		if err == nil && os.Geteuid() == 0 {
			err = os.Chown(d, l.id.uid, l.id.gid)
		}
		if err != nil {
			l.undo()
			return errorf("internal", err, "the session's temporary directory cannot be made (%s); check the server's rights", errnoText(err))
		}
	}
	l.cfg.Writable = append(l.cfg.Writable, made[1:]...)
	l.gitFiles(l.tmp)
	files := l.git
	if l.cache != "" {
		files = slices.Concat(files, cacheFiles(l.cfg.Home, l.cache))
	}
	for _, f := range files {
		if err := writePrivate(f, l.id); err != nil {
			l.undo()
			return errorf("internal", err, "the session's configuration of git and pnpm cannot be written (%s); check the server's rights", errnoText(err))
		}
	}
	return nil
}

// writePrivate makes a file of the session's own directory, with the directories
// on the way.
func writePrivate(f file, id identity) error {
	var made []string
	for dir := path.Dir(f.Path); ; dir = path.Dir(dir) {
		if _, err := os.Lstat(dir); err == nil {
			break
		}
		made = append(made, dir)
	}
	slices.Reverse(made)
	for _, dir := range made {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(f.Path, []byte(f.Content), os.FileMode(f.Mode)); err != nil {
		return err
	}
	for _, p := range append(made, f.Path) {
		if os.Geteuid() == 0 {
			if err := os.Chown(p, id.uid, id.gid); err != nil {
				return err
			}
		}
	}
	return nil
}

// undo removes what the server made on the host for this sandbox.
func (l *layout) undo() {
	if l.cfg.Private != "" {
		removeTree(l.cfg.Private)
	}
}

// removeTree removes a directory a command may have taken all permissions from.
func removeTree(dir string) {
	if os.RemoveAll(dir) == nil {
		return
	}
	filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	os.RemoveAll(dir)
}

// end finishes init. With a pid namespace the kernel kills all that is left in
// it; without one, init does: as their subreaper it has every process of the
// session below it.
func (s *initState) end() {
	if !s.cfg.Namespaces {
		// On this thread, which shares the domain of the commands.
		s.killSession()
		// It does not reach the directory's parent.
		s.onPrivilegedThread(func() { removeTree(s.cfg.Private) })
	}
	leave(0)
}
