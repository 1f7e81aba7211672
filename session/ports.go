package session

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mcp-sandbox/sandbox"
)

// Dialer is what a Sandbox also offers when something outside may talk to a
// server inside: Dial connects to 127.0.0.1:port of the session's own network.
type Dialer interface {
	Dial(ctx context.Context, port int) (net.Conn, error)
}

// ExposedPort is a port forward from this machine's loopback to a port of a session.
type ExposedPort struct {
	// Port is the one inside, HostPort the one on 127.0.0.1 of this machine: the
	// same where that was free.
	Port     int    `json:"port"`
	Host     string `json:"host"`
	HostPort int    `json:"host_port"`
	URL      string `json:"url"`
	// Listening is whether a server inside took a connection just now.
	Listening bool `json:"listening"`
}

// AnyPort in Config.Expose lets every port be exposed.
const AnyPort = 0

// ParsePorts reads the ports an operator lists: 1 to 65535, or "any". Doubles
// count once. Code: invalid_argument.
func ParsePorts(texts []string) ([]int, error) {
	var out []int
	for _, t := range texts {
		p, err := strconv.Atoi(strings.TrimSpace(t))
		switch {
		case strings.TrimSpace(t) == "any":
			p = AnyPort
		case err != nil || p < 1 || p > 65535:
			return nil, errorf("invalid_argument", nil, "%q is not a port that can be exposed; use a number from 1 to 65535, or any", t)
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

const (
	// maxForwards and maxConns bound what one session can make the server hold open.
	maxForwards = 64
	maxConns    = 512
	// dialInside bounds connecting to a port inside, which is on this machine.
	dialInside = 5 * time.Second
)

// portForwards are the exposed ports of one session.
type portForwards struct {
	mu     sync.Mutex
	open   map[int]*portForward
	closed bool
}

// ExposePort makes a port inside reachable on this machine's loopback and gives
// its address; a second call gives the same. It works whether or not anything
// listens inside yet, and says which. The port forward ends with the session.
//
// Codes: port_not_exposed (the operator has not listed it), invalid_argument,
// limit_reached, confinement_unavailable, session_not_found.
func (s *Session) ExposePort(ctx context.Context, port int) (ExposedPort, error) {
	if err := s.requireRunning(); err != nil {
		return ExposedPort{}, err
	}
	if port < 1 || port > 65535 {
		return ExposedPort{}, errorf("invalid_argument", nil, "%d is not a port; use 1 to 65535", port)
	}
	if !slices.Contains(s.config.Expose, port) && !slices.Contains(s.config.Expose, AnyPort) {
		allowed := "none is listed"
		if len(s.config.Expose) > 0 {
			allowed = "listed are " + strings.Trim(fmt.Sprint(s.config.Expose), "[]")
		}
		return ExposedPort{}, errorf("port_not_exposed", nil, "port %d may not be exposed (%s); the operator allows it with --expose %d", port, allowed, port)
	}
	if s.config.Network == "none" {
		return ExposedPort{}, errorf("confinement_unavailable", nil, "the session has no network, so no port of it can be reached; the operator changes that with --network loopback")
	}
	level := s.sandbox.Report().Level
	if level == "landlock" || level == "seatbelt" {
		// There a port forward would connect to this machine's loopback, and so to itself.
		return ExposedPort{}, errorf("confinement_unavailable", nil, "at the level %s a session has no network of its own to open a port of; use a host with namespaces", level)
	}
	if s.config.Network == "host" || level == "none" {
		// The session shares this machine's network: the port is there already.
		return ExposedPort{Port: port, Host: "127.0.0.1", HostPort: port, URL: loopbackURL(port), Listening: s.listens(ctx, port)}, nil
	}
	dialer, ok := s.sandbox.(Dialer)
	if !ok {
		return ExposedPort{}, errorf("confinement_unavailable", nil, "this confinement cannot reach ports of the session; use the namespaces level")
	}
	d, err := s.forwards.get(port, dialer, s)
	if err != nil {
		return ExposedPort{}, err
	}
	hostPort := d.listener.Addr().(*net.TCPAddr).Port
	return ExposedPort{Port: port, Host: "127.0.0.1", HostPort: hostPort, URL: loopbackURL(hostPort), Listening: s.listens(ctx, port)}, nil
}

// Network is the network mode that holds: the configured one, and none for loopback at
// landlock, which has no loopback of the session's own to give.
func (s *Session) Network() sandbox.Network {
	if s.config.Network == sandbox.NetworkLoopback && s.sandbox.Report().Level == sandbox.LevelLandlock {
		return sandbox.NetworkNone
	}
	return s.config.Network
}

// PortsText says that ports are out of reach of everything outside, and who could
// change it; "" where they are not.
func (s *Session) PortsText() string {
	if len(s.config.Expose) > 0 || s.config.Network == sandbox.NetworkHost || s.Network() == sandbox.NetworkNone {
		return ""
	}
	return "ports are reachable inside this session only; the operator can allow one with --expose PORT"
}

// Exposes reports whether any port of a session may be exposed.
func (m *Manager) Exposes() bool {
	return len(m.config.Expose) > 0 || m.config.Manifest != nil && len(m.config.Manifest.Ports) > 0
}

// ExposedPorts lists the port forwards, by port.
func (s *Session) ExposedPorts() []int {
	s.forwards.mu.Lock()
	defer s.forwards.mu.Unlock()
	out := make([]int, 0, len(s.forwards.open))
	for p := range s.forwards.open {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

func loopbackURL(port int) string {
	if port == 80 {
		return "http://127.0.0.1"
	}
	return "http://127.0.0.1:" + strconv.Itoa(port)
}

func (s *Session) listens(ctx context.Context, port int) bool {
	ctx, cancel := context.WithTimeout(ctx, dialInside)
	defer cancel()
	var c net.Conn
	var err error
	if d, ok := s.sandbox.(Dialer); ok && s.config.Network != "host" && s.sandbox.Report().Level != "none" {
		c, err = d.Dial(ctx, port)
	} else {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func (ds *portForwards) get(port int, dialer Dialer, s *Session) (*portForward, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.closed {
		return nil, errEnded()
	}
	if d := ds.open[port]; d != nil {
		return d, nil
	}
	if len(ds.open) >= maxForwards {
		return nil, errorf("limit_reached", nil, "%d ports are exposed, the most a session may have; use one of those", maxForwards)
	}
	// The same number if it is free: programs inside often print an address with
	// their own port in it.
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		l, err = net.Listen("tcp4", "127.0.0.1:0")
	}
	if err != nil {
		return nil, errorf("internal", err, "no port of this machine could be opened; try again")
	}
	if ds.open == nil {
		ds.open = map[int]*portForward{}
	}
	d := newPortForward(l, port, dialer)
	ds.open[port] = d
	s.log.Info("port exposed", "port", port, "address", l.Addr())
	return d, nil
}

// close ends every port forward and waits until none of their connections runs.
func (ds *portForwards) close() {
	ds.mu.Lock()
	open := ds.open
	ds.open, ds.closed = nil, true
	ds.mu.Unlock()
	for _, d := range open {
		d.close()
	}
}

// portForward is one listener on the host's loopback and the connections through it.
type portForward struct {
	*relay
	port   int
	dialer Dialer
}

func newPortForward(l net.Listener, port int, dialer Dialer) *portForward {
	d := &portForward{relay: newRelay(l, 2*maxConns), port: port, dialer: dialer}
	d.run(d.carry)
	return d
}

func (d *portForward) carry(ctx context.Context, outside net.Conn) {
	dial, cancel := context.WithTimeout(ctx, dialInside)
	inside, err := d.dialer.Dial(dial, d.port)
	cancel()
	if err != nil {
		// A reset, not an orderly end: "nothing listens" must look like it.
		if t, ok := outside.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		return
	}
	if !d.hold(inside) {
		_ = inside.Close()
		return
	}
	defer d.release(inside)
	d.join(inside, outside)
}
