package egress

import (
	"bufio"
	"net"
	"net/netip"

	"mcp-sandbox/sandbox"
)

// domainPort is where names are asked for.
const domainPort = 53

// ServeNamed accepts on l as Serve does, for programs that know of no proxy: the
// local address of a connection is the one the program meant. Those that
// ServeNames gave out stand for their names. Each connection is judged, read and
// recorded as one that CONNECT asks for.
func (p *Proxy) ServeNamed(l net.Listener) error {
	return p.serve(l, entrance{handle: p.handleNamed})
}

func (p *Proxy) handleNamed(c *client) {
	c.br = bufio.NewReaderSize(c.Conn, headBuffer)
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return
	}
	to := local.AddrPort()
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if to == netip.AddrPortFrom(p.o.NameServer, domainPort) {
		p.serveLookups(c)
		return
	}
	e := p.names.endpoint(to)
	p.connect(c, e, func(fail *sandbox.Error) bool {
		switch {
		case fail == nil:
			return true
		case e.port == 80:
			p.refuseError(c, fail)
		case e.port == 443 && fail.Code() == codeInternal:
			c.alert(alertInternalError)
		case e.port == 443:
			c.alert(alertUnrecognizedName)
		default:
			c.abort()
		}
		return false
	})
}
