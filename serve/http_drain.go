package serve

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A server that stops answers everybody who has connected: the kernel takes connections
// before the server does, and closing the listener resets those that wait. Their client
// has sent a request by then and cannot tell that nothing was done with it. The same
// holds for a request that has arrived on an idle connection and was not read yet.

// drainQuiet is for how long nothing may have come before a listener or an idle
// connection is closed, so that what is on its way on a near network arrives.
const drainQuiet = 50 * time.Millisecond

// waiting is what a listener or a connection must have to be asked for input.
type waiting interface {
	SyscallConn() (syscall.RawConn, error)
}

// arrived says whether there is something to accept or read.
func arrived(c any) bool {
	w, ok := c.(waiting)
	if !ok {
		return false
	}
	raw, err := w.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	_ = raw.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return n > 0
}

// drainingListener is a listener that ends when nobody waits for it. One that another
// process goes on with (systemd's) must not be ended so, and has no SyscallConn.
type drainingListener struct {
	net.Listener
	leaving atomic.Bool
	done    chan struct{}
	once    sync.Once
}

func newDrainingListener(l net.Listener) *drainingListener {
	return &drainingListener{Listener: l, done: make(chan struct{})}
}

func (l *drainingListener) setDeadline(t time.Time) bool {
	d, ok := l.Listener.(interface{ SetDeadline(time.Time) error })
	return ok && d.SetDeadline(t) == nil
}

func (l *drainingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err == nil || !l.leaving.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return c, err
		}
		if !arrived(l.Listener) {
			l.once.Do(func() { close(l.done) })
			return nil, net.ErrClosed
		}
		l.setDeadline(time.Now().Add(drainQuiet))
	}
}

// drain has no new connections begun, and returns when those that were are accepted, or
// after some time. The caller then closes the listener.
func (l *drainingListener) drain(within time.Duration) {
	if _, ok := l.Listener.(waiting); !ok {
		return
	}
	if u, ok := l.Listener.(interface{ SetUnlinkOnClose(bool) }); ok {
		_ = os.Remove(l.Addr().String())
		u.SetUnlinkOnClose(false) // by then another server may have made its own
	} else {
		refuseNew(l.Listener.(waiting))
	}
	l.leaving.Store(true)
	if !l.setDeadline(time.Now().Add(drainQuiet)) {
		return
	}
	select {
	case <-l.done:
	case <-time.After(within):
	}
}

// drain closes connections once they are between two requests, and answers what has
// come on them until then. HTTP/2 has a way of its own to end (GOAWAY).
func (l *connLimit) drain(within time.Duration) {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(drainQuiet / 5) {
		n := 0
		l.mu.Lock()
		for c, a := range l.conns {
			if !a.used {
				continue // TLS may be being agreed on
			}
			lc := plain(c)
			if lc == nil {
				continue
			}
			if n++; a.idle {
				lc.leave()
			}
		}
		l.mu.Unlock()
		if n == 0 {
			return
		}
	}
}

// plain gives the connection below c unless HTTP/2 is spoken on it.
func plain(c net.Conn) *limitedConn {
	if tc, ok := c.(*tls.Conn); ok {
		if tc.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		c = tc.NetConn()
	}
	lc, _ := c.(*limitedConn)
	return lc
}

// leave has the read for the next request fail when nothing comes for a moment.
func (c *limitedConn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The server sets a deadline of its own after it has said that c is idle.
	if !c.ended && !c.got && !c.soon {
		c.leaving = true
		c.closeSoon()
	}
}

// closeSoon is for callers that hold mu.
func (c *limitedConn) closeSoon() {
	c.soon = true
	_ = c.Conn.SetReadDeadline(time.Now().Add(drainQuiet))
}

func (c *limitedConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if c.again(n, err) {
			continue
		}
		return n, err
	}
}

// again says whether a read that found nothing in time is made once more: what came
// meanwhile is answered.
func (c *limitedConn) again(n int, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = c.got || n > 0
	if n > 0 || c.ended || !c.leaving || !errors.Is(err, os.ErrDeadlineExceeded) || !arrived(c.Conn) {
		return false
	}
	c.closeSoon()
	return true
}

// rests notes that the next request is waited for.
func (c *limitedConn) rests() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = false
}
