package egress

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	before := openFiles()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		after := openFiles()
		for range 100 {
			if after <= before+3 { // the runtime's poller and random source
				break
			}
			// package net keeps the pipes of splice(2) in a pool that the collector empties.
			runtime.GC()
			time.Sleep(10 * time.Millisecond)
			after = openFiles()
		}
		if after > before+3 {
			fmt.Fprintf(os.Stderr, "%d descriptors are left open (%d before)\n", after, before)
			code = 1
		}
	}
	os.Exit(code)
}

func openFiles() int {
	if runtime.GOOS != "linux" {
		return 0
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// public is an address no rule needs to name.
var public = netip.MustParseAddr("93.184.215.14")

// world is what lies beyond the proxy: names, and servers at addresses. Nothing
// in it is reached but through Dial, which records every attempt.
type world struct {
	mu      sync.Mutex
	names   map[string][][]netip.Addr // one entry for each lookup; the last repeats
	lookups map[string]int
	servers map[netip.AddrPort]string
	dialled []netip.AddrPort
}

func newWorld() *world {
	return &world{names: map[string][][]netip.Addr{}, lookups: map[string]int{}, servers: map[netip.AddrPort]string{}}
}

func (w *world) name(name string, addrs ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []netip.Addr
	for _, a := range addrs {
		list = append(list, netip.MustParseAddr(a))
	}
	w.names[name] = append(w.names[name], list)
}

// LookupNetIP answers only for names exactly as the proxy must ask for them.
func (w *world) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := strings.TrimSuffix(host, ".")
	if strings.Contains(name, ".") == (name == host) || network != "ip" {
		return nil, fmt.Errorf("asked for %q of network %q", host, network)
	}
	w.lookups[name]++
	answers := w.names[name]
	if len(answers) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return answers[min(w.lookups[name], len(answers))-1], nil
}

func (w *world) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	w.dialled = append(w.dialled, to)
	real, ok := w.servers[to]
	w.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("nothing listens at %s", to)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", real)
}

func (w *world) dials() []netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]netip.AddrPort(nil), w.dialled...)
}

func (w *world) lookedUp() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, k := range w.lookups {
		n += k
	}
	return n
}

// serve puts a handler at addr:port.
func (w *world) serve(t testing.TB, at string, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	w.place(at, s.Listener.Addr().String())
	return s
}

func (w *world) place(at, real string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers[netip.MustParseAddrPort(at)] = real
}

// listen puts a raw TCP service at addr:port; each connection is served apart.
func (w *world) listen(t testing.TB, at string, serve func(net.Conn)) {
	t.Helper()
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
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	w.place(at, l.Addr().String())
}

func policy(t testing.TB, rules ...string) *Policy {
	t.Helper()
	p, err := NewPolicy(rules, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// start serves a proxy for w on 127.0.0.1 and gives its address.
func start(t testing.TB, w *world, o Options) (*Proxy, string) {
	t.Helper()
	if w != nil {
		o.Resolver, o.Dial = w, w.dial
	}
	p := hear(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(l) }()
	t.Cleanup(func() {
		p.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return p, l.Addr().String()
}

// heard has the denials of each proxy of a test, as OnDenial was told them.
var heard sync.Map // *Proxy -> *hearing

type hearing struct {
	mu   sync.Mutex
	list []Denial
}

// hear makes a proxy whose denials are kept.
func hear(o Options) *Proxy {
	h, next := &hearing{}, o.OnDenial
	o.OnDenial = func(d Denial) {
		h.mu.Lock()
		h.list = append(h.list, d)
		h.mu.Unlock()
		if next != nil {
			next(d)
		}
	}
	p := NewProxy(o)
	heard.Store(p, h)
	return p
}

func (p *Proxy) denials() []Denial {
	h, _ := heard.Load(p)
	h.(*hearing).mu.Lock()
	defer h.(*hearing).mu.Unlock()
	return slices.Clone(h.(*hearing).list)
}

// openClients counts the connections of clients.
func (p *Proxy) openClients() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.clients)
}

func connectTo(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// raw sends bytes and gives all that comes back until the proxy closes.
func raw(t testing.TB, addr, send string) string {
	t.Helper()
	c := connectTo(t, addr)
	_, _ = io.WriteString(c, send)
	_ = c.CloseWrite()
	b, _ := io.ReadAll(c)
	return string(b)
}

// status is the code of the first status line in an answer, 0 without one.
func status(answer string) int {
	rest, ok := strings.CutPrefix(answer, "HTTP/1.1 ")
	if !ok || len(rest) < 3 {
		return 0
	}
	n, _ := strconv.Atoi(rest[:3])
	return n
}

// connectTunnel opens a CONNECT tunnel and gives the connection and its reader.
func connectTunnel(t testing.TB, addr, target string) (*net.TCPConn, *bufio.Reader, int) {
	t.Helper()
	c := connectTo(t, addr)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"})
	if err != nil {
		t.Fatalf("CONNECT %s: %v", target, err)
	}
	resp.Body.Close()
	return c, br, resp.StatusCode
}

// socksBytes is a greeting and a request of one name.
func socksBytes(command, kind byte, addr []byte, port int) []byte {
	b := []byte{5, 1, 0, 5, command, 0, kind}
	if kind == 3 {
		b = append(b, byte(len(addr)))
	}
	b = append(b, addr...)
	return append(b, byte(port>>8), byte(port))
}

// socksOpen asks for a tunnel by name and gives the reply code, 255 for none.
func socksOpen(t testing.TB, addr string, request []byte) (*net.TCPConn, byte) {
	t.Helper()
	c := connectTo(t, addr)
	_, _ = c.Write(request)
	var b [12]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return c, 255
	}
	return c, b[3]
}

// ext is one TLS extension.
type ext struct {
	id   uint16
	data []byte
}

func sni(name string) ext {
	n := len(name)
	return ext{0, append([]byte{byte((n + 3) >> 8), byte(n + 3), 0, byte(n >> 8), byte(n)}, name...)}
}

// helloMsg is a ClientHello handshake message.
func helloMsg(exts ...ext) []byte {
	var e bytes.Buffer
	for _, x := range exts {
		e.Write([]byte{byte(x.id >> 8), byte(x.id), byte(len(x.data) >> 8), byte(len(x.data))})
		e.Write(x.data)
	}
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 0x01, 1, 0, byte(e.Len()>>8), byte(e.Len()))
	body = append(body, e.Bytes()...)
	return append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// records cuts a message into records of at most size bytes.
func records(msg []byte, size int) []byte {
	var out []byte
	for len(msg) > 0 {
		n := min(size, len(msg))
		out = append(out, 22, 3, 1, byte(n>>8), byte(n))
		out = append(out, msg[:n]...)
		msg = msg[n:]
	}
	return out
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("it never came about that %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// countDials counts the connections that a client opens.
func countDials(n *atomic.Int64) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.Add(1)
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
}
