package egress

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mcp-sandbox/sandbox"
)

// echo sends back what it gets, and ends when the client's side has ended.
func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// AC-37: a reload that fails leaves nothing open, and one that succeeds is in
// force at once.
func TestAC37Reload(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.name("b.example", public.String())
	w.listen(t, public.String()+":7", echo)
	p, addr := start(t, w, Options{})
	try := func(host string) int {
		_, _, code := connectTunnel(t, addr, host+":7")
		return code
	}
	if got := try("a.example"); got != 403 {
		t.Errorf("without a policy: %d", got)
	}
	p.SetPolicy(policy(t, "a.example:7"))
	if got := try("a.example"); got != 200 {
		t.Errorf("with a rule: %d", got)
	}
	bad, err := NewPolicy([]string{"a.example:7", "b.example:seven"}, nil, nil)
	if err == nil || bad != nil {
		t.Fatalf("a malformed list gave %v, %v", bad, err)
	}
	p.SetPolicy(bad) // a caller who does not look at err
	for _, host := range []string{"a.example", "b.example"} {
		if got := try(host); got != 403 {
			t.Errorf("%s after a malformed reload: %d", host, got)
		}
	}
}

// A new policy cuts what it denies and leaves the rest alone.
func TestSetPolicyCutsConnections(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.name("b.example", public.String())
	w.listen(t, public.String()+":7", echo)
	p, addr := start(t, w, Options{Policy: policy(t, "a.example:7", "b.example:7")})
	say := func(c net.Conn, br *bufio.Reader) error {
		if _, err := io.WriteString(c, "hello\n"); err != nil {
			return err
		}
		_, err := br.ReadString('\n')
		return err
	}
	a, abr, _ := connectTunnel(t, addr, "a.example:7")
	b, bbr, _ := connectTunnel(t, addr, "b.example:7")
	for _, err := range []error{say(a, abr), say(b, bbr)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.SetPolicy(policy(t, "b.example:7"))
	if err := say(a, abr); err == nil {
		t.Error("a connection to a host that is denied now lives on")
	}
	if err := say(b, bbr); err != nil {
		t.Errorf("a connection to an allowed host was cut: %v", err)
	}
	p.SetPolicy(policy(t, "b.example:7", "!"+public.String())) // its address is denied
	if err := say(b, bbr); err == nil {
		t.Error("a connection to an address that is denied now lives on")
	}
}

// A policy that changes between a judgement and its connection is not outrun.
func TestSetPolicyWhileDialling(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":7", echo)
	var p *Proxy
	p, addr := start(t, nil, Options{Policy: policy(t, "a.example:7"), Resolver: w, OnDenial: func(Denial) { p.Policy() }, Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		p.SetPolicy(nil)
		return w.dial(ctx, to)
	}})
	if _, _, code := connectTunnel(t, addr, "a.example:7"); code != 403 {
		t.Errorf("status %d", code)
	}
	if d := p.denials(); len(d) != 1 || d[0].Host != "a.example" {
		t.Errorf("denials %v", d)
	}
}

// AC-39: one look-up, all its answers judged, only a judged one dialled, though
// the second answer would be another.
func TestAC39Rebinding(t *testing.T) {
	w := newWorld()
	w.name("rebind.example", public.String())
	w.name("rebind.example", "127.0.0.1")
	w.name("mixed.example", "127.0.0.1", "10.0.0.1", "::1", public.String(), "169.254.169.254")
	w.listen(t, public.String()+":7", echo)
	_, addr := start(t, w, Options{Policy: policy(t, "*.example:7")})
	if _, _, code := connectTunnel(t, addr, "rebind.example:7"); code != 200 {
		t.Errorf("first: %d", code)
	}
	if n := w.lookedUp(); n != 1 {
		t.Errorf("%d look-ups for one request", n)
	}
	if _, _, code := connectTunnel(t, addr, "rebind.example:7"); code != 403 {
		t.Errorf("rebound: %d", code)
	}
	if _, _, code := connectTunnel(t, addr, "mixed.example:7"); code != 200 {
		t.Errorf("mixed: %d", code)
	}
	// net.Resolver gives IPv4 in mapped form: it is judged and dialled as IPv4.
	w.name("mapped.example", "::ffff:"+public.String())
	w.name("mapped-lan.example", "::ffff:10.0.0.1", "fe80::1%lo", "2606:4700::1%lo")
	if _, _, code := connectTunnel(t, addr, "mapped.example:7"); code != 200 {
		t.Errorf("mapped: %d", code)
	}
	if _, _, code := connectTunnel(t, addr, "mapped-lan.example:7"); code != 403 {
		t.Errorf("mapped private and zones: %d", code)
	}
	want := netip.AddrPortFrom(public, 7)
	if got := w.dials(); !slices.Equal(got, []netip.AddrPort{want, want, want}) {
		t.Errorf("dialled %v", got)
	}
}

