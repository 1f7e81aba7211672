package confine

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// Grant opens a further host path to commands started from now on, at the same
// path inside. Commands already running keep what they had: their Landlock
// domain cannot be widened. Codes: not_found, invalid_argument,
// confinement_unavailable at levels without namespaces.
func (s *Sandbox) Grant(p string, write bool) error {
	if !filepath.IsAbs(p) {
		return errorf("invalid_argument", nil, "the path to grant is not absolute, give its whole path")
	}
	if l := s.report.Level; l != sandbox.LevelNamespaces && l != sandbox.LevelNamespacesNoProc {
		return errorf("confinement_unavailable", nil, "the level %s cannot grant paths while it runs, grant them at the start", l)
	}
	real, err := filepath.EvalSymlinks(p)
	if err != nil {
		return errorf("not_found", err, "the path to grant cannot be opened (%s), check that it exists", errnoText(err))
	}
	if real == "/" {
		return errorf("invalid_argument", nil, "the whole file system cannot be granted, name a directory in it")
	}
	var st unix.Stat_t
	if err := unix.Lstat(real, &st); err != nil {
		return errorf("not_found", err, "the path to grant cannot be opened (%s), check that it exists", errnoText(err))
	}
	_, err = s.ask(context.Background(), opGrant, func(e *encoder) {
		e.str(real)
		e.flag(write)
		e.u64(st.Dev)
		e.u64(st.Ino)
	})
	switch err {
	case nil:
		return nil
	case errGone:
		return s.gone()
	case unix.EACCES, unix.EPERM:
		return errorf("permission_denied", err, "the path cannot be granted (%s), the session's user cannot reach it", errnoText(err))
	case unix.EROFS:
		return errorf("invalid_argument", err, "the path lies in a directory that is shown already and has no such entry, grant that directory at the start")
	}
	return errorf("internal", err, "the path cannot be granted (%s), try again", errnoText(err))
}

// Listen makes a TCP listener inside the sandbox's network, such as "tcp",
// "127.0.0.1:3128". It is closed when the sandbox ends.
func (s *Sandbox) Listen(network, addr string) (net.Listener, error) {
	ip, port, err := parseLoopback(network, addr)
	if err != nil {
		return nil, err
	}
	a, err := s.askFor(context.Background(), opListen, func(e *encoder) {
		e.str(string(ip))
		e.u16(uint16(port))
	})
	if err != nil {
		return nil, s.socketError(err, "listener")
	}
	f, err := socketFile(a)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, errorf("internal", err, "the listener cannot be used, try again")
	}
	h := &heldListener{Listener: l, s: s}
	if !s.hold(h) {
		l.Close()
		return nil, s.gone()
	}
	return h, nil
}

// heldListener is forgotten by its sandbox when it is closed.
type heldListener struct {
	net.Listener
	s *Sandbox
}

func (h *heldListener) Close() error {
	h.s.release(h)
	return h.Listener.Close()
}

// Dial connects to 127.0.0.1:port inside the sandbox. The connection is made by
// the server on a socket of the sandbox's network, so a full backlog there holds
// up this call alone.
func (s *Sandbox) Dial(ctx context.Context, port int) (net.Conn, error) {
	if port < 1 || port > 65535 {
		return nil, errorf("invalid_argument", nil, "%d is not a port, use 1 to 65535", port)
	}
	a, err := s.askFor(ctx, opSocket, func(*encoder) {})
	if err != nil {
		return nil, s.socketError(err, "connection")
	}
	f, err := socketFile(a)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := connect(ctx, f, port); err != nil {
		if ctx.Err() != nil {
			return nil, errorf("cancelled", ctx.Err(), "the call was cancelled while it connected")
		}
		return nil, errorf("not_found", err, "port %d inside the session cannot be reached (%s), start the server there first", port, errnoText(err))
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, errorf("internal", err, "the connection cannot be used, try again")
	}
	h := &heldConn{Conn: c, s: s}
	if !s.hold(h) {
		c.Close()
		return nil, s.gone()
	}
	return h, nil
}

type heldConn struct {
	net.Conn
	s *Sandbox
}

func (h *heldConn) Close() error {
	h.s.release(h)
	return h.Conn.Close()
}

// CloseWrite ends the one direction, which the embedded interface would hide.
func (h *heldConn) CloseWrite() error { return h.Conn.(*net.TCPConn).CloseWrite() }

// aLongTimeAgo is a deadline that ends a wait at once.
var aLongTimeAgo = time.Unix(1, 0)

