package egress

import (
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestByteLimit(t *testing.T) {
	const limit = 1 << 20
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":7", func(c net.Conn) { _, _ = io.Copy(c, io.LimitReader(rand.Reader, 4*limit)) })
	w.serve(t, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(rw, rand.Reader, 4*limit) }))
	for name, ask := range map[string]string{"tunnel": connectLine("a.example:7"), "http": get("http://a.example/", "a.example")} {
		p, addr := start(t, w, Options{Policy: policy(t, "a.example:7", "a.example"), MaxBytes: limit})
		c := connectTo(t, addr)
		_, _ = io.WriteString(c, ask)
		n, _ := io.Copy(io.Discard, c)
		if left := p.budget.left.Load(); n > limit+1024 || left < 0 || left > limit/2 {
			t.Errorf("%s: %d bytes of %d, %d left", name, n, limit, left)
		}
		if got := raw(t, addr, ask); status(got) != 503 || !strings.Contains(got, "limit_reached") {
			t.Errorf("%s after the limit: %q", name, got)
		}
	}
}

// The splice path keeps to the limit too, also with many connections at it.
func TestByteLimitExact(t *testing.T) {
	const limit = 24 << 20
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":7", func(c net.Conn) { _, _ = io.Copy(c, io.LimitReader(zeros{}, limit)) })
	_, addr := start(t, w, Options{Policy: policy(t, "a.example:7"), MaxBytes: limit, MaxConns: 4})
	total := make(chan int64)
	for range 3 {
		c, br, _ := connectTunnel(t, addr, "a.example:7")
		go func() {
			n, _ := io.Copy(io.Discard, br)
			c.Close()
			total <- n
		}()
	}
	sum := <-total + <-total + <-total
	if sum > limit || sum < limit/2 {
		t.Errorf("%d bytes arrived, limit %d", sum, limit)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestConnectionLimit(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":7", echo)
	p, addr := start(t, w, Options{Policy: policy(t, "a.example:7"), MaxConns: 2})
	first, _, _ := connectTunnel(t, addr, "a.example:7")
	connectTunnel(t, addr, "a.example:7")
	c := connectTo(t, addr)
	if got, _ := io.ReadAll(c); status(string(got)) != 503 {
		t.Errorf("third: %q", got)
	}
	until(t, "the denial is known", func() bool { return len(p.denials()) == 1 })
	if d := p.denials(); len(d) != 1 || !strings.Contains(d[0].String(), "2 connections are open") {
		t.Errorf("denials %v", d)
	}
	first.Close()
	until(t, "a place is free", func() bool { return p.openClients() == 1 })
	if _, _, code := connectTunnel(t, addr, "a.example:7"); code != 200 {
		t.Errorf("after one left: %d", code)
	}
}

// Slowloris: a head, a handshake or a hello that does not end is ended.
func TestSlowClients(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":443", echo)
	w.listen(t, public.String()+":7", echo)
	p, addr := start(t, w, Options{Policy: policy(t, "a.example", "a.example:7"), HeaderTimeout: 50 * time.Millisecond, IdleTimeout: 150 * time.Millisecond})
	for name, begin := range map[string]string{
		"nothing": "", "method": "GE", "head": "GET http://a.example/ HTTP/1.1\r\nX: ", "greeting": "\x05", "request": "\x05\x01\x00\x05\x01\x00\x03\xff",
		"no hello": connectLine("a.example:443"), "half a hello": connectLine("a.example:443") + "\x16\x03\x01\x10", "idle tunnel": connectLine("a.example:7"), "half a hello on 7": connectLine("a.example:7") + "\x16",
		"tunnel 80": connectLine("a.example:80") + "GET",
	} {
		c := connectTo(t, addr)
		_, _ = io.WriteString(c, begin)
		if _, err := io.ReadAll(c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: still open", name)
		}
	}
	until(t, "all are closed", func() bool { return p.openClients() == 0 })
	// A stream that moves in one direction only is not idle.
	w.listen(t, public.String()+":7", func(c net.Conn) {
		for range 30 {
			if _, err := io.WriteString(c, "."); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	c, br, _ := connectTunnel(t, addr, "a.example:7")
	if got, err := io.ReadAll(br); len(got) != 30 || err != nil {
		t.Errorf("a slow stream: %d bytes, %v", len(got), err)
	}
	c.Close()
}

// Heads past their limits are refused, and cost no more than the limit.
func TestHeadLimits(t *testing.T) {
	_, addr := start(t, newWorld(), Options{Policy: policy(t, "a.example")})
	line := "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n"
	for name, head := range map[string]string{
		"long line": line + "X: " + strings.Repeat("y", 20000) + "\r\n\r\n", "many fields": line + strings.Repeat("X: y\r\n", 200) + "\r\n", "long head": line + strings.Repeat("X: "+strings.Repeat("y", 4000)+"\r\n", 20) + "\r\n",
		"long target": "GET http://a.example/" + strings.Repeat("y", 20000) + " HTTP/1.1\r\nHost: a.example\r\n\r\n",
	} {
		if got := raw(t, addr, head); status(got) != 431 {
			t.Errorf("%s: %.80q", name, got)
		}
	}
}
