package library

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"mcp-sandbox/confine"
	"mcp-sandbox/egress"
	"mcp-sandbox/sandbox"
)

// sessionGate is the way out for programs that know of no proxy: the sockets at
// which a session's proxy takes what they look up and connect to.
type sessionGate struct {
	sb    *confine.Sandbox
	proxy *egress.Proxy
	log   *slog.Logger
	// always are ports that are open whatever the rules say.
	always []uint16

	mu     sync.Mutex
	ended  bool
	open   map[netip.AddrPort]bool // the zero address is every one
	served sync.WaitGroup
}

const (
	// domainPort is where names are asked for; over TCP the gate has that port
	// for all addresses.
	domainPort = 53
	// namesOnLoopback bounds the names of a session whose gate is its loopback,
	// where each takes a socket a port.
	namesOnLoopback = 128
)

// checkLoopback refuses rules for this host's loopback that no program inside can
// use.
func checkLoopback(p *egress.Policy) error {
	inside, err := p.Loopback()
	if err != nil {
		return err
	}
	for _, a := range inside {
		if a.String() == proxyAddress {
			return sandbox.Errorf("invalid_argument", nil, "allow-host has %s, which inside a session is its proxy; have the service listen on another port", a)
		}
	}
	return nil
}

// start opens the sockets for p before the session's first command runs, so that
// nothing inside can take their places.
func (g *sessionGate) start(p *egress.Policy) error {
	if g.sb.Gate() != confine.GateNone {
		c, err := g.sb.ListenNames()
		if err != nil {
			return err
		}
		g.serve(func() error { return g.proxy.ServeNames(c) })
	}
	return g.follow(p)
}

// follow opens what rules of p need and is not open. What needs it no longer
// stays, as what is asked for there is judged all the same.
func (g *sessionGate) follow(p *egress.Policy) error {
	inside, err := p.Loopback()
	if err != nil {
		return err
	}
	switch g.sb.Gate() {
	case confine.GateNetwork:
		ports := append(p.Ports(), g.always...)
		ports = append(ports, domainPort)
		slices.Sort(ports)
		for _, port := range slices.Compact(ports) {
			inside = append(inside, netip.AddrPortFrom(netip.IPv4Unspecified(), port))
		}
	case confine.GateLoopback:
		inside = append(inside, netip.AddrPortFrom(nameServer, domainPort))
	}
	return g.listen(inside)
}

// nameServer is where a session's programs ask for names.
var nameServer = netip.MustParseAddr(confine.GateAddress)

// named opens the sockets of one name where each has its own.
func (g *sessionGate) named(a netip.Addr, ports []uint16) {
	if g.sb.Gate() != confine.GateLoopback {
		return
	}
	var places []netip.AddrPort
	for _, port := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(ports, g.always)))) {
		places = append(places, netip.AddrPortFrom(a, port))
	}
	if err := g.listen(places); err != nil && g.log != nil {
		g.log.Warn("a name cannot be reached inside", "error", err)
	}
}

func (g *sessionGate) listen(places []netip.AddrPort) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return nil
	}
	places = slices.DeleteFunc(places, func(a netip.AddrPort) bool { return g.open[a] })
	listeners, errs := make([]net.Listener, len(places)), make([]error, len(places))
	var opening sync.WaitGroup
	for i, a := range places {
		opening.Go(func() {
			if a.Addr().IsUnspecified() {
				listeners[i], errs[i] = g.sb.ListenGate(int(a.Port()))
			} else {
				listeners[i], errs[i] = g.sb.Listen("tcp", a.String())
			}
		})
	}
	opening.Wait()
	var first error
	for i, l := range listeners {
		if errs[i] != nil {
			if first == nil {
				first = sandbox.Errorf(sandbox.CodeOf(errs[i]), errs[i], "%s cannot be used inside the session: %v", places[i], errs[i])
			}
			continue
		}
		g.open[places[i]] = true
		g.serve(func() error { return g.proxy.ServeNamed(l) })
	}
	return first
}

func (g *sessionGate) serve(run func() error) {
	g.served.Go(func() {
		if err := run(); err != nil && g.log != nil {
			g.log.Debug("a socket of the gate ended", "error", err)
		}
	})
}

// stop ends the proxy and waits for what it serves.
func (g *sessionGate) stop() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.proxy.Close()
	g.served.Wait()
}
