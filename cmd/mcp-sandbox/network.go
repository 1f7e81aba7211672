package main

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"mcp-sandbox/confine"
	"mcp-sandbox/egress"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// networkSettings are the allow-list of --network allow and its limits.
type networkSettings struct {
	allow, deny, presets []string
	elicit               bool
	maxBytes             int64
	maxConns             int
}

// given tells whether any of them is set.
func (n *networkSettings) given() bool {
	return len(n.allow)+len(n.deny)+len(n.presets) > 0 || n.elicit || n.maxBytes != 0 || n.maxConns != 0
}

func registerNetwork(f *pflag.FlagSet, n *networkSettings) {
	f.StringSliceVar(&n.allow, "allow-host", nil, "with --network allow: host, *.host, address or range, each with an optional :port, that commands may reach")
	f.StringSliceVar(&n.deny, "deny-host", nil, "with --network allow: the same, refused first")
	f.StringSliceVar(&n.presets, "allow-preset", nil, "with --network allow: hosts of go, npm, pypi, debian, github, crates")
	f.BoolVar(&n.elicit, "elicit-hosts", false, "with --network allow: ask the user, where the client can, to allow a host that no rule names for this session")
	f.Var((*size)(&n.maxBytes), "limit-net-bytes", "with --network allow: bytes a session may send and receive (default: no limit)")
	f.IntVar(&n.maxConns, "limit-net-conns", 0, "with --network allow: connections a session may have open (default 256)")
}

// gateway is the way out of sessions with --network allow: one proxy a session,
// one list of rules for all.
type gateway struct {
	log      *slog.Logger
	settings networkSettings
	// denied counts for the metrics, by kind; nil counts nothing.
	denied func(kind string)

	// upstream is what lies beyond the proxies, in tests another than the world.
	upstream egress.Options

	mu       sync.Mutex
	policy   *egress.Policy
	sessions map[*sessionProxy]bool
}

// newGateway refuses an allow network without a rule: an empty list must never
// be read as "everything" (CVE-2025-66479), and as "nothing" it is a slip.
func newGateway(n networkSettings, log *slog.Logger) (*gateway, error) {
	p, err := egress.NewPolicy(n.allow, n.deny, n.presets)
	if err != nil {
		return nil, err
	}
	if err := checkLoopback(p); err != nil {
		return nil, err
	}
	if n.maxConns < 0 {
		return nil, badSetting("limit-net-conns is %d, use 1 or more, or 0 for the default", n.maxConns)
	}
	return &gateway{log: log, settings: n, policy: p, sessions: map[*sessionProxy]bool{}}, nil
}

// proxyAddress is where a session finds its proxy, on its own loopback. It is
// taken before the first command runs, so nothing inside can squat on it.
const proxyAddress = "127.0.0.1:3128"

