package confine

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mcp-sandbox/hostpath"
	"mcp-sandbox/sandbox"
)

// layout turns a Policy into what init is to do. It looks at the host and
// changes nothing.
type layout struct {
	p    *sandbox.Policy
	id   identity
	base *base // nil at the levels without mounts
	cfg  initConfig

	git      []file // the session's git configuration and ignore file
	gitEnv   []string
	trees    []int          // detached trees to pass to init, by index
	views    map[string]int // the file tools' trees, where owners are exchanged
	warnings []string
	path     string // PATH inside
	toolEnv  []string
	bound    []string // toolchains that are mounted
	tmp      string   // TMPDIR inside
	cache    string   // where caches that stay are inside, "" without
}

func (l *layout) close() {
	closeAll(l.trees)
	l.trees = nil
	for _, tree := range l.views {
		unix.Close(tree)
	}
	l.views = nil
}

func (l *layout) warn(format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf(format, args...))
}

// newLayout plans what a session at the namespaces level has over its base.
func newLayout(p *sandbox.Policy, id identity, b *base) (*layout, error) {
	l := &layout{p: p, id: id, base: b, tmp: "/tmp"}
	c := &l.cfg
	c.Namespaces = true
	c.Network = p.Network
	c.UID, c.GID = id.uid, id.gid
	c.Limits = p.Limits
	c.Workspace = p.Workspace
	c.TTYMultiplexer = "/dev/pts/ptmx"
	c.Writable = []string{"/tmp", "/var/tmp", "/run", "/dev/shm"}
	if !p.ReadOnly {
		c.Writable = append(c.Writable, p.Workspace)
	}
	if p.Home == "" {
		// A private home at the place of something granted would be covered by
		// it, and no longer private.
		for _, granted := range slices.Concat([]string{p.Workspace}, p.Read, p.Write) {
			if within(id.home, granted) {
				id.home = "/run/home"
			}
		}
		l.id, c.Home = id, id.home
		c.Writable = append(c.Writable, id.home)
		if p.Cache != "" {
			l.cache = path.Join(id.home, ".cache")
			c.Files = append(c.Files, cacheFiles(id.home, l.cache)...)
			c.Binds = append(c.Binds, bind{Path: l.cache, Source: p.Cache, Write: true, Tree: -1, Mapped: id.owner.needed()})
		}
	}
	l.etc()
	l.gitFiles("/run")
	l.toolchains()
	l.installs()
	for _, name := range slices.Concat([]string{p.WorkspaceName}, p.Read, p.Write) {
		l.linksTo(name)
	}
	if p.WorkspaceAlias != "" {
		c.Links = append(c.Links, link{p.WorkspaceAlias, p.Workspace})
	}
	if err := l.grants(); err != nil {
		l.close()
		return nil, err
	}
	if err := l.hide(); err != nil {
		l.close()
		return nil, err
	}
	if err := l.stageGit(); err != nil {
		l.close()
		return nil, err
	}
	if err := l.stageWorkspace(); err != nil {
		l.close()
		return nil, err
	}
	l.protect()
	if err := l.restrictions(); err != nil {
		l.close()
		return nil, err
	}
	slices.SortStableFunc(c.Binds, func(a, b bind) int { return strings.Compare(a.Path, b.Path) })
	err := l.mapTrees()
	if err == nil {
		l.trees, err = passTrees(c.Binds, id.uid, l.trees)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	for _, stage := range [][]bind{c.GitStage, c.Stage} {
		if l.trees, err = passTrees(stage, id.uid, l.trees); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// restrictions prepares what the spawner thread will carry.
func (l *layout) restrictions() error {
	var err error
	l.cfg.Landlock = landlockABI() > 0
	l.cfg.Seccomp, err = seccompProgram(l.seccomp())
	if err != nil {
		return &unavailable{step: "build the system call filter", err: err}
	}
	return nil
}

func (l *layout) seccomp() seccompOptions {
	return seccompOptions{Network: l.p.Network, LandlockOnly: !l.cfg.Namespaces, ProtectPid1: l.cfg.Namespaces,
		Supervised:    l.cfg.Namespaces && (len(l.cfg.Protect) > 0 || l.p.GitStage != ""),
		SocketsByInit: l.cfg.Namespaces && l.p.Network == sandbox.NetworkNone,
		OneUser:       l.cfg.Namespaces, UID: l.id.uid, GID: l.id.gid}
}

func (l *layout) bind(p string, write, optional bool) {
	l.cfg.Binds = append(l.cfg.Binds, hostTree(p, write, optional))
}

// etc takes the secrets out of the base's /etc, and gives it accounts and names
// that are true inside. These are the session's and not the base's: a grant of a
// part of /etc would lie over them.
func (l *layout) etc() {
	for _, s := range etcSecrets {
		if l.id.uid != 0 || strings.Contains(s, "/") {
			l.cfg.Masks = append(l.cfg.Masks, mask{"/etc/" + s, true})
		}
	}
	home := l.id.home
	if l.p.Home != "" {
		home = l.p.Home
	}
	l.cfg.Files = append(l.cfg.Files,
		file{"/etc/passwd", l.id.passwd(home), 0o644},
		file{"/etc/group", l.id.groups(), 0o644},
		file{"/etc/hosts", hostNames(hasIPv6()), 0o644},
		file{"/etc/hostname", "sandbox\n", 0o644},
	)
	l.cfg.Files = append(l.cfg.Files, l.nameFilesOver()...)
}

// hostNames leaves ::1 out where the kernel has no IPv6: a program that tries each
// address of localhost reports the failure of the last.
func hostNames(six bool) string {
	names := "127.0.0.1\tlocalhost sandbox\n"
	if six {
		names += "::1\tlocalhost ip6-localhost ip6-loopback\n"
	}
	return names
}

// hasIPv6 is false where it was left out of the kernel, or turned off by ipv6.disable=1.
func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err != unix.EAFNOSUPPORT
}

// gitFiles adds the session's git configuration, to dir where the home is not its
// own, and what else settingFiles names.
func (l *layout) gitFiles(dir string) {
	p := *l.p
	if l.cfg.Namespaces && l.id.owner.needed() {
		// The index has the owner of each file, who is another inside: where git is used
		// on both sides, each would read all files again after the other.
		p.GitConfig += "[core]\n\tcheckStat = minimal\n"
	}
	l.git, l.gitEnv = settingFiles(&p, l.cfg.Home, dir)
	if !l.cfg.Namespaces {
		return
	}
	for _, f := range l.git {
		// The user has granted this one to be seen.
		if !within(f.Path, slices.Concat(l.p.Read, l.p.Write)...) {
			l.cfg.Files = append(l.cfg.Files, f)
		}
	}
}

// homes are the home directories of the session's identity and of the server's user.
func (l *layout) homes() (homes []string) {
	user, _ := os.UserHomeDir()
	for _, home := range []string{l.id.hostHome, user} {
		if home != "" && !slices.Contains(homes, home) {
			homes = append(homes, home)
		}
	}
	return homes
}

// toolchains shows what the server's PATH needs, each at its own path, with the
// links on the way there, and decides the PATH inside.
func (l *layout) toolchains() {
	homes := l.homes()
	var planted []string
	dirs := toolchainDirs(viewOf(l.p, func(dir string) {
		if !slices.Contains(planted, dir) {
			planted = append(planted, dir)
		}
	}), l.p.Path, homes)
	if len(planted) > 0 {
		l.warn("links in %d PATH directories that commands can write were not followed; grant what the programs there need with --read", len(planted))
	}
	var shown, bound []string
	for _, d := range dirs {
		// Our own directories and the workspace have their own rules.
		if within(l.p.Workspace, d) || slices.ContainsFunc(l.p.StateDirs, func(s string) bool { return within(d, s) }) {
			continue
		}
		if within(d, l.p.Workspace) {
			shown = append(shown, d)
			continue
		}
		l.bind(d, false, true)
		shown, bound = append(shown, d), append(bound, d)
		for _, s := range secretPaths([]string{d}, l.p.Workspace) {
			if _, err := os.Lstat(s); err == nil {
				l.cfg.Masks = append(l.cfg.Masks, mask{s, false})
			}
		}
	}
	l.toolEnv = toolchainEnviron(osView{}, homes, shown)
	var search []string
	for dir := range strings.SplitSeq(l.p.Path, ":") {
		if !strings.HasPrefix(dir, "/") {
			continue
		}
		dir = path.Clean(dir)
		real, err := filepath.EvalSymlinks(dir)
		if err != nil || slices.Contains(search, dir) || !within(real, append(shown, systemDirs...)...) {
			continue
		}
		if real != dir {
			l.linksTo(dir)
		}
		search = append(search, dir)
	}
	for _, dir := range []string{"/usr/local/bin", "/usr/bin", "/bin"} {
		if _, err := os.Stat(dir); err == nil && !slices.Contains(search, dir) {
			search = append(search, dir)
		}
	}
	l.path, l.bound = strings.Join(search, ":"), bound
}

// installs has programs that commands install found. It needs the home.
func (l *layout) installs() {
	in := installsIn(cmp.Or(l.p.Home, l.cfg.Home), l.bound)
	l.toolEnv = append(l.toolEnv, in.env...)
	l.cfg.Files = append(l.cfg.Files, in.files...)
	l.path = in.searched(l.path)
}

// linksTo makes the symbolic links that lead to p, each as the host has it.
func (l *layout) linksTo(p string) {
	done := "/"
	rest := strings.Split(strings.Trim(p, "/"), "/")
	for range 64 {
		if len(rest) == 0 {
			return
		}
		next := path.Join(done, rest[0])
		rest = rest[1:]
		target, err := os.Readlink(next)
		if err != nil {
			done = next
			continue
		}
		if !slices.Contains(l.cfg.Links, link{next, target}) {
			l.cfg.Links = append(l.cfg.Links, link{next, target})
		}
		if !path.IsAbs(target) {
			target = path.Join(done, target)
		}
		done, rest = "/", append(strings.Split(strings.Trim(target, "/"), "/"), rest...)
	}
}

// grants adds the workspace and the extra paths.
func (l *layout) grants() error {
	var st syscall.Stat_t
	if l.p.WorkspaceFile != nil {
		held, err := workspaceStat(l.p)
		if err != nil {
			return err
		}
		st = *held
	} else if err := syscall.Lstat(l.p.Workspace, &st); err != nil {
		return errorf("not_found", err, "the workspace cannot be opened (%s); check that it exists", errnoText(err))
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return errorf("not_a_directory", nil, "the workspace is not a directory without links; give its resolved path")
	}
	l.cfg.Binds = append(l.cfg.Binds, bind{Path: l.p.Workspace, Write: !l.p.ReadOnly, Tree: -1, Mapped: l.id.owner.needed(), Dev: uint64(st.Dev), Ino: st.Ino})
	writable := viewOf(l.p, nil).writable
	for _, g := range grantsOf(l.p) {
		real, err := hostpath.Resolve(g.path, writable)
		var planted *hostpath.PlantedError
		if errors.As(err, &planted) {
			return errorf("invalid_argument", err, "a %s grant runs through a symbolic link that lies where commands can write; name the place it should lead to", g.what)
		}
		if err != nil {
			return errorf("invalid_argument", err, "a %s grant cannot be opened (%s); remove it or make the path", g.what, errnoText(err))
		}
		if real == "/" {
			return errorf("invalid_argument", nil, "a %s grant resolves to the whole file system; grant a directory in it", g.what)
		}
		if l.base != nil && within(real, "/proc") {
			return errorf("invalid_argument", nil, "a %s grant lies in /proc, which shows the session's own processes; remove it", g.what)
		}
		if !usable(real, l.id, g.write) {
			l.warn("the %s grant %q is of no use: its owner and mode do not let the session's user in", g.what, g.path)
		}
		// A grant that repeats a read-only part of what is shown, such as one
		// below /usr, is harmless.
		if l.base == nil || !l.base.cfg.holds(real, g.write) {
			l.bind(real, g.write, false)
			l.cfg.Binds[len(l.cfg.Binds)-1].Mapped = l.id.owner.needed()
		}
		if real != g.path {
			l.linksTo(path.Clean(g.path))
		}
		if g.write {
			l.cfg.Writable = append(l.cfg.Writable, real)
		}
	}
	if l.p.Home != "" && !within(l.p.Home, append([]string{l.p.Workspace}, l.p.Write...)...) {
		return errorf("invalid_argument", nil, "the home directory is neither in the workspace nor in a write grant; grant it or leave it private")
	}
	return nil
}

// stageGit has git directories of the workspace staged, if the session wants that.
// One that is a link or a file leads elsewhere: what is run there is protected by
// its names, unless the place is among GitDirs.
func (l *layout) stageGit() error {
	if l.p.GitStage == "" {
		return nil
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(l.p.GitStage, l.id.uid, l.id.gid); err != nil {
			return errorf("internal", err, "the stage of git directories cannot be given to the session's user (%s); check the server's rights", errnoText(err))
		}
	}
	l.cfg.GitStage = []bind{hostTree(l.p.GitStage, true, false)}
	if l.stagesRoot() {
		if fi, err := os.Lstat(path.Join(l.p.Workspace, gitName)); err == nil && fi.IsDir() {
			l.cfg.Git = []string{path.Join(l.p.Workspace, gitName)}
		}
	}
	if l.cfg.Namespaces {
		l.cfg.OtherGit = l.p.GitDirs
		l.cfg.Git = append(l.cfg.Git, l.p.GitDirs...)
	}
	return nil
}

// stagesRoot says whether the name .git of the workspace is a git directory or
// may become one.
func (l *layout) stagesRoot() bool {
	fi, err := os.Lstat(path.Join(l.p.Workspace, gitName))
	return l.p.GitStage != "" && l.cfg.Namespaces && (errors.Is(err, os.ErrNotExist) || err == nil && (fi.IsDir() || len(l.p.GitDirs) > 0))
}

// protect lists the protected paths of the workspace and of every writable
// grant.
func (l *layout) protect() {
	c := &l.cfg
	if len(l.p.Protect) == 0 {
		return
	}
	c.ProtectIn = []string{l.p.Workspace}
	for _, b := range c.Binds {
		if b.Write && !slices.Contains(c.ProtectIn, b.Path) {
			c.ProtectIn = append(c.ProtectIn, b.Path)
		}
	}
	for _, t := range c.ProtectIn {
		for _, rel := range l.p.Protect {
			// What is written there goes to the stage.
			if t == l.p.Workspace && l.p.Stage != "" && !slices.Contains(l.p.StageProtect, rel) {
				continue
			}
			// And a .git file is kept by the supervisor.
			if t == l.p.Workspace && within(path.Join(t, rel), l.cfg.OtherGit...) {
				continue
			}
			if t == l.p.Workspace && rel == "HEAD" && within(path.Join(t, "objects"), l.cfg.OtherGit...) {
				continue // of a bare repository, where it is data
			}
			if t == l.p.Workspace && l.stagesRoot() && (strings.HasPrefix(rel, gitName+"/") || path.Base(rel) == gitName) {
				continue
			}
			c.Protect = append(c.Protect, path.Join(t, rel))
		}
	}
}

// hide covers what must never be seen although it lies in a tree that is shown.
func (l *layout) hide() error {
	list, err := denyList(l.p)
	if err != nil {
		return err
	}
	if !list.Empty() {
		l.cfg.Hide = list.Patterns()
	}
	if err := l.hideLinked(list); err != nil {
		return err
	}
	for _, g := range grantsOf(l.p) {
		if real, err := filepath.EvalSymlinks(g.path); err == nil && !slices.Contains(l.cfg.Trees, real) {
			l.cfg.Trees = append(l.cfg.Trees, real)
		}
	}
	for _, p := range slices.Concat(l.p.StateDirs, list.Paths()) {
		p = path.Clean(p)
		if within(l.p.Workspace, p) {
			// Owned workspaces lie in the server's own directory. Nothing else of
			// it is there, unless a grant shows it.
			for _, g := range slices.Concat(l.p.Read, l.p.Write) {
				if within(p, g) || p == "/" {
					return errorf("invalid_argument", nil, "a grant shows a directory that must be hidden and that holds the workspace; grant less or move the workspace")
				}
			}
			continue
		}
		l.cfg.Masks = append(l.cfg.Masks, mask{p, true})
		if real, err := filepath.EvalSymlinks(p); err == nil && real != p {
			l.cfg.Masks = append(l.cfg.Masks, mask{real, true})
		}
	}
	return nil
}