// AC-39: this host's own addresses are named one by one or not reached, also by a
// range around them.
func TestAC39OwnAddresses(t *testing.T) {
	w := newWorld()
	own := netip.MustParseAddr("10.1.2.3")
	w.name("intranet.example", own.String())
	w.name("neighbour.example", "10.1.2.4")
	w.name("outside.example", public.String())
	for _, a := range []string{"10.1.2.3:7", "10.1.2.4:7", public.String() + ":7"} {
		w.listen(t, a, echo)
	}
	p, addr := start(t, w, Options{Policy: policy(t, "*.example:7", "10.0.0.0/8:7")})
	p.hostAddrs = func() ([]netip.Addr, error) { return []netip.Addr{own, public}, nil }
	for host, want := range map[string]int{"intranet.example": 403, "neighbour.example": 200, "outside.example": 403, "10.1.2.3": 403} {
		if _, _, code := connectTunnel(t, addr, host+":7"); code != want {
			t.Errorf("%s: %d, want %d", host, code, want)
		}
	}
	p.SetPolicy(policy(t, "*.example:7", "10.1.2.3:7"))
	if _, _, code := connectTunnel(t, addr, "intranet.example:7"); code != 200 {
		t.Errorf("named: %d", code)
	}
	p.hostAddrs = func() ([]netip.Addr, error) { return nil, errors.New("no netlink") }
	if _, _, code := connectTunnel(t, addr, "neighbour.example:7"); code != 403 {
		t.Errorf("unreadable interfaces: %d, want a refusal", code)
	}
}

