package session

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tunnel is an HTTP proxy that knows one verb and one place: CONNECT to target.
type tunnel struct {
	l      net.Listener
	target string
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

func newTunnel(l net.Listener, target string) *tunnel {
	t := &tunnel{l: l, target: target, conns: map[net.Conn]bool{}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.wg.Go(t.accept)
	return t
}

func (t *tunnel) accept() {
	for {
		c, err := t.l.Accept()
		if err != nil {
			return
		}
		if !t.hold(c) {
			_ = c.Close()
			continue
		}
		t.wg.Go(func() { t.serve(c) })
	}
}

func (t *tunnel) hold(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.conns) >= 64 {
		return false
	}
	t.conns[c] = true
	return true
}

func (t *tunnel) release(c net.Conn) {
	t.mu.Lock()
	delete(t.conns, c)
	t.mu.Unlock()
	_ = c.Close()
}

func (t *tunnel) serve(c net.Conn) {
	defer t.release(c)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(io.LimitReader(c, 16<<10))
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	if req.Method != http.MethodConnect || !sameHostPort(req.RequestURI, t.target) {
		_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	out, err := (&net.Dialer{Timeout: 30 * time.Second}).DialContext(t.ctx, "tcp", t.target)
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	if !t.hold(out) {
		_ = out.Close()
		return
	}
	defer t.release(out)
	_ = c.SetReadDeadline(time.Time{})
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	// A client may have sent its hello along with the request.
	early := make([]byte, in.Buffered())
	_, _ = io.ReadFull(in, early)
	if _, err := out.Write(early); err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { pass(out, c) })
	pass(c, out)
	wg.Wait()
}

func sameHostPort(a, b string) bool {
	ah, ap, err1 := net.SplitHostPort(a)
	bh, bp, err2 := net.SplitHostPort(b)
	an, _ := strconv.Atoi(ap)
	bn, _ := strconv.Atoi(bp)
	return err1 == nil && err2 == nil && strings.EqualFold(ah, bh) && an == bn && an > 0
}

func (t *tunnel) close() {
	t.cancel()
	_ = t.l.Close()
	t.mu.Lock()
	t.closed = true
	for c := range t.conns {
		_ = c.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
}
