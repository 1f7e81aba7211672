package session

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// insideNet is a network of its own: only its listeners can be dialled.
type insideNet struct {
	*fakeSandbox
	mu   sync.Mutex
	open map[int]string // port -> address on the host
}

func (n *insideNet) Dial(ctx context.Context, port int) (net.Conn, error) {
	n.mu.Lock()
	addr := n.open[port]
	n.mu.Unlock()
	if addr == "" {
		return nil, errorf("not_found", nil, "not_found")
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

type insideLauncher struct{ n *insideNet }

func (l insideLauncher) Start(ctx context.Context, c sandbox.Policy, up Callbacks) (sandbox.Sandbox, error) {
	l.n.fakeSandbox = &fakeSandbox{done: make(chan struct{}), home: c.Workspace}
	return l.n, nil
}

func portSession(t *testing.T, c Config) (*insideNet, *Session) {
	t.Helper()
	w := newWorld(t)
	n := &insideNet{open: map[int]string{}}
	c.StateDir, c.TempDir = w.state, w.temp
	m, err := NewManager(c, insideLauncher{n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	s, err := m.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	return n, s
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestExposePort(t *testing.T) {
	port, taken := freePort(t), freePort(t)
	n, s := portSession(t, Config{Expose: []int{port, taken}})
	_, err := s.ExposePort(t.Context(), 1)
	wantCode(t, err, "port_not_exposed")
	_, err = s.ExposePort(t.Context(), 70000)
	wantCode(t, err, "invalid_argument")

	p, err := s.ExposePort(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	if p.HostPort != port || p.Listening || p.URL != fmt.Sprintf("http://127.0.0.1:%d", port) {
		t.Errorf("%+v", p)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	if r, err := client.Get(p.URL); err == nil {
		r.Body.Close()
		t.Error("something answers though nothing listens inside")
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	defer srv.Close()
	n.mu.Lock()
	n.open[port] = srv.Listener.Addr().String()
	n.mu.Unlock()
	again, err := s.ExposePort(t.Context(), port)
	if err != nil || again.URL != p.URL || !again.Listening {
		t.Errorf("%+v, %v", again, err)
	}
	big := strings.Repeat("0123456789", 200_000)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, err := client.Post(p.URL, "text/plain", strings.NewReader(big))
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			if b, err := io.ReadAll(r.Body); err != nil || string(b) != big {
				t.Errorf("%d bytes came back, %v", len(b), err)
			}
		})
	}
	wg.Wait()

	// A port that this machine uses already leads in from another one.
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", taken))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p2, err := s.ExposePort(t.Context(), taken)
	if err != nil || p2.HostPort == taken {
		t.Errorf("%+v, %v", p2, err)
	}
	if got := s.ExposedPorts(); len(got) != 2 {
		t.Errorf("exposed: %v", got)
	}

	// The end of the session closes doors and what goes through them.
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.HostPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a connection outlives its session: %v", err)
	}
	if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.HostPort)); err == nil {
		c.Close()
		t.Error("the door outlives its session")
	}
	_, err = s.ExposePort(t.Context(), port)
	wantCode(t, err, "session_not_found")
}

// TestExposeHalfClose: a side that has said all still hears the answer.
func TestExposeHalfClose(t *testing.T) {
	port := freePort(t)
	n, s := portSession(t, Config{Expose: []int{AnyPort}})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n.open[port] = l.Addr().String()
	var wg sync.WaitGroup
	defer wg.Wait()
	p, err := s.ExposePort(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c)
			_, _ = fmt.Fprintf(c, "%d bytes", len(b))
			c.Close()
			if len(b) > 0 {
				return
			}
		}
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "hello")
	_ = c.(*net.TCPConn).CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(c); err != nil || string(b) != "5 bytes" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestExposeModes(t *testing.T) {
	_, s := portSession(t, Config{Expose: []int{AnyPort}, Network: "none"})
	_, err := s.ExposePort(t.Context(), 80)
	wantCode(t, err, "confinement_unavailable")

	srv := httptest.NewServer(nil)
	defer srv.Close()
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	_, s = portSession(t, Config{Expose: []int{AnyPort}, Network: "host"})
	if p, err := s.ExposePort(t.Context(), port); err != nil || p.HostPort != port || !p.Listening {
		t.Errorf("%+v, %v", p, err)
	}
	_, s = portSession(t, Config{Expose: []int{AnyPort}})
	for i := range maxForwards {
		if _, err := s.ExposePort(t.Context(), 20000+i); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.ExposePort(t.Context(), 30000)
	wantCode(t, err, "limit_reached")
}

func TestParsePorts(t *testing.T) {
	got, err := ParsePorts([]string{"80", " 8000", "80", "any"})
	if err != nil || fmt.Sprint(got) != "[80 8000 0]" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"0", "65536", "-1", "x", "80-90", ""} {
		_, err := ParsePorts([]string{bad})
		wantCode(t, err, "invalid_argument")
	}
}
