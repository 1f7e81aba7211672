package library

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

	"mcp-sandbox/confine"
	"mcp-sandbox/egress"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// Rules are the allow-list of the network mode allow and its limits. Hosts are a
// name, *.name, an address or a range, each with an optional :port.
type Rules struct {
	Allow []string
	// Deny is refused first.
	Deny []string
	// Presets are lists of hosts: go, npm, pypi, debian, github, crates.
	Presets []string
	// Elicit asks the user, where the client can, about a host that no rule names.
	Elicit bool
	// MaxBytes bounds what a session may send and receive; 0 does not.
	MaxBytes int64
	// MaxConns bounds the open connections of a session; 0 is 256.
	MaxConns int
}

// policy refuses what cannot be a rule. Codes: invalid_argument.
func (r *Rules) policy() (*egress.Policy, error) {
	p, err := egress.NewPolicy(r.Allow, r.Deny, r.Presets)
	if err != nil {
		return nil, err
	}
	return p, checkLoopback(p)
}

// Gateway is the way out of sessions with --network allow: one proxy a session,
// one list of rules for all.
type Gateway struct {
	log   *slog.Logger
	rules Rules
	// Denied counts what is refused, by kind; nil counts nothing.
	Denied func(kind string)
	// Traffic is that of all sessions.
	Traffic egress.Traffic
	// Upstream is what lies beyond the proxies; the zero value is the world.
	Upstream egress.Options

	mu       sync.Mutex
	policy   *egress.Policy
	sessions map[*sessionProxy]bool
}

// NewGateway warns of rules that allow nothing: such a list is never read as
// "everything" (CVE-2025-66479), and it may be a slip. Codes: invalid_argument.
func NewGateway(r Rules, log *slog.Logger) (*Gateway, error) {
	p, err := r.policy()
	if err != nil {
		return nil, err
	}
	r.warn(p, log)
	if r.MaxConns < 0 {
		return nil, sandbox.Errorf("invalid_argument", nil, "limit-net-conns is %d; use 1 or more, or 0 for the default", r.MaxConns)
	}
	return &Gateway{log: log, rules: r, policy: p, sessions: map[*sessionProxy]bool{}}, nil
}

func (r *Rules) warn(p *egress.Policy, log *slog.Logger) {
	if len(p.Ports()) == 0 && !r.Elicit {
		log.Warn("--network allow has no host to allow, so commands reach none; name hosts with --allow-host or --allow-preset, or have the user asked with --elicit-hosts")
	}
	for _, w := range p.Warnings() {
		log.Warn(w)
	}
}

// proxyAddress is where a session finds its proxy, on its own loopback. It is
// taken before the first command runs, so nothing inside can squat on it.
const proxyAddress = "127.0.0.1:3128"

// open starts a session's proxy on listeners made inside its network, and in the
// gate that the one route there leads to: nothing goes around the proxy.
func (g *Gateway) open(sb *confine.Sandbox, p sandbox.Policy, up session.Callbacks) (*sessionProxy, error) {
	// Elsewhere the listener would be on the host's own loopback, a way out for
	// every user of the machine, and the session could not reach it.
	if level := sb.Report().Level; level != sandbox.LevelNamespaces && level != sandbox.LevelNamespacesNoProc {
		return nil, sandbox.Errorf("confinement_unavailable", nil, "an allow-list network needs namespaces and this host lends the level %s only; see mcp-sandbox doctor or use --network none", level)
	}
	l, err := sb.Listen("tcp", proxyAddress)
	if err != nil {
		return nil, err
	}
	s := &sessionProxy{gateway: g, up: up, gate: sessionGate{sb: sb, log: p.Log, open: map[netip.AddrPort]bool{}}}
	o := g.Upstream
	o.Log, o.OnDenial, o.OnUnreached, o.MaxBytes, o.MaxConns = p.Log, s.note, s.unreached, g.rules.MaxBytes, g.rules.MaxConns
	o.Traffic = &g.Traffic
	o.NameServer, o.OnName, o.IPv6 = nameServer, s.gate.named, sb.GateIPv6()
	if sb.Gate() == confine.GateLoopback {
		o.MaxNames = namesOnLoopback
	}
	if g.rules.Elicit && up.Ask != nil {
		o.Ask = s.ask
		s.gate.always = []uint16{80, 443}
	}
	g.mu.Lock()
	o.Policy = g.policy
	s.proxy = egress.NewProxy(o)
	s.gate.proxy = s.proxy
	g.sessions[s] = true
	g.mu.Unlock()
	sb.ExplainConns(s.unheard)
	s.gate.serve(func() error { return s.proxy.Serve(l) })
	if err := s.gate.start(o.Policy); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// SetRules changes the hosts of every session at once, and gives the number of rules.
// Rules that are wrong close the network: those that somebody wanted to narrow must
// not stay open because of a slip. Codes: invalid_argument.
func (g *Gateway) SetRules(r Rules) (int, error) {
	p, err := r.policy()
	if err != nil {
		g.Shut()
		return 0, err
	}
	r.warn(p, g.log)
	g.set(p)
	return len(p.Rules()), nil
}

// Shut closes the network until the next SetRules.
func (g *Gateway) Shut() { g.set(nil) }

// set changes the rules of every session at once; nil closes the network.
func (g *Gateway) set(p *egress.Policy) {
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
	gateway *Gateway
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
	s.tell(d.From, d.Time, s.counted(d))
}

// unreached is no denial: it is told, and neither counted nor recorded as one.
func (s *sessionProxy) unreached(u egress.Unreached) {
	s.tell(u.From, u.Time, networkDenial(u.Host, u.Port, u.String()))
}

// tell has the result of the command whose connection it was say it, or the next
// result where that is not known.
func (s *sessionProxy) tell(from net.Addr, at time.Time, d sandbox.Denial) {
	if s.mayAsk(at) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.gate.sb.DenyConn(ctx, from, d) {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refused) < mostNotices && !slices.Contains(s.refused, d.Text) {
		s.refused = append(s.refused, d.Text)
	}
}

func networkDenial(host string, port int, text string) sandbox.Denial {
	return sandbox.Denial{Kind: sandbox.DenialNetwork, Subject: net.JoinHostPort(host, strconv.Itoa(port)), Text: "network: " + text}
}

// counted puts a denial into the metrics and the audit log.
func (s *sessionProxy) counted(d egress.Denial) sandbox.Denial {
	if s.gateway.Denied != nil {
		s.gateway.Denied("network")
	}
	s.record(d)
	return networkDenial(d.Host, d.Port, d.String())
}

// unheard is the denial of a connection that nothing in the gate takes.
func (s *sessionProxy) unheard(to netip.AddrPort) sandbox.Denial {
	return s.counted(s.proxy.RefuseUnheard(to))
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
