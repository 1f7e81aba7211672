package session

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// tunnel is an HTTP proxy that accepts CONNECT to target alone.
type tunnel struct {
	*relay
	target string
}

const maxTunnelConns = 64

func newTunnel(l net.Listener, target string) *tunnel {
	t := &tunnel{relay: newRelay(l, maxTunnelConns), target: target}
	t.run(t.carry)
	return t
}

func (t *tunnel) carry(ctx context.Context, c net.Conn) {
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
	out, err := (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, "tcp", t.target)
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
	t.join(out, c)
}

func sameHostPort(a, b string) bool {
	ah, ap, err1 := net.SplitHostPort(a)
	bh, bp, err2 := net.SplitHostPort(b)
	an, _ := strconv.Atoi(ap)
	bn, _ := strconv.Atoi(bp)
	return err1 == nil && err2 == nil && strings.EqualFold(ah, bh) && an == bn && an > 0
}
