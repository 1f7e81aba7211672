package egress

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// noise is n bytes in which no piece looks like another.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// Bodies that the kernel moves arrive whole in both directions, and the
// connection carries the next request after them.
func TestBulkBodies(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	big := noise(5<<20 + 12345)
	w.serve(t, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = rw.Write(body)
	}))
	_, addr := start(t, w, Options{Policy: policy(t, "example.com")})
	u, _ := url.Parse("http://" + addr)
	var dials atomic.Int64
	tr := &http.Transport{Proxy: http.ProxyURL(u), MaxConnsPerHost: 1, DisableCompression: true, DialContext: countDials(&dials)}
	defer tr.CloseIdleConnections()
	for i, size := range []int{len(big), 10, bulkBody, bulkBody - 1, len(big)} {
		resp, err := (&http.Client{Transport: tr}).Post("http://example.com/", "", bytes.NewReader(big[:size]))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, big[:size]) {
			t.Errorf("request %d: %d bytes of %d, %v", i, len(got), size, err)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A body of known length that breaks off, at its server or at the byte limit,
// looks broken.
func TestBulkBodyBrokenOff(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	w.listen(t, public.String()+":80", func(c net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 8<<20)
		_, _ = c.Write(noise(5 << 20))
	})
	for name, limit := range map[string]int64{"server": 0, "limit": 3 << 20} {
		p, addr := start(t, w, Options{Policy: policy(t, "example.com"), MaxBytes: limit})
		c := connectTo(t, addr)
		fmt.Fprint(c, get("http://example.com/", "example.com"))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if err == nil || n > 5<<20 || limit > 0 && n > limit {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		until(t, "it is over", func() bool { return p.openClients() == 0 })
		if limit > 0 && (len(p.denials()) == 0 || p.budget.left.Load() < 0) {
			t.Errorf("the limit: %v, %d bytes left", p.denials(), p.budget.left.Load())
		}
	}
}

// A receiver that stops is cut off. What it had is a beginning of the stream: no
// piece that waited in the proxy is left out before a later one.
func TestStalledReceiver(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	sent := noise(64 << 20)
	over := make(chan struct{}, 2)
	w.listen(t, public.String()+":7", func(c net.Conn) {
		_, _ = c.Write(sent)
		over <- struct{}{}
	})
	w.serve(t, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(len(sent)))
		_, _ = rw.Write(sent)
		over <- struct{}{}
	}))
	p, addr := start(t, w, Options{Policy: policy(t, "example.com", "example.com:7"), IdleTimeout: 300 * time.Millisecond})
	for name, ask := range map[string]string{"tunnel": connectLine("example.com:7"), "http": get("http://example.com/", "example.com")} {
		c := connectTo(t, addr)
		_ = c.SetReadBuffer(64 << 10)
		_, _ = io.WriteString(c, ask)
		<-over
		until(t, "the proxy gives up", func() bool { return p.openClients() == 0 })
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
		if err != nil {
			t.Logf("%s: nothing was readable after the reset: %v", name, err)
			continue
		}
		resp.Body.Close()
		got, err := io.ReadAll(br)
		if err == nil || len(got) >= len(sent) || !bytes.HasPrefix(sent, got) {
			t.Errorf("%s: %d bytes, a beginning: %v, %v", name, len(got), bytes.HasPrefix(sent, got), err)
		}
	}
}

