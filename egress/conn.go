package egress

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// headBuffer is the size of a client's read buffer, and so of the longest line
// of a request's head.
const headBuffer = 16 << 10

// client is an accepted connection.
type client struct {
	net.Conn
	br   *bufio.Reader
	once sync.Once
}

// abort ends the connection with a reset.
func (c *client) abort() { c.once.Do(func() { reset(c.Conn) }) }

// reset closes so that the peer sees a failure, not an end.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // only how the close looks depends on it
	}
	_ = c.Close() // nothing can be done about it
}

// finish ends the connection so that what was written still arrives: closing
// with unread input sends a reset, which overtakes the answer.
func (c *client) finish() {
	if closeWrite(c.Conn) {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.CopyN(io.Discard, c.Conn, 256<<10)
	}
	c.once.Do(func() { _ = c.Conn.Close() })
}

// closeWrite ends the sending side and tells whether the connection can do so.
func closeWrite(c net.Conn) bool {
	h, ok := c.(interface{ CloseWrite() error })
	return ok && h.CloseWrite() == nil
}

// entrance is one way in: what serves its connections, and what those are told that
// are over the limit.
type entrance struct {
	handle func(*client)
	full   string
}

// accept takes a connection in, or turns it away at the limit.
func (p *Proxy) accept(nc net.Conn, e entrance) {
	c := &client{Conn: nc}
	p.mu.Lock()
	closed, full := p.closed, len(p.clients) >= p.o.MaxConns
	if !closed && !full {
		p.clients[c] = struct{}{}
		p.wg.Add(1)
		p.o.Traffic.Opened.Add(1)
		p.o.Traffic.Open.Add(1)
	}
	p.mu.Unlock()
	switch {
	case closed:
		_ = nc.Close()
		return
	case full:
		_ = p.deny(nc.RemoteAddr(), "any host", 0, Decision{
			Reason: fmt.Sprintf("%d connections are open, which is the limit of this session", p.o.MaxConns),
			flag:   "--limit-net-conns", limit: true,
		})
		_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(nc, e.full)
		_ = nc.Close()
		return
	}
	go func() {
		defer p.wg.Done()
		defer func() {
			c.once.Do(func() { _ = nc.Close() })
			p.mu.Lock()
			delete(p.clients, c)
			p.o.Traffic.Open.Add(-1)
			p.mu.Unlock()
		}()
		e.handle(c)
	}()
}

// handle tells the protocols apart: SOCKS5 begins with its version, HTTP with a
// method in capitals. Anything else, SOCKS4 and TLS among it, ends here.
func (p *Proxy) handle(c *client) {
	c.br = bufio.NewReaderSize(c.Conn, headBuffer)
	_ = c.SetReadDeadline(time.Now().Add(p.o.HeaderTimeout))
	first, err := c.br.Peek(1)
	switch {
	case err != nil:
	case first[0] == socksVersion:
		p.serveSOCKS(c)
	case first[0] >= 'A' && first[0] <= 'Z':
		p.serveHTTP(c, nil)
	}
}
