package confine

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// serve is init's main loop. It runs on the restricted thread and forks inline;
// whatever needs rights it hands to an unrestricted thread. Nothing here waits
// for anything a command controls.
func (s *initState) serve(in *frameReader) {
	left := newLeftover()
	for {
		f, err := in.next()
		if err != nil {
			s.end() // the server closed the socket or died
		}
		left.used()
		switch f.op {
		case opSpawn:
			s.spawn(&f)
		case opSignal, opTree, opListen, opSocket, opInput, opFamily, opListening, opOwner, opTmpLeft, opGit:
			// The payload is only valid until the next frame.
			g := frame{op: f.op, fds: f.fds, decoder: decoder{b: append([]byte(nil), f.b...)}}
			s.ops <- func() { s.control(&g) }
			continue
		}
		f.close()
	}
}

// spawnRequest is one opSpawn frame.
type spawnRequest struct {
	id uint32
	sandbox.Command
	// script says that the last descriptor of the frame is the command's 3.
	script bool
}

func (q *spawnRequest) encode() *encoder {
	e := newFrame(opSpawn)
	e.u32(q.id)
	e.flag(q.TTY)
	e.u16(q.Cols)
	e.u16(q.Rows)
	e.u8(uint8(q.Stdin))
	e.flag(q.SplitStderr)
	e.flag(q.script)
	e.str(q.Dir)
	e.strs(q.Argv)
	e.strs(q.Env)
	return e
}

func decodeSpawn(d *decoder) (spawnRequest, error) {
	q := spawnRequest{id: d.u32()}
	q.TTY, q.Cols, q.Rows = d.flag(), d.u16(), d.u16()
	q.Stdin, q.SplitStderr, q.script = sandbox.Stdin(d.u8()), d.flag(), d.flag()
	q.Dir, q.Argv, q.Env = d.str(), d.strs(), d.strs()
	return q, d.done()
}

// refused is the reason a spawn failed; code is the product's.
type refused struct {
	code  string
	errno unix.Errno
}

// spawn forks one command and answers evStarted (with the terminal's master) or
// evRefused.
func (s *initState) spawn(f *frame) {
	q, err := decodeSpawn(&f.decoder)
	if err != nil {
		s.refuse(q.id, refused{"internal", unix.EBADMSG})
		return
	}
	// Programs outside that replace a hidden or protected file take the mount
	// over it away.
	if s.cfg.Namespaces && !s.masksStand() {
		s.onPrivilegedThread(func() { err = s.remountMasks() })
		if err != nil {
			s.refuse(q.id, refused{"internal", errnoOf(err)})
			return
		}
	}
	path, ref := findProgram(&q)
	if ref.errno != 0 {
		s.refuse(q.id, ref)
		return
	}
	// The frame's owner closes its descriptors.
	given := f.fds
	var script []uintptr
	if q.script && len(given) > 0 {
		last := len(given) - 1
		given, script = given[:last], []uintptr{uintptr(given[last])}
	}
	var stdio [3]uintptr
	master := -1
	sys := &syscall.SysProcAttr{Setsid: true}
	if q.TTY {
		var peer int
		open := func() { master, peer, err = s.openTerminal(q.Cols, q.Rows) }
		if s.cfg.Namespaces {
			open()
		} else {
			// The host's /dev/pts is closed to commands, as it has the
			// terminals of the user outside; this thread is one of them.
			s.onPrivilegedThread(open)
		}
		if err != nil {
			s.refuse(q.id, refused{"exec_failed", errnoOf(err)})
			return
		}
		defer unix.Close(master)
		defer unix.Close(peer)
		stdio = [3]uintptr{uintptr(peer), uintptr(peer), uintptr(peer)}
		sys.Setctty, sys.Ctty = true, 0
	} else {
		want := 1
		if q.Stdin == sandbox.StdinPipe {
			want++
		}
		if q.SplitStderr {
			want++
		}
		if len(given) != want || q.script != (len(script) == 1) {
			s.refuse(q.id, refused{"internal", unix.EBADMSG})
			return
		}
		// Stdin first, if any.
		rest := given
		stdio[0] = uintptr(s.null)
		if q.Stdin == sandbox.StdinPipe {
			stdio[0], rest = uintptr(rest[0]), rest[1:]
		}
		stdio[1], stdio[2] = uintptr(rest[0]), uintptr(rest[len(rest)-1])
	}

	r := s.reaper
	r.mu.Lock()
	mark := r.marks.take()
	// Not held over setMark: the thread that may do it also takes it.
	r.mu.Unlock()
	if mark == 0 {
		s.refuse(q.id, refused{"limit_reached", unix.EAGAIN})
		return
	}
	pid, err := 0, s.setMark(mark)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		pid, err = syscall.ForkExec(path, q.Argv, &syscall.ProcAttr{Dir: q.Dir, Env: q.Env, Files: append(stdio[:], script...), Sys: sys})
	}
	if err != nil {
		r.marks.release(mark)
		code := "exec_failed"
		if errnoOf(err) == unix.EAGAIN || errnoOf(err) == unix.ENOMEM {
			code = "limit_reached"
		}
		s.refuse(q.id, refused{code, errnoOf(err)})
		return
	}
	c := &command{id: q.id, pid: pid, mark: mark, terminal: master >= 0}
	if q.Stdin == sandbox.StdinPipe {
		c.pipeDev, c.pipeIno = fileIdentity(int(stdio[0]))
	}
	r.started(c)
	m := newFrame(evStarted)
	m.u32(q.id)
	m.num(pid)
	if master >= 0 {
		s.send(m, master)
	} else {
		s.send(m)
	}
}

