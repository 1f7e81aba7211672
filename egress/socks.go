package egress

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"mcp-sandbox/sandbox"
)

// SOCKS5 (RFC 1928).
const (
	socksVersion     = 5
	socksNoAuth      = 0
	socksNoMethod    = 0xff
	socksConnect     = 1
	socksIPv4        = 1
	socksName        = 3
	socksIPv6        = 4
	socksOK          = 0
	socksFailed      = 1
	socksNotAllowed  = 2
	socksUnreachable = 4
	socksRefused     = 5
	socksBadCommand  = 7
	socksBadAddress  = 8
)

// errSOCKS is a client that does not keep to the protocol.
var errSOCKS = errors.New("malformed SOCKS5")

// serveSOCKS takes one CONNECT. BIND and UDP ASSOCIATE are refused: the one
// opens the way in, the other carries what nothing here can check.
func (p *Proxy) serveSOCKS(c *client) {
	if !p.socksGreeting(c) {
		return
	}
	command, host, e, err := readSOCKSRequest(c.br)
	var hostErr *sandbox.Error
	switch {
	case errors.As(err, &hostErr):
		_ = p.denyText(c.RemoteAddr(), host, err)
		socksReply(c, socksNotAllowed)
		c.finish()
		return
	case errors.Is(err, errSOCKS):
		socksReply(c, socksBadAddress)
		c.finish()
		return
	case err != nil:
		return
	case command != socksConnect:
		_ = p.denyEndpoint(c.RemoteAddr(), e, Decision{Reason: "only the SOCKS5 command CONNECT is served"})
		socksReply(c, socksBadCommand)
		c.finish()
		return
	}
	p.connect(c, e, func(fail *sandbox.Error) bool {
		code := byte(socksOK)
		switch {
		case fail == nil:
		case fail.Code() == codeNotAllowed || fail.Code() == codeLimit:
			code = socksNotAllowed
		case errors.Is(fail, syscall.ECONNREFUSED):
			code = socksRefused
		case fail.Unwrap() != nil:
			code = socksUnreachable
		default:
			code = socksFailed
		}
		return socksReply(c, code)
	})
}

// socksGreeting agrees on the method without credentials: the listener is private
// to its session.
func (p *Proxy) socksGreeting(c *client) bool {
	var h [2]byte
	if _, err := io.ReadFull(c.br, h[:]); err != nil {
		return false
	}
	methods := make([]byte, h[1])
	if _, err := io.ReadFull(c.br, methods); err != nil {
		return false
	}
	if !slices.Contains(methods, socksNoAuth) {
		_, _ = c.Write([]byte{socksVersion, socksNoMethod})
		c.finish()
		return false
	}
	_, err := c.Write([]byte{socksVersion, socksNoAuth})
	return err == nil
}

// readSOCKSRequest reads a request. host is its host as written; an *sandbox.Error means
// that it cannot be read as one.
func readSOCKSRequest(r io.Reader) (command byte, host string, e endpoint, err error) {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, "", e, err
	}
	if h[0] != socksVersion || h[2] != 0 {
		return 0, "", e, errSOCKS
	}
	size := 0
	switch h[3] {
	case socksIPv4:
		size = 4
	case socksIPv6:
		size = 16
	case socksName:
		var n [1]byte
		if _, err := io.ReadFull(r, n[:]); err != nil {
			return 0, "", e, err
		}
		size = int(n[0])
	default:
		return 0, "", e, errSOCKS
	}
	b := make([]byte, size+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, "", e, err
	}
	port := binary.BigEndian.Uint16(b[size:])
	if h[3] == socksName {
		host = string(b[:size])
		e, err = parseHost(host)
	} else {
		addr, _ := netip.AddrFromSlice(b[:size])
		e.addr = addr.Unmap()
		host = e.host()
	}
	if e.port = port; err == nil && port == 0 {
		err = invalid("the port is 0; name one from 1 to 65535")
	}
	return h[1], host, e, err
}

// socksReply answers with an empty bound address: that of this host is none of
// the client's business.
func socksReply(c *client, code byte) bool {
	_ = c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := c.Write([]byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0})
	return err == nil
}
