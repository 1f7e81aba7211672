package confine

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// A base is what the file systems of all sessions of one user have in common:
// the system's programs, /etc, the devices and the kernel's own file systems.
// It is most of what init has to build and knows nothing of a session, so init
// builds it while the session is planned, and a waiting one has done so before.
type base struct {
	cfg baseConfig
	// copies are the files of /etc that are shown as copies.
	copies []string
	// print names all of this, and what it looked like on the host. Two bases
	// with the same one show the same.
	print string
}

// planBase looks at the host and changes nothing.
func planBase(p *sandbox.Policy, id identity) *base {
	b := &base{}
	c := &b.cfg
	c.HostProc = p.Level == sandbox.LevelNamespacesNoProc
	c.Network = p.Network
	c.NoVeth, c.NoIPv6, c.NoNames = noVeth, noIPv6, noNames
	c.UID = id.uid
	c.Tmp, c.Shm = p.Limits.Tmp, p.Limits.Shm
	c.Dirs = []string{"/dev", "/sys", "/home", "/mnt", "/media", "/srv", "/var/lib", "/var/log", "/var/cache"}
	c.Binds, c.Links = systemTrees()
	names := nameFiles(p.Network)
	for _, f := range names {
		if grantOver(p, f.Path) == "" {
			c.Files = append(c.Files, f)
		}
	}
	if id.uid == 0 {
		b.etcForRoot(names)
	} else {
		c.Binds = append(c.Binds, hostTree("/etc", false, false))
	}
	for _, d := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		c.Binds = append(c.Binds, bind{Path: "/dev/" + d, Device: true, Optional: d != "null", Tree: -1})
	}
	c.Links = append(c.Links,
		link{"/dev/ptmx", "pts/ptmx"}, link{"/dev/fd", "/proc/self/fd"},
		link{"/dev/stdin", "/proc/self/fd/0"}, link{"/dev/stdout", "/proc/self/fd/1"}, link{"/dev/stderr", "/proc/self/fd/2"})
	// A grant that holds parts of the base has to be hung before them.
	for _, g := range grantsOf(p) {
		if real, err := filepath.EvalSymlinks(g.path); err == nil && c.lieBelow(real) {
			c.Binds = append(c.Binds, hostTree(real, g.write, false))
		}
	}
	slices.SortStableFunc(c.Binds, func(a, b bind) int { return strings.Compare(a.Path, b.Path) })
	b.print = c.print(b.copies)
	return b
}

// shown is a tree to read, left out when it goes away.
func shown(p string) bind { return hostTree(p, false, true) }

func hostTree(p string, write, optional bool) bind {
	return bind{Path: p, Write: write, Optional: optional, Tree: -1}
}

// lieBelow says whether something of c lies below dir.
func (c *baseConfig) lieBelow(dir string) bool {
	return within("/dev/pts", dir) ||
		slices.ContainsFunc(c.Binds, func(b bind) bool { return b.Path != dir && within(b.Path, dir) })
}

// holds says whether c hangs a grant of p itself.
func (c *baseConfig) holds(p string, write bool) bool {
	return slices.ContainsFunc(c.Binds, func(b bind) bool { return b.Path == p && b.Write == write && !b.Device && !b.Optional })
}

type grant struct {
	path  string
	write bool
	what  string
}

func grantsOf(p *sandbox.Policy) []grant {
	var gs []grant
	for _, r := range p.Read {
		gs = append(gs, grant{r, false, "read"})
	}
	for _, w := range p.Write {
		gs = append(gs, grant{w, true, "write"})
	}
	return gs
}

// systemTrees shows the distribution's programs. Hosts with a merged /usr have
// links at the top, which are made again.
func systemTrees() (binds []bind, links []link) {
	for _, dir := range systemDirs {
		fi, err := os.Lstat(dir)
		if err != nil {
			continue
		}
		if fi.Mode()&fs.ModeSymlink == 0 {
			binds = append(binds, shown(dir))
		} else if target, err := os.Readlink(dir); err == nil {
			links = append(links, link{dir, target})
		}
	}
	return binds, links
}

// etcSecrets are what of /etc holds keys or passwords. They are unreadable to
// ordinary users anyway, but not to groups, nor to uid 0.
var etcSecrets = []string{
	"shadow", "shadow-", "gshadow", "gshadow-", "sudoers", "sudoers.d", "ssh", "ssl/private",
	"krb5.keytab", "security/opasswd", "NetworkManager/system-connections", "wireguard", "letsencrypt",
	"docker", "ppp", "machine-id", "polkit-1", "credstore", "credstore.encrypted",
}

// etcMade are the files of /etc that are made for each session.
var etcMade = []string{"passwd", "group", "hosts", "hostname", "passwd-", "group-"}

// maxCopy bounds the files of /etc that uid 0 sees.
const maxCopy = 256 << 10