// The mover itself: a wait for bytes that ends leaves nothing behind, a wait for
// room that ends is told apart.
func TestBulkMove(t *testing.T) {
	pair := func() (*net.TCPConn, *net.TCPConn) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		a := connectTo(t, l.Addr().String())
		b, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return a, b.(*net.TCPConn)
	}
	from, src := pair()
	dst, to := pair()
	_ = to.SetReadBuffer(64 << 10)
	b := newBulk(dst, src)
	if b == nil {
		t.Skip("this system moves nothing in the kernel")
	}
	defer b.close()
	_ = src.SetReadDeadline(time.Now())
	var timeout net.Error
	if n, err := b.move(burst, time.Second); n != 0 || errors.Is(err, errLost) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("nothing to move: %d, %v", n, err)
	}
	_ = src.SetReadDeadline(time.Time{})
	text := noise(100)
	_, _ = from.Write(text)
	if n, err := b.move(60, time.Second); n != 60 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if n, err := b.move(burst, time.Second); n != 40 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	got := make([]byte, 100)
	if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, text) {
		t.Fatalf("%v", err)
	}
	wrote := make(chan struct{})
	go func() { defer close(wrote); _, _ = from.Write(noise(64 << 20)) }()
	var err error
	for range 10000 {
		if _, err = b.move(burst, 50*time.Millisecond); err != nil {
			break
		}
	}
	if !errors.Is(err, errLost) {
		t.Errorf("a receiver without room: %v", err)
	}
	from.Close()
	<-wrote

	from, src = pair()
	if b2 := newBulk(dst, src); b2 == nil {
		t.Error("no second mover")
	} else {
		from.Close()
		if _, err := b2.move(burst, time.Second); !errors.Is(err, io.EOF) {
			t.Errorf("the end: %v", err)
		}
		b2.close()
	}
}

// Each side may end its half alone, and servers may speak first.
func TestHalfClose(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":7", func(c net.Conn) {
		_, _ = io.WriteString(c, "SSH-2.0-server\r\n")
		_ = c.(*net.TCPConn).CloseWrite()
		got, _ := io.ReadAll(c)
		_ = got
	})
	sum := make(chan string, 1)
	w.listen(t, public.String()+":8", func(c net.Conn) {
		got, _ := io.ReadAll(c)
		sum <- string(got)
		fmt.Fprintf(c, "%d bytes", len(got))
	})
	_, addr := start(t, w, Options{Policy: policy(t, "a.example:7", "a.example:8")})
	c, code := socksOpen(t, addr, socksBytes(1, 3, []byte("a.example"), 7))
	if code != 0 {
		t.Fatal(code)
	}
	if got, err := io.ReadAll(c); string(got) != "SSH-2.0-server\r\n" || err != nil {
		t.Errorf("server first: %q, %v", got, err)
	}
	if _, err := io.WriteString(c, "still here"); err != nil {
		t.Errorf("after the server's end: %v", err)
	}
	c, code = socksOpen(t, addr, append(socksBytes(1, 3, []byte("a.example"), 8), "with the request, "...))
	if code != 0 {
		t.Fatal(code)
	}
	fmt.Fprint(c, "and after it")
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "30 bytes" || err != nil {
		t.Errorf("client ends first: %q, %v", got, err)
	}
	if got := <-sum; got != "with the request, and after it" {
		t.Errorf("the server got %q", got)
	}
}

// Bulk data is exact in both directions at once, and is counted.
func TestBulkIsExact(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":7", echo)
	const limit = 256 << 20
	p, addr := start(t, w, Options{Policy: policy(t, "a.example:7"), MaxBytes: limit, MaxConns: 4})
	data := noise(8<<20 + 12345)
	data[0] = 'x' // not the first byte of TLS
	c, br, _ := connectTunnel(t, addr, "a.example:7")
	go func() {
		_, _ = c.Write(data)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(br)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
	c.Close()
	until(t, "the tunnel ends", func() bool { return p.openClients() == 0 })
	if left := p.budget.left.Load(); left != limit-2*int64(len(data)) {
		t.Errorf("%d bytes are left, want %d", left, limit-2*len(data))
	}
}

// A reader that does not read holds the sender back instead of filling memory.
func TestBackPressure(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	var sent atomic.Int64
	w.listen(t, public.String()+":7", func(c net.Conn) {
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Write(buf)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	p, addr := start(t, w, Options{Policy: policy(t, "a.example:7")})
	c, _, _ := connectTunnel(t, addr, "a.example:7")
	// Held back is told by a count that stands still, whatever the kernel's buffers are.
	last, still := int64(-1), 0
	until(t, "the sender is held back", func() bool {
		now := sent.Load()
		if now > 0 && now == last {
			still++
		} else {
			still = 0
		}
		last = now
		time.Sleep(5 * time.Millisecond)
		return still > 20
	})
	if last > 64<<20 {
		t.Errorf("%d bytes are under way to a client that reads none", last)
	}
	c.Close()
	until(t, "the tunnel ends", func() bool { return p.openClients() == 0 })
}
