package serve

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// connLimit bounds open connections. A new one past the limit evicts the oldest idle
// one, preferring one that never carried an admitted request (slowloris). No call is
// dropped for it; a client's connection between two calls is evicted last, as the
// next request may be on its way.
//
// http.ConnState alone cannot tell: a connection is "active" from the first byte
// of a header that may never end.
//
// A connection evicted for never having carried an admitted request gets no further
// service, but is closed only after cutAfter: a client whose connection is closed
// reconnects, and accepting it again costs more than keeping an idle socket. At most
// as many as the limit wait so.
type connLimit struct {
	most int

	mu       sync.Mutex
	conns    map[net.Conn]*connAge
	turn     int64
	cut      list.List // of *limitedConn, by when they were ended
	cutAfter time.Duration
	over     bool
}

const cutAfter = 5 * time.Second

type connAge struct {
	inFlight int
	used     bool // had a request
	idle     bool // between two requests
	admitted bool
	exposed  bool // in flight only to be refused
	since    int64
}

func newConnLimit(most int) *connLimit {
	return &connLimit{most: most, cutAfter: cutAfter, conns: map[net.Conn]*connAge{}}
}

type connKey struct{}

// context is http.Server.ConnContext.
func (l *connLimit) context(ctx context.Context, c net.Conn) context.Context {
	l.mu.Lock()
	var drop net.Conn
	late := false
	if len(l.conns) >= l.most {
		if drop = l.oldest(); drop == nil {
			drop = c
		} else {
			late = !l.conns[drop].admitted
		}
		delete(l.conns, drop)
	}
	if drop != c {
		l.turn++
		l.conns[c] = &connAge{since: l.turn}
	}
	l.mu.Unlock()
	if lc, ok := drop.(*limitedConn); ok && late {
		lc.end()
	} else if drop != nil {
		_ = drop.Close()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// state is http.Server.ConnState.
func (l *connLimit) state(c net.Conn, s http.ConnState) {
	if lc := plain(c); lc != nil && s == http.StateIdle {
		lc.rests()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.conns[c]; a != nil {
		a.used, a.idle = s != http.StateNew, s == http.StateIdle
	}
	if s == http.StateClosed || s == http.StateHijacked {
		delete(l.conns, c)
	}
}

// work keeps the request's connection until the returned function is called.
func (l *connLimit) work(ctx context.Context) (done func()) {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.conns[c]
	if a == nil {
		return func() {}
	}
	a.inFlight++
	a.admitted, a.exposed = true, false
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		a.inFlight--
		l.turn++
		a.since = l.turn
	}
}

// expose makes the request's connection evictable like one that never carried an
// admitted request, since it only waits for a refusal.
func (l *connLimit) expose(ctx context.Context) {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.conns[c]; a != nil {
		a.admitted, a.exposed = false, true
	}
}

func (l *connLimit) oldest() net.Conn {
	var found net.Conn
	var best *connAge
	for c, a := range l.conns {
		if a.inFlight > 0 && !a.exposed {
			continue
		}
		if best == nil || a.admitted == best.admitted && a.since < best.since || best.admitted && !a.admitted {
			found, best = c, a
		}
	}
	return found
}

// listen wraps a listener so that its connections can be closed late.
func (l *connLimit) listen(from net.Listener) net.Listener { return &limitedListener{from, l} }

type limitedListener struct {
	net.Listener
	limit *connLimit
}

func (l *limitedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &limitedConn{Conn: c, limit: l.limit}, nil
}

// limitedConn is a connection that may be ended before it is closed.
type limitedConn struct {
	net.Conn
	limit *connLimit

	mu      sync.Mutex
	ended   bool
	leaving bool // the server stops, see drain
	soon    bool // it is closed unless a request comes
	got     bool // something of the next request was read
	timer   *time.Timer
	place   *list.Element // in limit.cut, by limit.mu
}

// end makes every read and write fail from now on; whoever serves the connection
// then closes it.
func (c *limitedConn) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	// Do not buffer what the client still sends.
	if b, ok := c.Conn.(interface{ SetReadBuffer(int) error }); ok {
		_ = b.SetReadBuffer(1)
	}
	_ = c.Conn.SetDeadline(time.Unix(1, 0))
}

func (c *limitedConn) deadline(set func(time.Time) error, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return net.ErrClosed
	}
	c.soon = false
	return set(t)
}

func (c *limitedConn) SetDeadline(t time.Time) error { return c.deadline(c.Conn.SetDeadline, t) }
func (c *limitedConn) SetReadDeadline(t time.Time) error {
	return c.deadline(c.Conn.SetReadDeadline, t)
}
func (c *limitedConn) SetWriteDeadline(t time.Time) error {
	return c.deadline(c.Conn.SetWriteDeadline, t)
}

// CloseWrite lets net/http end a response without cutting it off.
func (c *limitedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Close closes at once, or, when the connection was ended, later.
func (c *limitedConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended || c.timer != nil {
		return c.Conn.Close()
	}
	l := c.limit
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return c.Conn.Close()
	}
	c.place = l.cut.PushBack(c)
	var out *limitedConn
	if l.cut.Len() > l.most {
		out = l.cut.Remove(l.cut.Front()).(*limitedConn)
	}
	c.timer = time.AfterFunc(l.cutAfter, c.forget)
	l.mu.Unlock()
	if out != nil {
		_ = out.Conn.Close()
	}
	return nil
}

// forget closes connections that were ended.
func (c *limitedConn) forget() {
	c.limit.mu.Lock()
	c.limit.cut.Remove(c.place)
	c.limit.mu.Unlock()
	_ = c.Conn.Close()
}

// close closes all that were ended, for the server's end.
func (l *connLimit) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	for e := l.cut.Front(); e != nil; e = l.cut.Front() {
		_ = l.cut.Remove(e).(*limitedConn).Conn.Close()
	}
}

func (l *connLimit) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}
