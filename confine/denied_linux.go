package confine

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

const (
	// maxDenied bounds what is told of one command: a hostile one can be refused
	// without end.
	maxDenied = 64
	// maxDenials bounds what the server keeps for one sandbox.
	maxDenials = 1024
)

// denied tells the server of a refusal, before the caller hears of it.
func (s *initState) denied(who *caller, path string, why sandbox.DenialKind) {
	dir, err := who.dir()
	if err != nil {
		return
	}
	id, ok := s.reaper.deniedTo(s.readMark(task{dir: dir}))
	if !ok {
		return
	}
	m := newFrame(evDenied)
	m.u32(id)
	m.str(path)
	m.str(string(why))
	s.send(m)
}

// deniedTo counts a refusal of the command with a mark.
func (r *reaper) deniedTo(mark int) (id uint32, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.commands {
		if c.mark == mark {
			c.denied++
			return c.id, c.denied <= maxDenied
		}
	}
	return 0, false
}

// keepDenial notes a refusal until its process is asked.
func (s *Sandbox) keepDenial(id uint32, d sandbox.Denial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.denials == nil {
		s.denials = map[uint32][]sandbox.Denial{}
	}
	if s.denied++; s.denied <= maxDenials {
		s.denials[id] = append(s.denials[id], d)
	}
}

// Denied returns what has been refused to the command and its children since it
// was last asked, at most 64 for one command. A refusal is known before the
// program hears of it.
func (p *Process) Denied() []sandbox.Denial {
	p.s.mu.Lock()
	d := p.s.denials[p.id]
	delete(p.s.denials, p.id)
	p.s.denied -= len(d)
	p.s.mu.Unlock()
	kept := d[:0]
	for _, v := range d {
		if v.Kind != sandbox.DenialOutside || !ofProcess(v.Subject) && p.s.hostAllows(v.Subject) {
			kept = append(kept, v)
		}
	}
	return kept
}

// ofProcess reports whether name is a process's own file of /proc. Its number is
// another process's on the host, and a JVM tries to write coredump_filter at every
// start without minding.
func ofProcess(name string) bool {
	rest, ok := strings.CutPrefix(name, "/proc/")
	return ok && rest != "" && rest[0] >= '0' && rest[0] <= '9'
}

// DenyConn notes a refusal for the command that holds the client's end of a
// connection or a look-up inside: from is that end, as the proxy's side sees it. It
// reports whether there is one. It is to be called before the client hears of the
// refusal.
func (s *Sandbox) DenyConn(ctx context.Context, from net.Addr, d sandbox.Denial) bool {
	if from == nil {
		return false
	}
	id, err := s.ask(ctx, opOwner, func(e *encoder) {
		e.str(from.Network())
		e.str(from.String())
	})
	if err != nil || id <= 0 {
		return false
	}
	s.keepDenial(uint32(id), d)
	return true
}

// ExplainConns has f say of what kind and in which words connections are refused
// that nothing in the gate takes; they are told of to the command whose process
// tried. f must return soon. It is to be called before the first command.
func (s *Sandbox) ExplainConns(f func(to netip.AddrPort) sandbox.Denial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connDenied = f
}

// explained completes a refused connection, false for one that cannot be.
func (s *Sandbox) explained(d *sandbox.Denial) bool {
	if d.Kind != sandbox.DenialNetwork {
		return true
	}
	s.mu.Lock()
	f := s.connDenied
	s.mu.Unlock()
	to, err := netip.ParseAddrPort(d.Subject)
	if err != nil || f == nil {
		return false
	}
	*d = f(to)
	return d.Text != ""
}

// SeesConns reports whether each connection and socket that the network refuses to
// a command is among what Denied tells.
func (s *Sandbox) SeesConns() bool { return s.seesConns }

// Refuses reports whether commands cannot read, or with write cannot change or
// make, the absolute path although the host would let their user. At the levels
// with mounts what cannot be read is not there.
func (s *Sandbox) Refuses(name string, write bool) bool {
	landlock := s.report.Level == sandbox.LevelLandlock
	if s.report.Level == sandbox.LevelNone || !path.IsAbs(name) || within(name, "/dev", "/proc", "/sys") {
		return false
	}
	if deepest(name, s.writable) >= deepest(name, s.readGrants) && within(name, s.writable...) {
		return false
	}
	switch {
	case write:
		return s.hostAllows(name)
	case !landlock:
		return false
	case within(name, s.readable...):
		// Landlock says EACCES of changes too: where reading would have been
		// allowed, or nothing is there to be read, it was a change.
		if err := unix.Access(name, unix.R_OK); err != nil && err != unix.ENOENT {
			return false
		}
		return s.hostAllows(name)
	}
	return unix.Access(name, unix.R_OK) == nil
}

// deepest is the length of the longest of dirs that name lies in.
func deepest(name string, dirs []string) int {
	n := 0
	for _, d := range dirs {
		if within(name, d) {
			n = max(n, len(d))
		}
	}
	return n
}

// hostAllows says whether the host would let the commands' user make or change
// a path: an error of the host's own must not be put down to the sandbox. What
// cannot be told counts as refused.
func (s *Sandbox) hostAllows(name string) bool {
	var fs unix.Statfs_t
	dir := path.Dir(name)
	if unix.Statfs(dir, &fs) != nil || fs.Flags&unix.ST_RDONLY != 0 {
		return false
	}
	if s.hostUID == 0 {
		return true
	}
	target, mode := name, uint32(unix.W_OK)
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err == unix.ENOENT {
		target, mode = dir, unix.W_OK|unix.X_OK
		err = unix.Stat(dir, &st)
		if err != nil {
			return false
		}
	} else if err != nil {
		return false
	}
	if s.hostUID == os.Geteuid() {
		return unix.Access(target, mode) == nil
	}
	// The server is root and the commands are not: the mode alone says it.
	switch {
	case int(st.Uid) == s.hostUID:
		return st.Mode>>6&mode == mode
	case int(st.Gid) == s.hostGID:
		return st.Mode>>3&mode == mode
	}
	return st.Mode&mode == mode
}
