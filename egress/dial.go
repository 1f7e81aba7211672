package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"mcp-sandbox/sandbox"
)

// maxAddrs is how many addresses of a name are looked at.
const maxAddrs = 16

// flow is an open connection to the network: what a new policy judges again.
type flow struct {
	net.Conn // to addr
	to       endpoint
	addr     netip.Addr
	client   *client
	proxy    *Proxy
}

// Close ends the flow's upstream side.
func (f *flow) Close() error {
	f.proxy.mu.Lock()
	delete(f.proxy.flows, f)
	f.proxy.mu.Unlock()
	return f.Conn.Close()
}

// cut ends both sides with a reset, so that neither takes the end for a whole
// transfer.
func (f *flow) cut() {
	reset(f.Conn)
	f.client.abort()
}

func (p *Proxy) judgeFlow(policy *Policy, f *flow) Decision {
	d := p.decide(policy, f.to)
	if !d.Allowed {
		return d
	}
	return p.judgeAddr(policy, f.to, f.addr, nil)
}

// judgeAddr judges one address of an allowed endpoint. own are the host's
// addresses, or nil to leave that check out.
func (p *Proxy) judgeAddr(policy *Policy, e endpoint, a netip.Addr, own []netip.Addr) Decision {
	d := policy.decideAddr(a, e.port, e.name == "" && !p.asks.has(e))
	if !d.Allowed || policy.namesExactly(a, e.port) {
		return d
	}
	// Services of this host often trust its own addresses, and a range a user
	// allows for the office LAN contains them; so these must be named one by one.
	v4, _, translated := embedded(a)
	if !a.IsLoopback() && (slices.Contains(own, a) || translated && slices.Contains(own, v4)) {
		return Decision{Reason: a.String() + " is an address of this host that no rule names", flag: allowFlag(endpoint{addr: a, port: e.port})}
	}
	return d
}

// open judges e, resolves it once, and connects to an address that was judged.
// The name is never looked up again, so a second answer (DNS rebinding) has no
// one to hear it.
func (p *Proxy) open(c *client, e endpoint) (*flow, *sandbox.Error) {
	if p.budget.spent() {
		return nil, p.overBudget(c.RemoteAddr(), e)
	}
	// First, for a user takes longer to answer than a host.
	if d := p.permit(e); !d.Allowed {
		return nil, p.denyEndpoint(c.RemoteAddr(), e, d)
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.o.DialTimeout)
	defer cancel()
	policy := p.Policy()
	addrs, fail := p.judged(ctx, c.RemoteAddr(), policy, e)
	if fail != nil {
		return nil, fail
	}
	conn, addr, err := p.dialFirst(ctx, addrs, e.port)
	if err != nil {
		p.unreached(c.RemoteAddr(), e, unreachedReason(err), false)
		return nil, sandbox.Errorf(codeInternal, err, "could not connect to %s: %s; check that the service is up", e, reason(err))
	}
	f := &flow{Conn: conn, to: e, addr: addr, client: c, proxy: p}
	if d, ok := p.register(f, policy); !ok {
		conn.Close()
		if d.Reason == "" {
			return nil, sandbox.Errorf(codeInternal, net.ErrClosed, "the session has ended; start another")
		}
		return nil, p.denyEndpoint(c.RemoteAddr(), e, d)
	}
	p.o.Log.Debug("egress: open", "host", e.host(), "port", e.port, "address", addr)
	return f, nil
}

// register makes f known to SetPolicy and Close. A policy that came while we
// dialled did not see f: it is judged here, under the lock that SetPolicy holds,
// so that one of the two always does.
func (p *Proxy) register(f *flow, judgedBy *Policy) (d Decision, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Decision{}, false
	}
	if p.policy != judgedBy {
		if d := p.judgeFlow(p.policy, f); !d.Allowed {
			return d, false
		}
	}
	p.flows[f] = struct{}{}
	return Decision{}, true
}

// judged gives the addresses of e that may be dialled.
func (p *Proxy) judged(ctx context.Context, from net.Addr, policy *Policy, e endpoint) ([]netip.Addr, *sandbox.Error) {
	if d := p.decide(policy, e); !d.Allowed {
		return nil, p.denyEndpoint(from, e, d)
	}
	addrs := []netip.Addr{e.addr}
	if e.name != "" {
		var err error
		if addrs, err = p.resolve(ctx, e.name); err != nil || len(addrs) == 0 {
			why := noAddress
			if err != nil {
				why = unreachedReason(err)
			}
			p.unreached(from, e, why, false)
			return nil, sandbox.Errorf(codeInternal, err, "could not resolve %s; check the name", e.name)
		}
	}
	own, err := p.hostAddrs()
	if err != nil {
		return nil, p.denyEndpoint(from, e, Decision{Reason: "the addresses of this host cannot be read, so it cannot be told from them"})
	}
	var first Decision
	var good []netip.Addr
	for _, a := range addrs {
		if d := p.judgeAddr(policy, e, a, own); d.Allowed {
			good = append(good, a)
		} else if first.Reason == "" {
			first = d
		}
	}
	if len(good) == 0 {
		if e.name != "" {
			first.Reason = "its address " + first.Reason
		}
		return nil, p.denyEndpoint(from, e, first)
	}
	return good, nil
}

// resolve looks a name up, once.
func (p *Proxy) resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	query := name
	if strings.ContainsRune(name, '.') {
		query += "."
	}
	found, err := p.o.Resolver.LookupNetIP(ctx, "ip", query)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range found {
		// net.Resolver gives IPv4 in mapped form; a zone would choose an interface.
		if a = a.Unmap(); a.IsValid() && a.Zone() == "" && !slices.Contains(out, a) && len(out) < maxAddrs {
			out = append(out, a)
		}
	}
	return out, nil
}

// dialFirst tries addresses in order, each with a fair share of the time left.
func (p *Proxy) dialFirst(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, netip.Addr, error) {
	var firstErr error
	for i, a := range addrs {
		share := ctx
		cancel := func() {}
		if end, ok := ctx.Deadline(); ok && i < len(addrs)-1 {
			share, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(len(addrs)-i))
		}
		conn, err := p.o.Dial(share, netip.AddrPortFrom(a, port))
		cancel()
		if err == nil {
			return conn, a, nil
		}
		if firstErr == nil {
			firstErr = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, netip.Addr{}, firstErr
}

// reason is what a client is told of a failed connection: the system's word,
// without this host's addresses.
func reason(err error) string {
	var no syscall.Errno
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &no):
		return no.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	}
	return "the connection failed"
}

func interfaceAddrs() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out, nil
}