// AC-42: services on the host's loopback, reached over the real dialler.
func TestAC42HostLoopback(t *testing.T) {
	reached := atomic.Int64{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			c.Close()
		}
	})
	defer func() { l.Close(); wg.Wait() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	w := newWorld()
	w.name("inside.example", "127.0.0.1")
	w.name("localhost", "127.0.0.1")
	p, addr := start(t, nil, Options{Policy: policy(t, "inside.example:"+port, "localhost:"+port, "0.0.0.0/0:"+port, "[::/0]:"+port), Resolver: w})
	for _, host := range []string{"inside.example", "localhost", "127.0.0.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "127.8.9.10"} {
		if _, _, code := connectTunnel(t, addr, host+":"+port); code != 403 {
			t.Errorf("%s: %d", host, code)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the host's loopback service was reached %d times", n)
	}
	p.SetPolicy(policy(t, "inside.example:"+port, "127.0.0.1:"+port))
	if _, _, code := connectTunnel(t, addr, "inside.example:"+port); code != 200 {
		t.Errorf("named: %d", code)
	}
}

// AC-41: the listener is private to its session, so a proxy asks for no
// credential. One that a client sends reaches no server and no log.
func TestAC41Credential(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":7", echo)
	w.serve(t, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for name, values := range r.Header {
			if strings.HasPrefix(name, "Proxy-") {
				t.Errorf("the server saw %s: %v", name, values)
			}
		}
	}))
	var log bytes.Buffer
	var logMu sync.Mutex
	logger := slog.New(slog.NewTextHandler(lockedWriter{&logMu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, addr := start(t, w, Options{Policy: policy(t, "a.example:7", "a.example"), Log: logger})
	secret := base64.StdEncoding.EncodeToString([]byte("session:token-of-a"))
	for _, line := range []string{"CONNECT a.example:7 HTTP/1.1\r\nHost: a.example:7\r\n", "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"} {
		if got := status(raw(t, addr, line+"Proxy-Authorization: Basic "+secret+"\r\n\r\n")); got != 200 {
			t.Errorf("%q: %d", line, got)
		}
	}
	for send, want := range map[string]string{
		"\x05\x02\x00\x02\x05\x01\x00\x03\x09a.example\x00\x07": "\x05\x00\x05\x00",
		"\x05\x01\x02\x01\x01x\x0atoken-of-a":                   "\x05\xff",
	} {
		if got := raw(t, addr, send); !strings.HasPrefix(got, want) || len(got) > len(want)+8 {
			t.Errorf("socks %q: %q, want %q", send, got, want)
		}
	}
	p.Close()
	logMu.Lock()
	defer logMu.Unlock()
	if s := log.String(); strings.Contains(s, "token-of") || strings.Contains(s, secret) || s == "" {
		t.Errorf("log: %s", s)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// AC-40: a CONNECT whose Host is not its target is refused, with or without the
// port in it.
func TestAC40ConnectHost(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":7", echo)
	_, addr := start(t, w, Options{Policy: policy(t, "a.example:7", "b.example:7", "a.example:8")})
	for host, want := range map[string]int{
		"Host: a.example:7": 200, "Host: A.example": 200, "X: y": 200, "Host: b.example:7": 403, "Host: a.example:8": 403, "Host: ": 403, "Host: a.example:7\r\nHost: a.example:7": 400,
	} {
		if got := status(raw(t, addr, "CONNECT a.example:7 HTTP/1.1\r\n"+host+"\r\n\r\n")); got != want {
			t.Errorf("%s: %d, want %d", host, got, want)
		}
	}
}

// A denial names the host, the rule and the flag, and that flag is enough.
func TestDenials(t *testing.T) {
	w := newWorld()
	w.name("lan.example", "10.0.0.9")
	w.name("a.example", public.String())
	for _, a := range []string{"10.0.0.9:7", public.String() + ":7"} {
		w.listen(t, a, echo)
	}
	p, addr := start(t, w, Options{Policy: policy(t, "lan.example:7", "a.example:8", "!b.example")})
	for _, c := range []struct {
		target string
		want   Denial
	}{
		{"c.example:443", Denial{Host: "c.example", Port: 443, Flag: "--allow-host c.example"}},
		{"c.example:7", Denial{Host: "c.example", Port: 7, Flag: "--allow-host c.example:7"}},
		{"A.example.:7", Denial{Host: "a.example", Port: 7, Rule: "a.example:8", Flag: "--allow-host a.example:7"}},
		{"lan.example:7", Denial{Host: "lan.example", Port: 7, Flag: "--allow-host 10.0.0.9:7"}},
		{"b.example:7", Denial{Host: "b.example", Port: 7, Rule: "!b.example"}},
		{"[2001:db8::1]:7", Denial{Host: "2001:db8::1", Port: 7, Flag: "--allow-host [2001:db8::1]:7"}},
		{"a\u200b.example:7", Denial{Host: `"a\u200b.example:7"`}},
	} {
		before := len(p.denials())
		answer := raw(t, addr, connectLine(c.target))
		got := p.denials()[before:]
		if len(got) != 1 || got[0].Host != c.want.Host || got[0].Port != c.want.Port || got[0].Rule != c.want.Rule || got[0].Flag != c.want.Flag {
			t.Errorf("%s: %+v, want %+v", c.target, got, c.want)
			continue
		}
		if status(answer) != 403 || !strings.Contains(answer, "host_not_allowed: "+got[0].String()+"\n") || !strings.Contains(got[0].String(), c.want.Flag) {
			t.Errorf("%s is answered %q", c.target, answer)
		}
		if flag, ok := strings.CutPrefix(got[0].Flag, "--allow-host "); ok {
			var rules []string
			for _, r := range p.Policy().Rules() {
				rules = append(rules, r.String())
			}
			q := policy(t, append(rules, flag)...)
			if e, _ := parseHostPort(c.target, 0); e.name == "lan.example" {
				e = endpoint{addr: netip.MustParseAddr("10.0.0.9"), port: 7}
				if d := q.decideAddr(e.addr, e.port, false); !d.Allowed {
					t.Errorf("%s with %s is still denied: %s", c.target, got[0].Flag, d.Reason)
				}
			} else if d := q.decide(e); !d.Allowed {
				t.Errorf("%s with %s is still denied: %s", c.target, got[0].Flag, d.Reason)
			}
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":7", echo)
	hang := make(chan struct{})
	w.serve(t, public.String()+":80", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer close(hang)
	p, addr := start(t, w, Options{Policy: policy(t, "a.example:7", "a.example")})
	tunnel, _, _ := connectTunnel(t, addr, "a.example:7")
	waiting := connectTo(t, addr)
	fmt.Fprintf(waiting, "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n")
	idle := connectTo(t, addr)
	_, _ = io.WriteString(idle, "GET ht")
	until(t, "all are open", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.clients) == 3 && len(p.flows) == 2
	})
	p.Close()
	p.Close()
	for _, c := range []net.Conn{tunnel, waiting, idle} {
		if _, err := io.ReadAll(c); errors.Is(err, context.DeadlineExceeded) {
			t.Error("a connection outlives Close")
		}
	}
	if n := p.openClients(); n != 0 || len(p.flows) != 0 {
		t.Errorf("left over: %d clients, %d flows", n, len(p.flows))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Serve(l); err != nil {
		t.Errorf("Serve after Close: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error("Serve after Close leaves its listener open")
	}
}

func TestServeListenerFails(t *testing.T) {
	p := NewProxy(Options{})
	defer p.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	var own *sandbox.Error
	if err := p.Serve(l); !errors.As(err, &own) || own.Code() != "internal" || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed listener: %v", err)
	}
}
