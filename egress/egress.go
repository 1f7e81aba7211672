// Package egress is the allow-list proxy through which a confined session
// reaches the network, and the only way it can.
//
// The sandbox's init opens a listener inside the session's network namespace,
// which has no route out, and hands it to the server. There a [Proxy] accepts on
// it, judges each request by a [Policy], resolves the name once, dials only an
// address it has judged, and carries the bytes. One port speaks HTTP CONNECT,
// plain HTTP forwarding and SOCKS5, told apart by the first byte. Programs that
// know of no proxy are served by [Proxy.ServeNames], which gives the names that
// may be reached addresses of the session, and [Proxy.ServeNamed], which takes
// the connections to those. Start at [NewPolicy], [NewProxy] and [Proxy.Serve];
// [Environ] is what commands need to find it.
//
// It reads of the traffic only what says where it goes: requests on port 80, and
// the ClientHello of TLS. It does not terminate TLS, so it sees no paths there
// and cannot tell two sites apart that share an allowed name's certificate and
// servers. It carries no UDP, and it confines nothing by itself: without the
// network namespace around a command the proxy is a suggestion.
package egress

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mcp-sandbox/sandbox"
)

// Resolver finds the addresses of a name; *net.Resolver is one. Names with a dot
// in them are asked for with a trailing dot, so that no search domain of the
// host is tried; the network is "ip".
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options sets up a Proxy. The zero value denies everything.
type Options struct {
	// Policy is the first policy; nil denies everything.
	Policy *Policy
	// Resolver is net.DefaultResolver when nil.
	Resolver Resolver
	// Dial connects to an address that was judged; nil dials TCP.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// MaxConns is how many client connections may be open at once; 0 is 256.
	MaxConns int
	// MaxBytes is how many bytes may pass in both directions together over the
	// life of the proxy; 0 is unlimited.
	MaxBytes int64
	// Traffic counts for all proxies that share it; nil counts nothing.
	Traffic *Traffic
	// HeaderTimeout bounds a request's head, a SOCKS handshake and a ClientHello
	// (slowloris); 0 is 15 s.
	HeaderTimeout time.Duration
	// DialTimeout bounds resolving and connecting together; 0 is 20 s.
	DialTimeout time.Duration
	// IdleTimeout ends a connection on which nothing moves in either direction;
	// 0 is 15 min.
	IdleTimeout time.Duration
	// Log gets one line a connection (debug) and denial (info), without
	// credentials; nil is silent.
	Log *slog.Logger
	// OnDenial is told of each denial, on the goroutine of the connection or of
	// Serve: it must return soon and not call Close.
	OnDenial func(Denial)
	// OnUnreached is told of each connection to an allowed host that failed beyond
	// the proxy, under the same conditions.
	OnUnreached func(Unreached)
	// Ask is asked for a host that no rule speaks of, once a host and at most 16
	// hosts in all, while the connection waits; Granted opens that host and port
	// for the life of this proxy. It is never asked for hosts that a rule denies,
	// nor for private, loopback, metadata and this host's own addresses, which a
	// granted name may not resolve to either. host is normalised. It must return
	// when ctx ends, which is within 60 s; nil asks nobody.
	Ask func(ctx context.Context, host string, port int) Answer
	// NameServer is the address on port 53 of which ServeNamed answers look-ups
	// over TCP; the zero value is none.
	NameServer netip.Addr
	// IPv6 has names lead to IPv6 addresses too, at which ServeNamed takes connections.
	IPv6 bool
	// MaxNames is how many names may be looked up over the life of the proxy; 0
	// is 1,024.
	MaxNames int
	// OnName is told of each look-up of a name that may be reached, before it is
	// answered: the name's address inside, and the ports that rules allow.
	OnName func(a netip.Addr, ports []uint16)
}

// Traffic is what proxies carried.
type Traffic struct {
	Bytes  atomic.Int64 // in both directions, beyond the proxy
	Opened atomic.Int64 // connections of clients, since the start
	Open   atomic.Int64 // of them now
}

// Proxy serves one session. Its methods may be called from any goroutine.
type Proxy struct {
	o      Options
	budget budget
	asks   questions
	names  names
	// hostAddrs lists the addresses of the server's own interfaces.
	hostAddrs func() ([]netip.Addr, error)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	policy    *Policy
	closed    bool
	listeners map[io.Closer]struct{}
	clients   map[*client]struct{}
	flows     map[*flow]struct{}
}

// NewProxy makes a proxy. It starts nothing; Close ends it.
func NewProxy(o Options) *Proxy {
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr.String())
		}
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 256
	}
	if o.MaxNames <= 0 {
		o.MaxNames = maxNames
	}
	for d, def := range map[*time.Duration]time.Duration{
		&o.HeaderTimeout: 15 * time.Second,
		&o.DialTimeout:   20 * time.Second,
		&o.IdleTimeout:   15 * time.Minute,
	} {
		if *d <= 0 {
			*d = def
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{
		o:         o,
		policy:    o.Policy,
		hostAddrs: interfaceAddrs,
		listeners: map[io.Closer]struct{}{},
		clients:   map[*client]struct{}{},
		flows:     map[*flow]struct{}{},
	}
	if p.o.Traffic == nil {
		p.o.Traffic = &Traffic{}
	}
	p.budget.init(o.MaxBytes, &p.o.Traffic.Bytes)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Serve accepts on l until Close (then it returns nil) or until l fails. It
// closes l when it returns.
func (p *Proxy) Serve(l net.Listener) error {
	return p.serve(l, entrance{
		handle: p.handle,
		// What it speaks is not known yet, and waiting to learn it is the resource
		// that has run out.
		full: "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
	})
}

// begin makes what is served known to Close, false once that has been called.
func (p *Proxy) begin(l io.Closer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.listeners[l] = struct{}{}
	p.wg.Add(1)
	return true
}

func (p *Proxy) end(l io.Closer) {
	p.mu.Lock()
	delete(p.listeners, l)
	p.mu.Unlock()
	p.wg.Done()
}

func (p *Proxy) serve(l net.Listener, e entrance) error {
	defer l.Close()
	if !p.begin(l) {
		return nil
	}
	defer p.end(l)
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = 0
			p.accept(nc, e)
			continue
		}
		if p.ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return sandbox.Errorf(codeInternal, err, "the proxy's listener was closed; restart the session")
		}
		// Out of descriptors, or a connection reset before it was accepted: both
		// pass, and a proxy that stops on them is a way to switch it off.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		p.o.Log.Warn("egress: accept", "error", err)
		select {
		case <-time.After(pause):
		case <-p.ctx.Done():
			return nil
		}
	}
}

// Close closes listeners and connections and waits until nothing of the proxy
// runs any more. It may be called more than once.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.cancel()
	for l := range p.listeners {
		l.Close()
	}
	for c := range p.clients {
		c.abort()
	}
	for f := range p.flows {
		f.cut()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// SetPolicy puts a policy in force at once; nil denies everything. Connections
// whose host or address the new policy denies are cut before it returns.
func (p *Proxy) SetPolicy(policy *Policy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policy = policy
	for f := range p.flows {
		if d := p.judgeFlow(policy, f); !d.Allowed {
			p.o.Log.Info("egress: cut by a new policy", "host", f.to.host(), "port", f.to.port)
			f.cut()
		}
	}
}

// Policy is the policy in force; nil denies everything.
func (p *Proxy) Policy() *Policy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.policy
}