// etcForRoot shows only what everyone may read. Covers are not enough for uid
// 0, to which file modes mean nothing: a program on the host that replaces
// /etc/shadow by rename removes a mount that lies over it. Of made the session has
// its own.
func (b *base) etcForRoot(made []file) {
	b.cfg.Dirs = append(b.cfg.Dirs, "/etc")
	entries, err := os.ReadDir("/etc")
	if err != nil {
		return
	}
	for _, e := range entries {
		name := e.Name()
		if slices.Contains(etcMade, name) || slices.Contains(etcSecrets, name) || replaced(made, e) {
			continue
		}
		p := "/etc/" + name
		if e.Type()&fs.ModeSymlink != 0 {
			if target, err := os.Readlink(p); err == nil {
				b.cfg.Links = append(b.cfg.Links, link{p, target})
			}
			continue
		}
		var st unix.Stat_t
		switch err := unix.Lstat(p, &st); {
		case err != nil || st.Mode&0o004 == 0:
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			b.cfg.Binds = append(b.cfg.Binds, shown(p))
		case copied(&st):
			b.copies = append(b.copies, p)
		}
	}
}

// copied says whether uid 0 sees a file of /etc.
func copied(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o004 != 0 && st.Size <= maxCopy
}

// print says what c is and what its trees and copies are on the host now.
func (c *baseConfig) print(copies []string) string {
	e := c.encode()
	state := func(p string, content bool) {
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			e.str(err.Error())
			return
		}
		e.str(p)
		e.u64(st.Dev)
		e.u64(st.Ino)
		e.u32(st.Mode)
		if content {
			e.u64(uint64(st.Size))
			e.u64(uint64(st.Mtim.Nano()))
			e.u64(uint64(st.Ctim.Nano()))
		}
	}
	for _, b := range c.Binds {
		state(b.Path, false)
	}
	for _, p := range copies {
		state(p, true)
	}
	return string(e.b)
}

// send tells init to build b: the trees the session's identity could not walk to,
// then all the rest.
func (b *base) send(to func(e *encoder, fds ...int) error) error {
	c := b.cfg
	c.Binds = slices.Clone(c.Binds)
	trees, err := passTrees(c.Binds, c.UID, nil)
	defer closeAll(trees)
	if err != nil {
		return err
	}
	for _, p := range b.copies {
		if content, ok := readCopy(p); ok {
			c.Files = append(c.Files, file{p, content, 0o644})
		}
	}
	if err := sendTrees(to, trees); err != nil {
		return err
	}
	return to(c.encode())
}

// readCopy reads a file that everyone may read, and is still such a one.
func readCopy(p string) (string, bool) {
	f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", false
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || !copied(&st) {
		return "", false
	}
	content, err := io.ReadAll(io.LimitReader(f, maxCopy))
	return string(content), err == nil
}

// passTrees opens, in a root server, the trees the session's user could not walk
// to, and has the binds name them. A server without that power leaves it to
// init, which has the same identity as the server. trees are those passed already.
func passTrees(binds []bind, uid int, trees []int) ([]int, error) {
	if os.Geteuid() != 0 || uid == 0 {
		return trees, nil
	}
	for i := range binds {
		b := &binds[i]
		if b.Device || b.Tree >= 0 || reachable(b.source()) {
			continue
		}
		fd, err := b.detach()
		if err != nil {
			if b.Optional {
				continue
			}
			closeAll(trees)
			if err == unix.EPERM {
				return nil, cannotPass(err)
			}
			return nil, errorf("internal", err, "a granted directory cannot be mounted (%s); check the server's rights", errnoText(err))
		}
		b.Tree = len(trees)
		trees = append(trees, fd)
	}
	return trees, nil
}

// cannotPass says that a server which is root may mount nothing, as one in a container
// with the capabilities of Docker.
func cannotPass(err error) error {
	un := &unavailable{step: "mount what the session's user cannot walk to", err: err}
	if status, err := os.ReadFile("/proc/self/status"); err == nil && len(lackingCaps(string(status), []capability{capSysAdmin})) > 0 {
		un.step += ", by a server that is root without CAP_SYS_ADMIN"
		un.remedy = remedyRootCaps
	}
	return un
}

func sendTrees(to func(e *encoder, fds ...int) error, trees []int) error {
	for len(trees) > 0 {
		n := min(len(trees), maxFrameFDs)
		if err := to(newFrame(opMounts), trees[:n]...); err != nil {
			return err
		}
		trees = trees[n:]
	}
	return nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// reachable says whether everyone may walk to p.
func reachable(p string) bool {
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		fi, err := os.Lstat(dir)
		if err != nil || fi.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}

// buildBase is init's part of it. Whatever comes from the host is walked to
// before pivot, from the root init was started in: the new root lies over that
// one's top, which a path from the root never meets, so it covers nothing.
func (s *initState) buildBase() error {
	// Nothing mounted or unmounted on the host from now on shows up here, and
	// nothing done here shows up there.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	c := s.base
	r, err := newRoot(c.Tmp)
	if err != nil {
		return fmt.Errorf("make the root: %w", err)
	}
	s.root = r
	for i, dir := range c.Dirs {
		if err := r.mkdirs(dir, 0o755); err != nil {
			return fmt.Errorf("make directory %d: %w", i, err)
		}
	}
	for _, d := range []struct {
		name string
		mode uint32
	}{{"/tmp", 0o1777}, {"/var/tmp", 0o1777}, {"/run", 0o755}} {
		if err := r.scratchDir(d.name, d.mode); err != nil {
			return fmt.Errorf("make %s: %w", d.name, err)
		}
	}
	if err := s.populate(c.Binds, c.Links, c.Files); err != nil {
		return err
	}
	return s.specialMounts()
}