// open starts a session's proxy on listeners made inside its network, and in the
// gate that the one route there leads to: nothing goes around the proxy.
func (g *gateway) open(sb *confine.Sandbox, p sandbox.Policy, up session.Callbacks) (*sessionProxy, error) {
	// Elsewhere the listener would be on the host's own loopback, a way out for
	// every user of the machine, and the session could not reach it.
	if level := sb.Report().Level; level != sandbox.LevelNamespaces && level != sandbox.LevelNamespacesNoProc {
		return nil, sandbox.Errorf("confinement_unavailable", nil, "an allow-list network needs namespaces and this host lends the level %s only, see mcp-sandbox doctor or use --network none", level)
	}
	l, err := sb.Listen("tcp", proxyAddress)
	if err != nil {
		return nil, err
	}
	s := &sessionProxy{gateway: g, up: up, gate: sessionGate{sb: sb, log: p.Log, open: map[netip.AddrPort]bool{}}}
	o := g.upstream
	o.Log, o.OnDenial, o.MaxBytes, o.MaxConns = p.Log, s.note, g.settings.maxBytes, g.settings.maxConns
	o.NameServer, o.OnName = nameServer, s.gate.named
	if sb.Gate() == confine.GateLoopback {
		o.MaxNames = namesOnLoopback
	}
	if g.settings.elicit && up.Ask != nil {
		o.Ask = s.ask
		s.gate.always = []uint16{80, 443}
	}
	g.mu.Lock()
	o.Policy = g.policy
	s.proxy = egress.NewProxy(o)
	s.gate.proxy = s.proxy
	g.sessions[s] = true
	g.mu.Unlock()
	s.gate.serve(func() error { return s.proxy.Serve(l) })
	if err := s.gate.start(o.Policy); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// set changes the rules of every session at once; nil closes the network.
func (g *gateway) set(p *egress.Policy) {
	g.mu.Lock()
	g.policy = p
	sessions := slices.Collect(maps.Keys(g.sessions))
	for _, s := range sessions {
		s.proxy.SetPolicy(p)
	}
	g.mu.Unlock()
	for _, s := range sessions {
		if err := s.gate.follow(p); err != nil {
			g.log.Warn("a session does not reach all that the new rules allow", "error", err)
		}
	}
}

// sessionProxy is one session's proxy and what it refused since the model was
// last told.
type sessionProxy struct {
	gateway *gateway
	up      session.Callbacks
	proxy   *egress.Proxy
	gate    sessionGate

	mu      sync.Mutex
	refused []string
	asks    windowed // denials whose owner was looked for
	records windowed // denials in the audit log
	omitted int      // since the last of them
}

// mostNotices bounds what one reply tells; the proxy's own log has all.
const mostNotices = 8

// A denial is asked whose it is at most so often a second: asking makes init look at
// all processes of the session. Beyond that it is told by the next reply, whichever
// that is.
const mostOwnersAsked = 32

func (s *sessionProxy) note(d egress.Denial) {
	if s.gateway.denied != nil {
		s.gateway.denied("network")
	}
	s.record(d)
	text := "network: " + d.String()
	if s.mayAsk(d.Time) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		where := net.JoinHostPort(d.Host, strconv.Itoa(d.Port))
		if s.gate.sb.DenyConn(ctx, d.From, sandbox.Denial{Kind: sandbox.DenialNetwork, Subject: where, Text: text}) {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refused) < mostNotices && !slices.Contains(s.refused, text) {
		s.refused = append(s.refused, text)
	}
}

// windowed counts what is done within a window of time.
type windowed struct {
	began time.Time
	done  int
}

// take reports whether one more may be done now, at most so often in a window.
func (w *windowed) take(now time.Time, window time.Duration, most int) bool {
	if now.Sub(w.began) >= window {
		*w = windowed{began: now}
	}
	if w.done >= most {
		return false
	}
	w.done++
	return true
}

func (s *sessionProxy) mayAsk(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asks.take(now, time.Second, mostOwnersAsked)
}

// A minute's denials in the audit log, of one session: a command that makes up
// hosts without end must not push what else it did out of the log.
const (
	mostRecords  = 60
	recordWindow = time.Minute
)

// record puts a denial into the audit log.
func (s *sessionProxy) record(d egress.Denial) {
	if s.up.Note == nil {
		return
	}
	s.mu.Lock()
	if !s.records.take(d.Time, recordWindow, mostRecords) {
		s.omitted++
		s.mu.Unlock()
		return
	}
	data := map[string]any{"host": d.Host, "port": d.Port, "reason": d.Reason}
	if d.Rule != "" {
		data["rule"] = d.Rule
	}
	if s.omitted > 0 {
		data["omitted_before"] = s.omitted
		s.omitted = 0
	}
	s.mu.Unlock()
	code := "host_not_allowed"
	if d.Limit {
		code = "limit_reached"
	}
	s.up.Note("network.denied", code, data)
}

// ask puts a host that no rule names to the user. The text holds the host as it
// was normalised, so that nothing in it can pass for a part of the question.
func (s *sessionProxy) ask(ctx context.Context, host string, port int) egress.Answer {
	where := net.JoinHostPort(host, strconv.Itoa(port))
	question := "A command in the sandbox wants to connect to " + where + ", which no rule allows. Allow " + where + " for this session?"
	switch s.up.Ask(ctx, "network.ask", question, map[string]any{"host": host, "port": port}) {
	case session.AnswerAccept:
		return egress.Granted
	case session.AnswerRefuse:
		return egress.Refused
	}
	return egress.Unasked
}

func (s *sessionProxy) notices() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.refused
	s.refused = nil
	return out
}

func (s *sessionProxy) close() {
	s.gateway.mu.Lock()
	delete(s.gateway.sessions, s)
	s.gateway.mu.Unlock()
	s.gate.stop()
}
