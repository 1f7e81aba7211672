package confine

import (
	"slices"

	"golang.org/x/sys/unix"
)

// initConfig is everything init is told, as one flat list of things to do. The
// server decides, init obeys: no policy is interpreted on the far side. It
// arrives over the control socket, never in argv or the environment, which
// commands could read in /proc.
type initConfig struct {
	Namespaces bool // false: the landlock level, no mounts at all
	HostProc   bool // show the host's /proc even where a fresh one could be had
	Unconfined bool // level none: commands keep the rights of the server
	Network    Network
	UID, GID   int

	Binds  []bind   // host trees, parents before children
	Dirs   []string // empty directories of the new root
	Links  []link   // symbolic links of the new root
	Files  []file   // files made for the session
	Covers []cover  // what of the bound trees must not be seen
	Home   string   // private home to make, "" for none

	Private   string // the session's directory on the host, removed at the end; "" with namespaces
	Workspace string
	Protect   []string // absolute paths below the workspace

	Limits Limits
	// Writable are the paths the Landlock domain may change, besides what init
	// makes itself. ReadOnly matters at the landlock level alone.
	Writable, ReadOnly []string
	// TTYMultiplexer is the ptmx commands' terminals come from.
	TTYMultiplexer string
	Seccomp        []unix.SockFilter
	Landlock       bool
}

// bind is one host tree shown at its own path.
type bind struct {
	Path  string
	Write bool
	// Device binds keep device nodes working; all others lose them.
	Device bool
	// Optional ones are left out when they have gone since the server looked.
	Optional bool
	// Tree is the index of a detached tree the server opened, -1 to open Path.
	Tree int
	// Dev and Ino, when not both 0, are what Path must still be.
	Dev, Ino uint64
}

type link struct{ Path, Target string }

type file struct {
	Path, Content string
	Mode          uint32
}

// cover hides one path of a bound tree: behind an empty thing that can be read,
// or behind one that cannot even be opened.
type cover struct {
	Path   string
	Denied bool
}

func (c *initConfig) encode() *encoder {
	e := newFrame(opConfig)
	size := 32 << 10
	for _, f := range c.Files {
		size += len(f.Content)
	}
	e.b = slices.Grow(e.b, size)
	e.flag(c.Namespaces)
	e.flag(c.HostProc)
	e.flag(c.Unconfined)
	e.str(string(c.Network))
	e.num(c.UID)
	e.num(c.GID)
	e.u32(uint32(len(c.Binds)))
	for _, b := range c.Binds {
		e.str(b.Path)
		e.flag(b.Write)
		e.flag(b.Device)
		e.flag(b.Optional)
		e.num(b.Tree)
		e.u64(b.Dev)
		e.u64(b.Ino)
	}
	e.strs(c.Dirs)
	e.u32(uint32(len(c.Links)))
	for _, l := range c.Links {
		e.str(l.Path)
		e.str(l.Target)
	}
	e.u32(uint32(len(c.Files)))
	for _, f := range c.Files {
		e.str(f.Path)
		e.str(f.Content)
		e.u32(f.Mode)
	}
	e.u32(uint32(len(c.Covers)))
	for _, v := range c.Covers {
		e.str(v.Path)
		e.flag(v.Denied)
	}
	e.str(c.Home)
	e.str(c.Private)
	e.str(c.Workspace)
	e.strs(c.Protect)
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
	c := &initConfig{Namespaces: d.flag(), HostProc: d.flag(), Unconfined: d.flag(), Network: Network(d.str()), UID: d.num(), GID: d.num()}
	c.Binds = make([]bind, d.count(31))
	for i := range c.Binds {
		c.Binds[i] = bind{d.str(), d.flag(), d.flag(), d.flag(), d.num(), d.u64(), d.u64()}
	}
	c.Dirs = d.strs()
	c.Links = make([]link, d.count(8))
	for i := range c.Links {
		c.Links[i] = link{d.str(), d.str()}
	}
	c.Files = make([]file, d.count(12))
	for i := range c.Files {
		c.Files[i] = file{d.str(), d.str(), d.u32()}
	}
	c.Covers = make([]cover, d.count(5))
	for i := range c.Covers {
		c.Covers[i] = cover{d.str(), d.flag()}
	}
	c.Home = d.str()
	c.Private = d.str()
	c.Workspace = d.str()
	c.Protect = d.strs()
	c.Limits = Limits{Procs: d.num(), FileSize: int64(d.u64()), OpenFiles: d.num(), Tmp: int64(d.u64()), Shm: int64(d.u64())}
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
