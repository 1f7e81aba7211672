package serve

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// A connection that never had a let-in request gives way before a client's that
// waits for its next call, however much younger it is; one at work never does.
func TestConnLimitSparesClients(t *testing.T) {
	l := newConnLimit(3)
	open := func() (net.Conn, context.Context) {
		c, other := net.Pipe()
		t.Cleanup(func() { c.Close(); other.Close() })
		return c, l.context(context.Background(), c)
	}
	held := func(c net.Conn) bool { return l.conns[c] != nil }
	working, ctx := open()
	defer l.work(ctx)()
	client, ctx := open()
	l.work(ctx)()
	stranger, _ := open()
	next, ctx := open()
	if held(stranger) || !held(working) || !held(client) || !held(next) {
		t.Fatalf("stranger %v, working %v, client %v, next %v", held(stranger), held(working), held(client), held(next))
	}
	// Among equals the oldest goes.
	l.work(ctx)()
	if last, _ := open(); held(client) || !held(working) || !held(next) || !held(last) {
		t.Errorf("client %v, working %v, next %v, last %v", held(client), held(working), held(next), held(last))
	}
}

// TestCutConnections: a connection that gave way without ever having had a
// request let in is served no more, and closed later, or when there are as many
// of these as of others; a client's is closed at once. The end closes all.
func TestCutConnections(t *testing.T) {
	const most = 4
	h, url := startHTTP(t, Options{MaxConns: most})
	h.conns.mu.Lock()
	h.conns.cutAfter = time.Hour
	h.conns.mu.Unlock()
	dial := func(first string) net.Conn {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_, _ = io.WriteString(c, first)
		return c
	}
	const slow = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
	open := func(c net.Conn) bool {
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	closed := func(c net.Conn) bool {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, err := c.Read(make([]byte, 1))
		return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	}
	cut := func(want int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			h.conns.mu.Lock()
			got := h.conns.cut.Len()
			h.conns.mu.Unlock()
			if got == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d connections were cut and are open, want %d", got, want)
			}
		}
	}
	var all []net.Conn
	for range 2 * most {
		all = append(all, dial(slow))
	}
	cut(most)
	for i, c := range all {
		if !open(c) {
			t.Errorf("connection %d is closed", i)
		}
	}
	// Its end of the header comes too late.
	_, _ = io.WriteString(all[0], "a\r\nContent-Length: 0\r\n\r\n")
	if !open(all[0]) {
		t.Error("a connection that was cut is served")
	}
	last := dial(slow)
	// The order in which they are let go may differ by a moment from that in which
	// they came.
	gone := 0
	for end := time.Now().Add(20 * time.Second); gone == 0 && time.Now().Before(end); {
		for _, c := range all[:most+1] {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				gone++
			}
		}
	}
	if gone != 1 {
		t.Errorf("%d of those that were cut are closed, want 1", gone)
	}
	cut(most)
	h.conns.mu.Lock()
	n := len(h.conns.conns)
	h.conns.mu.Unlock()
	if n != most || !open(last) {
		t.Errorf("%d connections, the last one open: %v", n, open(last))
	}

	// Clients' connections go when there are no others, and at once.
	clients := make([]net.Conn, most+1)
	for i := range clients {
		clients[i] = dial("GET /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + annToken + "\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(clients[i]), nil); err != nil || resp.StatusCode != 400 {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	cut(most)
	if !closed(clients[0]) || !open(clients[most]) {
		t.Error("the oldest client's connection is open or the youngest's is not")
	}
	h.conns.close()
	for _, c := range all {
		if !closed(c) {
			t.Error("a connection that was cut outlives the server")
		}
	}
}

// What is not looked at any more is closed after a while.
func TestCutConnectionsAge(t *testing.T) {
	h, url := startHTTP(t, Options{MaxConns: 1})
	h.conns.mu.Lock()
	h.conns.cutAfter = time.Millisecond
	h.conns.mu.Unlock()
	for range 3 {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "P")
		if c, err = net.Dial("tcp", strings.TrimPrefix(url, "http://")); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		h.conns.mu.Lock()
		n, held := h.conns.cut.Len(), len(h.conns.conns)
		h.conns.mu.Unlock()
		if n == 0 && held == 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d that were cut are open, beside %d", n, held)
		}
	}
}
