package confine

import (
	"slices"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// initConfig is everything init is told, as one flat list of things to do. The
// server decides, init obeys: no policy is interpreted on the far side. It
// arrives over the control socket, never in argv or the environment, which
// commands could read in /proc.
type initConfig struct {
	Namespaces bool // false: the landlock level, no mounts at all
	Unconfined bool // level none: commands keep the rights of the server
	Network    sandbox.Network
	UID, GID   int

	Binds []bind // host trees, parents before children
	Links []link // symbolic links of the new root
	Files []file // files made for the session
	Masks []mask // what of the bound trees must not be seen
	// Hide are patterns of further files of Trees that must not be seen, as they
	// come; they are read as package deny does, below Workspace and Trees.
	Hide, Trees []string
	Home        string // private home to make, "" for none

	// GitStage is where changes of git directories are kept, none or one tree. Git
	// are the git directories that exist; those with another name than .git, or outside of the workspace, are in
	// OtherGit as well.
	GitStage      []bind
	Git, OtherGit []string
	// Stage is where the upper layer of a staged workspace is, none or one tree.
	Stage []bind

	Private   string // the session's directory on the host, removed at the end; "" with namespaces
	Workspace string
	Protect   []string // absolute paths, each below one of ProtectIn
	ProtectIn []string // the workspace and the writable grants

	Limits sandbox.Limits
	// Writable are the paths the Landlock domain may change, besides what init
	// makes itself. ReadOnly matters at the landlock level alone.
	Writable, ReadOnly []string
	// TTYMultiplexer is the ptmx commands' terminals come from.
	TTYMultiplexer string
	Seccomp        []unix.SockFilter
	Landlock       bool
}

// baseConfig is what init builds before it is told of a session.
type baseConfig struct {
	HostProc bool // show the host's /proc even where a fresh one is available
	Network  sandbox.Network
	NoVeth   bool // the gate is on the loopback, as where the kernel has no veth
	NoIPv6   bool // the gate takes IPv4 alone, as where the kernel has no IPv6
	NoNames  bool // the loopback gets no address for names
	UID      int
	Tmp, Shm int64 // sizes in bytes

	Dirs  []string // empty directories of the new root
	Binds []bind   // as those of initConfig
	Links []link
	Files []file
}

// bind is one host tree shown at its own path.
type bind struct {
	Path string
	// Source is the tree on the host where it is not Path.
	Source string
	Write  bool
	// Device binds keep device nodes working; all others lose them.
	Device bool
	// Optional ones are left out when they have gone since the server looked.
	Optional bool
	// Tree is the index of a detached tree the server opened, -1 to open Path.
	Tree int
	// Mapped trees are opened by the server, with their owners exchanged; init
	// is not told.
	Mapped bool
	// Dev and Ino, when not both 0, are what Path must still be.
	Dev, Ino uint64
}

type link struct{ Path, Target string }

// cover hides one path of a bound tree: behind an empty thing that can be read,
// or behind one that cannot even be opened.
type mask struct {
	Path   string
	Denied bool
}

func (c *baseConfig) encode() *encoder {
	e := newFrame(opBase)
	e.flag(c.HostProc)
	e.str(string(c.Network))
	e.flag(c.NoVeth)
	e.flag(c.NoIPv6)
	e.flag(c.NoNames)
	e.num(c.UID)
	e.u64(uint64(c.Tmp))
	e.u64(uint64(c.Shm))
	e.strs(c.Dirs)
	e.contents(c.Binds, c.Links, c.Files)
	return e
}

func decodeBase(d *decoder) (*baseConfig, error) {
	c := &baseConfig{HostProc: d.flag(), Network: sandbox.Network(d.str()), NoVeth: d.flag(), NoIPv6: d.flag(), NoNames: d.flag(), UID: d.num(), Tmp: int64(d.u64()), Shm: int64(d.u64()), Dirs: d.strs()}
	c.Binds, c.Links, c.Files = d.contents()
	return c, d.done()
}

// contents are what a part of the new root is made of.
func (e *encoder) contents(binds []bind, links []link, files []file) {
	size := 32 << 10
	for _, f := range files {
		size += len(f.Content)
	}
	e.b = slices.Grow(e.b, size)
	e.u32(uint32(len(binds)))
	for _, b := range binds {
		e.str(b.Path)
		e.str(b.Source)
		e.flag(b.Write)
		e.flag(b.Device)
		e.flag(b.Optional)
		e.num(b.Tree)
		e.u64(b.Dev)
		e.u64(b.Ino)
	}
	e.u32(uint32(len(links)))
	for _, l := range links {
		e.str(l.Path)
		e.str(l.Target)
	}
	e.u32(uint32(len(files)))
	for _, f := range files {
		e.str(f.Path)
		e.str(f.Content)
		e.u32(f.Mode)
	}
}

func (d *decoder) contents() ([]bind, []link, []file) {
	binds := make([]bind, d.count(35))
	for i := range binds {
		binds[i] = bind{Path: d.str(), Source: d.str(), Write: d.flag(), Device: d.flag(), Optional: d.flag(), Tree: d.num(), Dev: d.u64(), Ino: d.u64()}
	}
	links := make([]link, d.count(8))
	for i := range links {
		links[i] = link{d.str(), d.str()}
	}
	files := make([]file, d.count(12))
	for i := range files {
		files[i] = file{d.str(), d.str(), d.u32()}
	}
	return binds, links, files
}

func (c *initConfig) encode() *encoder {
	e := newFrame(opConfig)
	e.flag(c.Namespaces)
	e.flag(c.Unconfined)
	e.str(string(c.Network))
	e.num(c.UID)
	e.num(c.GID)
	e.contents(c.Binds, c.Links, c.Files)
	e.u32(uint32(len(c.Masks)))
	for _, v := range c.Masks {
		e.str(v.Path)
		e.flag(v.Denied)
	}
	e.strs(c.Hide)
	e.strs(c.Trees)
	e.contents(c.GitStage, nil, nil)
	e.strs(c.Git)
	e.strs(c.OtherGit)
	e.contents(c.Stage, nil, nil)
	e.str(c.Home)
	e.str(c.Private)
	e.str(c.Workspace)
	e.strs(c.Protect)
	e.strs(c.ProtectIn)
	e.num(c.Limits.Procs)
	e.u64(uint64(c.Limits.FileSize))
	e.num(c.Limits.OpenFiles)
	e.u64(uint64(c.Limits.Tmp))
	e.u64(uint64(c.Limits.Shm))
	e.strs(c.Writable)
	e.strs(c.ReadOnly)
	e.str(c.TTYMultiplexer)
	e.u32(uint32(len(c.Seccomp)))
	for _, i := range c.Seccomp {
		e.u16(i.Code)
		e.u8(i.Jt)
		e.u8(i.Jf)
		e.u32(i.K)
	}
	e.flag(c.Landlock)
	return e
}

func decodeConfig(d *decoder) (*initConfig, error) {
	c := &initConfig{Namespaces: d.flag(), Unconfined: d.flag(), Network: sandbox.Network(d.str()), UID: d.num(), GID: d.num()}
	c.Binds, c.Links, c.Files = d.contents()
	c.Masks = make([]mask, d.count(5))
	for i := range c.Masks {
		c.Masks[i] = mask{d.str(), d.flag()}
	}
	c.Hide, c.Trees = d.strs(), d.strs()
	c.GitStage, _, _ = d.contents()
	c.Git, c.OtherGit = d.strs(), d.strs()
	c.Stage, _, _ = d.contents()
	c.Home = d.str()
	c.Private = d.str()
	c.Workspace = d.str()
	c.Protect = d.strs()
	c.ProtectIn = d.strs()
	c.Limits = sandbox.Limits{Procs: d.num(), FileSize: int64(d.u64()), OpenFiles: d.num(), Tmp: int64(d.u64()), Shm: int64(d.u64())}
	c.Writable = d.strs()
	c.ReadOnly = d.strs()
	c.TTYMultiplexer = d.str()
	c.Seccomp = make([]unix.SockFilter, d.count(8))
	for i := range c.Seccomp {
		c.Seccomp[i] = unix.SockFilter{Code: d.u16(), Jt: d.u8(), Jf: d.u8(), K: d.u32()}
	}
	c.Landlock = d.flag()
	return c, d.done()
}
