package egress

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"mcp-sandbox/sandbox"
)

// keepAlive is how long a client may take to begin its next request.
const keepAlive = 60 * time.Second

// serveHTTP answers requests one after the other. fixed is the endpoint of a
// tunnel to port 80, where requests have no full URL; nil is the proxy itself.
func (p *Proxy) serveHTTP(c *client, fixed *endpoint) {
	for next := false; ; next = true {
		if next {
			_ = c.SetReadDeadline(time.Now().Add(keepAlive))
			if _, err := c.br.Peek(1); err != nil {
				return
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(p.o.HeaderTimeout))
		h, err := readHead(c.br)
		if err != nil {
			var fault httpFault
			if errors.As(err, &fault) {
				p.refuse(c, fault.status, codeInvalid, fault.text)
			}
			return
		}
		if h.method == http.MethodConnect {
			if fixed == nil {
				p.serveConnect(c, h)
			} else {
				p.refuse(c, http.StatusBadRequest, codeInvalid, "a tunnel does not lead to another; connect to the proxy itself")
			}
			return
		}
		if !p.forward(c, h, fixed) {
			c.finish()
			return
		}
	}
}

// serveConnect opens a tunnel.
func (p *Proxy) serveConnect(c *client, h *head) {
	if body, err := h.framing(); err != nil || body.chunked || body.length > 0 {
		p.refuse(c, http.StatusBadRequest, codeInvalid, "CONNECT must not have a body; drop Content-Length and Transfer-Encoding")
		return
	}
	e, err := parseHostPort(h.target, 0)
	if err != nil {
		p.refuseError(c, p.denyText(c.RemoteAddr(), h.target, err))
		return
	}
	// A Host that names another place is a client trying what is read here.
	if hosts := h.values("Host"); len(hosts) > 1 {
		p.refuse(c, http.StatusBadRequest, codeInvalid, "the request has more than one Host")
		return
	} else if len(hosts) == 1 {
		named, err := parseHostPort(hosts[0], e.port)
		if err == nil && named != e {
			err = mismatch(hosts[0], e.String())
		}
		if err != nil {
			p.refuseError(c, p.denyText(c.RemoteAddr(), hosts[0], err))
			return
		}
	}
	p.connect(c, e, func(fail *sandbox.Error) bool {
		if fail != nil {
			p.refuseError(c, fail)
			return false
		}
		_ = c.SetWriteDeadline(time.Now().Add(p.o.HeaderTimeout))
		_, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		return err == nil
	})
}

// connect serves CONNECT of either protocol. answer tells the client how it
// went; nil is success.
//
// A tunnel to port 80 carries HTTP and nothing else, request by request through
// the same checks as a forwarded one: else its Host could name any other site
// of the same server.
func (p *Proxy) connect(c *client, e endpoint, answer func(*sandbox.Error) bool) {
	if e.port == 80 {
		if d := p.permit(e); !d.Allowed {
			answer(p.denyEndpoint(c.RemoteAddr(), e, d))
			c.finish()
			return
		}
		if answer(nil) {
			_ = c.SetReadDeadline(time.Now().Add(p.o.HeaderTimeout))
			p.serveHTTP(c, &e)
		}
		return
	}
	f, fail := p.open(c, e)
	if fail != nil {
		answer(fail)
		c.finish()
		return
	}
	defer f.Close()
	if answer(nil) {
		p.tunnel(c, f)
	}
}

// refuseError answers with the status that fits the error.
func (p *Proxy) refuseError(c *client, e *sandbox.Error) {
	status := http.StatusBadGateway
	switch e.Code() {
	case codeNotAllowed:
		status = http.StatusForbidden
	case codeInvalid:
		status = http.StatusBadRequest
	case codeLimit:
		status = http.StatusServiceUnavailable
	}
	code := e.Code()
	if status == http.StatusBadGateway {
		code = "unreachable"
	}
	p.refuse(c, status, code, e.Error())
}

// refuse answers and ends the connection: after a refusal nothing that follows
// on it is treated as a request.
func (p *Proxy) refuse(c *client, status int, code, text string) {
	body := code + ": " + text + "\n"
	_ = c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(body), body)
	c.finish()
}