// connect runs a nonblocking connect to its end.
func connect(ctx context.Context, f *os.File, port int) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { f.SetWriteDeadline(aLongTimeAgo) })
	defer stop()
	started, result := false, error(nil)
	err = rc.Write(func(fd uintptr) bool {
		if !started {
			started = true
			result = unix.Connect(int(fd), &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
			return result != unix.EINPROGRESS
		}
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			result = err
		case n != 0:
			result = unix.Errno(n)
		default:
			// Woken without an error: done only when there is a peer.
			if _, err := unix.Getpeername(int(fd)); err != nil {
				return false
			}
			result = nil
		}
		return true
	})
	if err != nil {
		return err
	}
	return result
}

func socketFile(a answer) (*os.File, error) {
	if len(a.fds) != 1 {
		for _, fd := range a.fds {
			unix.Close(fd)
		}
		return nil, errorf("internal", errWire, "the sandbox gave no socket, try again")
	}
	return os.NewFile(uintptr(a.fds[0]), "socket"), nil
}

func (s *Sandbox) socketError(err error, what string) error {
	switch err {
	case errGone:
		return s.gone()
	case unix.EADDRINUSE:
		return errorf("already_exists", err, "the port is in use inside the session, choose another")
	}
	return errorf("internal", err, "the %s cannot be made inside the session (%s), check its network mode", what, errnoText(err))
}

// parseLoopback takes apart what Listen is given.
func parseLoopback(network, addr string) (net.IP, int, error) {
	host, p, err := net.SplitHostPort(addr)
	port, perr := strconv.Atoi(p)
	ip := net.ParseIP(host).To4()
	if err != nil || perr != nil || port < 0 || port > 65535 || ip == nil || (network != "tcp" && network != "tcp4") {
		return nil, 0, errorf("invalid_argument", nil, "a listener inside needs network tcp and an IPv4 address with a port, such as 127.0.0.1:3128")
	}
	return ip, port, nil
}

// hold notes what must be closed with the sandbox.
func (s *Sandbox) hold(c interface{ Close() error }) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.held[c] = true
	return true
}

func (s *Sandbox) release(c interface{ Close() error }) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, c)
}

// grant is init's side of Grant. Commands inherit the spawner's Landlock domain,
// which cannot widen, so after the mount a fresh thread with the wider domain
// takes over as the spawner. It says whether that happened.
func (s *initState) grant(f *frame, in *frameReader) bool {
	req, p, write, dev, ino := f.u32(), f.str(), f.flag(), f.u64(), f.u64()
	if err := f.done(); err != nil {
		s.answer(req, unix.EBADMSG, 0)
		return false
	}
	var err error
	s.onPrivilegedThread(func() { err = s.mountGrant(bind{Path: p, Write: write, Tree: -1, Dev: dev, Ino: ino}) })
	if err != nil || !write {
		s.answer(req, err, 0)
		return false
	}
	s.cfg.Writable = append(s.cfg.Writable, p)
	took := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its restrictions
		old := s.mark
		err := s.restrictAgain()
		if err == nil {
			unix.Close(old)
		} else {
			s.mark = old
		}
		took <- err
		if err == nil {
			s.answer(req, nil, 0)
			s.serve(in)
		}
	}()
	if err := <-took; err != nil {
		s.answer(req, err, 0)
		return false
	}
	return true
}

// restrictAgain makes the calling thread a spawner.
func (s *initState) restrictAgain() error {
	for _, step := range []func() error{s.openMark, s.dropPrivileges, s.enterLandlock, s.installSeccomp} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// mountGrant takes a tree out of the host's root, kept from before the new one,
// and hangs it at its path.
func (s *initState) mountGrant(b bind) error {
	if s.hostRoot < 0 {
		return unix.EPERM
	}
	fd, err := openat2(s.hostRoot, b.Path[1:], unix.O_PATH, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS|unix.RESOLVE_BENEATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Dev != b.Dev || st.Ino != b.Ino {
		return unix.ESTALE
	}
	tree, err := unix.OpenTree(fd, "", cloneTree)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := setAttr(tree, b.attr(), true); err != nil {
		return err
	}
	if err := s.root.attach(&b, tree); err != nil {
		return err
	}
	return s.remountMasks()
}

// listen makes a listening socket in the sandbox's network.
func (s *initState) listen(req uint32, f *frame) {
	ip, port := f.str(), f.u16()
	if f.done() != nil || len(ip) != 4 {
		s.answer(req, unix.EBADMSG, 0)
		return
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		s.answer(req, err, 0)
		return
	}
	defer unix.Close(fd)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte([]byte(ip))}); err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		s.answer(req, err, 0)
		return
	}
	s.answer(req, nil, 0, fd)
}

// socket makes an unconnected socket. Init does not connect it: a backlog that a
// command keeps full would stall it.
func (s *initState) socket(req uint32) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		s.answer(req, err, 0)
		return
	}
	defer unix.Close(fd)
	s.answer(req, nil, 0, fd)
}
