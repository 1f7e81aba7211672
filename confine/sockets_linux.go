package confine

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Listen makes a TCP listener inside the sandbox's network, such as "tcp",
// "127.0.0.1:3128". It is closed when the sandbox ends.
func (s *Sandbox) Listen(network, addr string) (net.Listener, error) {
	ip, port, err := parseLoopback(network, addr)
	if err != nil {
		return nil, err
	}
	return s.listener(listenInside, ip, port)
}

func (s *Sandbox) listener(kind uint8, ip net.IP, port int) (net.Listener, error) {
	f, err := s.listenFile(kind, ip, port)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, errorf("internal", err, "the listener cannot be used; try again")
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
		return nil, errorf("invalid_argument", nil, "%d is not a port; use 1 to 65535", port)
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
		return nil, errorf("not_found", err, "port %d inside the session cannot be reached (%s); start the server there first", port, errnoText(err))
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, errorf("internal", err, "the connection cannot be used; try again")
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
		return nil, errorf("internal", errWire, "the sandbox gave no socket; try again")
	}
	return os.NewFile(uintptr(a.fds[0]), "socket"), nil
}

func (s *Sandbox) socketError(err error, what string) error {
	switch err {
	case errGone:
		return s.gone()
	case unix.EADDRINUSE:
		return errorf("already_exists", err, "the port is in use inside the session; choose another")
	}
	return errorf("internal", err, "the %s cannot be made inside the session (%s); check its network mode", what, errnoText(err))
}

// parseLoopback takes apart what Listen is given.
func parseLoopback(network, addr string) (net.IP, int, error) {
	host, p, err := net.SplitHostPort(addr)
	port, perr := strconv.Atoi(p)
	ip := net.ParseIP(host).To4()
	if err != nil || perr != nil || port < 0 || port > 65535 || ip == nil || (network != "tcp" && network != "tcp4") {
		return nil, 0, errorf("invalid_argument", nil, "no listener inside the session is possible there; use network tcp and an IPv4 address with a port, such as 127.0.0.1:3128")
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