func fileIdentity(fd int) (dev, ino uint64) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0, 0
	}
	return uint64(st.Dev), st.Ino
}

func (s *initState) refuse(id uint32, r refused) {
	m := newFrame(evRefused)
	m.u32(id)
	m.str(r.code)
	m.u32(uint32(r.errno))
	s.send(m)
}

// findProgram resolves argv[0] as execvp(3) does, with the command's own PATH
// and from inside the sandbox, and checks the working directory first, so that
// an error of the fork itself is about the program.
func findProgram(q *spawnRequest) (string, refused) {
	var st unix.Stat_t
	if err := unix.Stat(q.Dir, &st); err != nil {
		switch err {
		case unix.ENOENT:
			return "", refused{"not_found", unix.ENOENT}
		case unix.ENOTDIR:
			return "", refused{"not_a_directory", unix.ENOTDIR}
		}
		return "", refused{"permission_denied", errnoOf(err)}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", refused{"not_a_directory", unix.ENOTDIR}
	}
	if err := unix.Access(q.Dir, unix.X_OK); err != nil {
		return "", refused{"permission_denied", errnoOf(err)}
	}
	name := q.Argv[0]
	if strings.Contains(name, "/") {
		return name, refused{}
	}
	search := ""
	for _, kv := range q.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = v
		}
	}
	denied := unix.ENOENT
	for dir := range strings.SplitSeq(search, ":") {
		// A relative entry would run what lies in the working directory under
		// the name of a system program.
		if !strings.HasPrefix(dir, "/") {
			continue
		}
		p := dir + "/" + name
		if unix.Stat(p, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if err := unix.Access(p, unix.X_OK); err != nil {
			denied = unix.EACCES
			continue
		}
		return p, refused{}
	}
	return "", refused{"exec_failed", denied}
}

// openTerminal makes a terminal of the sandbox's own devpts.
func (s *initState) openTerminal(cols, rows uint16) (master, peer int, err error) {
	master, err = unix.Open(s.cfg.TTYMultiplexer, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, -1, err
	}
	fail := func(err error) (int, int, error) {
		unix.Close(master)
		return -1, -1, err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return fail(err)
	}
	// By descriptor, so no name under /dev/pts has to be right.
	p, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		return fail(e)
	}
	peer = int(p)
	// A new terminal is 0x0, which programs take for "no terminal".
	if err := unix.IoctlSetWinsize(peer, unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}); err != nil {
		unix.Close(peer)
		return fail(err)
	}
	if t, err := unix.IoctlGetTermios(peer, unix.TCGETS); err == nil {
		t.Iflag |= unix.IUTF8 // erase whole characters
		unix.IoctlSetTermios(peer, unix.TCSETS, t)
	}
	return master, peer, nil
}
