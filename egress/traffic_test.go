package egress

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// httpsServer serves TLS for example.com at public:443.
func httpsServer(t testing.TB, w *world, h http.Handler) *http.Transport {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS() // its certificate is for example.com
	t.Cleanup(s.Close)
	w.place(public.String()+":443", s.Listener.Addr().String())
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// TLS through all three kinds of proxy address that Go's client knows.
func TestTLSEndToEnd(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	tr := httpsServer(t, w, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, r.Host, " ", r.TLS.ServerName) }))
	_, addr := start(t, w, Options{Policy: policy(t, "example.com"), Token: "t"})
	for _, scheme := range []string{"http", "socks5", "socks5h"} {
		u, _ := url.Parse(scheme + "://x:t@" + addr)
		tr.CloseIdleConnections()
		tr.Proxy = http.ProxyURL(u)
		resp, err := (&http.Client{Transport: tr}).Get("https://example.com/")
		if err != nil {
			t.Errorf("%s: %v", scheme, err)
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "example.com example.com" {
			t.Errorf("%s: %q", scheme, b)
		}
	}
}

// A refused server name is told to the client in TLS's own words.
func TestSNIRefusalIsAnAlert(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	httpsServer(t, w, http.NotFoundHandler())
	p, addr := start(t, w, Options{Policy: policy(t, "example.com")})
	c, _, code := connectTunnel(t, addr, "example.com:443")
	if code != 200 {
		t.Fatal(code)
	}
	err := tls.Client(c, &tls.Config{ServerName: "evil.test"}).Handshake()
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("handshake: %v", err)
	}
	d := p.Denials(time.Time{})
	if len(d) != 1 || !strings.Contains(d[0].Reason, `"evil.test"`) || d[0].Flag != "" {
		t.Errorf("denials: %+v", d)
	}
}

// What a forwarded request and its answer keep and lose.
func TestForwardedHeaders(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	seen := make(chan *http.Request, 1)
	w.serve(t, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		seen <- r.Clone(r.Context())
		c, _, _ := rw.(http.Hijacker).Hijack() // net/http would replace Connection
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 418 I'm a teapot\r\nConnection: X-Drop\r\nX-Drop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n")
	}))
	_, addr := start(t, w, Options{Policy: policy(t, "example.com")})
	answer := raw(t, addr, "GET http://example.com?q=1%20é HTTP/1.1\r\nHost: example.com\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nProxy-Authorization: Basic eDp5\r\nAuthorization: Basic eDp5\r\nCookie: a=b\r\nX-Kept: \t v w \r\n\r\n")
	r := <-seen
	if r.Host != "example.com" || r.RequestURI != "/?q=1%20é" {
		t.Errorf("host %q, target %q", r.Host, r.RequestURI)
	}
	for name := range map[string]bool{"X-Mine": true, "Keep-Alive": true, "Proxy-Connection": true, "Te": true, "Trailer": true, "Upgrade": true, "Http2-Settings": true, "Proxy-Authorization": true} {
		if r.Header.Get(name) != "" {
			t.Errorf("the server saw %s", name)
		}
	}
	if r.Header.Get("Authorization") == "" || r.Header.Get("Cookie") != "a=b" || r.Header.Get("X-Kept") != "v w" || r.Header.Get("Via") == "" || !r.Close {
		t.Errorf("the server saw %v", r.Header)
	}
	for _, gone := range []string{"X-Drop", "Keep-Alive", "Proxy-Authenticate"} {
		if strings.Contains(answer, gone) {
			t.Errorf("the client saw %s", gone)
		}
	}
	if status(answer) != 418 || !strings.Contains(answer, "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n") || !strings.Contains(answer, "Connection: close") {
		t.Errorf("answer %q", answer)
	}
}

// Answers of every framing arrive whole, and one client connection carries them
// one after the other.
func TestKeepAlive(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	w.serve(t, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/length":
			rw.Header().Set("Content-Length", strconv.Itoa(len(big)))
			_, _ = rw.Write(big)
		case "/chunked":
			_, _ = rw.Write(big[:len(big)/2])
			rw.(http.Flusher).Flush()
			_, _ = rw.Write(big[len(big)/2:])
		case "/204":
			rw.WriteHeader(204)
		case "/304":
			rw.Header().Set("ETag", `"x"`)
			rw.WriteHeader(304)
		case "/echo":
			_, _ = rw.Write(body)
		case "/hints":
			rw.Header().Set("Link", "</x>")
			rw.WriteHeader(103)
			rw.WriteHeader(200)
		}
	}))
	p, addr := start(t, w, Options{Policy: policy(t, "example.com")})
	u, _ := url.Parse("http://" + addr)
	tr := &http.Transport{Proxy: http.ProxyURL(u), MaxConnsPerHost: 1, DisableCompression: true}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	for _, c := range []struct {
		method, path string
		body         io.Reader
		status       int
		want         []byte
	}{
		{"GET", "/length", nil, 200, big}, {"GET", "/chunked", nil, 200, big}, {"HEAD", "/length", nil, 200, nil}, {"GET", "/204", nil, 204, nil}, {"GET", "/304", nil, 304, nil},
		{"POST", "/echo", bytes.NewReader(big), 200, big}, {"POST", "/echo", io.MultiReader(bytes.NewReader(big)), 200, big}, {"POST", "/echo", bytes.NewReader(nil), 200, nil}, {"GET", "/hints", nil, 200, nil}, {"GET", "/length", nil, 200, big},
	} {
		req, _ := http.NewRequest(c.method, "http://example.com"+c.path, c.body)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", c.method, c.path, err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !bytes.Equal(got, c.want) {
			t.Errorf("%s %s: %d, %d bytes, %v; want %d, %d bytes", c.method, c.path, resp.StatusCode, len(got), err, c.status, len(c.want))
		}
		if c.method == "HEAD" && resp.ContentLength != int64(len(big)) {
			t.Errorf("HEAD: length %d", resp.ContentLength)
		}
	}
	if n := p.Stats().Connections; n != 1 {
		t.Errorf("%d connections for requests that could share one", n)
	}
	// A client of HTTP/1.0 cannot read chunks.
	answer := raw(t, addr, "GET http://example.com/chunked HTTP/1.0\r\n\r\n")
	if _, body, _ := strings.Cut(answer, "\r\n\r\n"); body != string(big) || strings.Contains(answer, "chunked") {
		t.Errorf("HTTP/1.0: %d bytes", len(body))
	}
}

func TestExpectContinue(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	w.serve(t, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = io.Copy(rw, r.Body) }))
	_, addr := start(t, w, Options{Policy: policy(t, "example.com")})
	c := connectTo(t, addr)
	fmt.Fprintf(c, "PUT http://example.com/ HTTP/1.1\r\nHost: example.com\r\nExpect: 100-Continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n")
	br := bufio.NewReader(c)
	if line, _ := br.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("%q", line)
	}
	_, _ = io.WriteString(c, "body")
	if rest, _ := io.ReadAll(br); !strings.HasSuffix(string(rest), "\r\n\r\nbody") {
		t.Errorf("%q", rest)
	}
	if got := raw(t, addr, "PUT http://example.com/ HTTP/1.1\r\nHost: example.com\r\nExpect: magic\r\n\r\n"); status(got) != 417 {
		t.Errorf("%q", got)
	}
}

// An answer before the end of the body reaches the client, and what is left of
// the body is not taken for a request.
func TestEarlyAnswer(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	requests := atomic.Int64{}
	w.serve(t, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		rw.WriteHeader(413)
	}))
	p, addr := start(t, w, Options{Policy: policy(t, "example.com")})
	c := connectTo(t, addr)
	fmt.Fprintf(c, "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100000\r\n\r\npart")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 413 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	fmt.Fprint(c, "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
	_, _ = io.Copy(io.Discard, br)
	until(t, "the connection ends", func() bool { return p.Stats().Open == 0 })
	if requests.Load() != 1 {
		t.Errorf("%d requests arrived", requests.Load())
	}
}

// A body that breaks its framing never becomes a whole request upstream.
func TestBrokenBodies(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	whole := atomic.Int64{}
	w.serve(t, public.String()+":80", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			whole.Add(1)
		}
	}))
	p, addr := start(t, w, Options{Policy: policy(t, "example.com")})
	for name, c := range map[string]struct {
		header, body string
		answered     bool
	}{
		"short length":    {"Content-Length: 10", "four", false},
		"short chunk":     {"Transfer-Encoding: chunked", "9\r\nfour", true},
		"no last chunk":   {"Transfer-Encoding: chunked", "4\r\nfour\r\n", true},
		"bad size":        {"Transfer-Encoding: chunked", "zz\r\nfour\r\n0\r\n\r\n", true},
		"negative size":   {"Transfer-Encoding: chunked", "-4\r\nfour\r\n0\r\n\r\n", true},
		"huge size":       {"Transfer-Encoding: chunked", "ffffffffffffffffff\r\nfour\r\n0\r\n\r\n", true},
		"no CRLF after":   {"Transfer-Encoding: chunked", "4\r\nfourX0\r\n\r\n", true},
		"bare LF size":    {"Transfer-Encoding: chunked", "4\nfour\r\n0\r\n\r\n", true},
		"endless trailer": {"Transfer-Encoding: chunked", "0\r\n" + strings.Repeat("A: b\r\n", 5000), true},
		"bare LF trailer": {"Transfer-Encoding: chunked", "0\r\nA: b\n\n", true},
	} {
		answer := raw(t, addr, "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\n"+c.header+"\r\n\r\n"+c.body)
		if s := status(answer); s == 200 || c.answered && s != 400 {
			t.Errorf("%s: %q", name, answer)
		}
	}
	p.Close()
	if whole.Load() != 0 {
		t.Errorf("%d broken requests arrived whole", whole.Load())
	}
}

// A broken-off answer does not look whole to the client.
func TestBrokenAnswers(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	var answer atomic.Value
	w.listen(t, public.String()+":80", func(c net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, answer.Load().(string))
	})
	_, addr := start(t, w, Options{Policy: policy(t, "example.com")})
	for name, c := range map[string]struct {
		answer string
		status int // 0: the client's connection fails
	}{
		"short length":     {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour", 0},
		"short chunk":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nfour", 0},
		"no last chunk":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n", 0},
		"nothing":          {"", 502},
		"HTTP/0.9":         {"<html>", 502},
		"two lengths":      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 502},
		"endless head":     {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 2000), 502},
		"unasked 101":      {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nevil", 502},
		"endless interims": {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000), 502},
		"until the end":    {"HTTP/1.1 200 OK\r\n\r\nfour", 200},
	} {
		answer.Store(c.answer)
		conn := connectTo(t, addr)
		fmt.Fprint(conn, "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if c.status == 0 {
			if err == nil {
				t.Errorf("%s looks whole", name)
			}
		} else if err != nil || resp.StatusCode != c.status {
			t.Errorf("%s: %v, want %d", name, err, c.status)
		}
	}
}

// A WebSocket on port 80 becomes a tunnel once the server agrees.
func TestWebSocket(t *testing.T) {
	w := newWorld()
	w.name("example.com", public.String())
	w.serve(t, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			rw.WriteHeader(400)
			return
		}
		c, brw, _ := rw.(http.Hijacker).Hijack()
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst\n")
		_, _ = io.Copy(c, brw)
	}))
	_, addr := start(t, w, Options{Policy: policy(t, "example.com")})
	c, br, _ := connectTunnel(t, addr, "example.com:80")
	fmt.Fprint(c, "GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	fmt.Fprint(c, "second\n")
	_ = c.CloseWrite()
	if got, _ := io.ReadAll(br); string(got) != "first\nsecond\n" {
		t.Errorf("%q", got)
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
	data := make([]byte, 8<<20+12345)
	_, _ = rand.Read(data)
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
	until(t, "the tunnel ends", func() bool { return p.Stats().Open == 0 })
	if s := p.Stats(); s.BytesUp != int64(len(data)) || s.BytesDown != int64(len(data)) {
		t.Errorf("%+v", s)
	}
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
	until(t, "the tunnel ends", func() bool { return p.Stats().Open == 0 })
}

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
		if s := p.Stats(); n > limit+1024 || s.BytesDown+s.BytesUp > limit || s.BytesDown < limit/2 {
			t.Errorf("%s: %d bytes of %d, %+v", name, n, limit, s)
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
	p, addr := start(t, w, Options{Policy: policy(t, "a.example:7"), MaxBytes: limit, MaxConns: 4})
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
	s := p.Stats()
	if s.BytesDown > limit || sum > limit || s.BytesDown < limit-3*copyBuffer {
		t.Errorf("%d bytes arrived, %+v, limit %d", sum, s, limit)
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
	until(t, "the denial is known", func() bool { return len(p.Denials(time.Time{})) == 1 })
	if d := p.Denials(time.Time{}); len(d) != 1 || !strings.Contains(d[0].String(), "2 connections are open") {
		t.Errorf("denials %v", d)
	}
	first.Close()
	until(t, "a place is free", func() bool { return p.Stats().Open == 1 })
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
	until(t, "all are closed", func() bool { return p.Stats().Open == 0 })
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

// FuzzRequest feeds whole conversations to the proxy: nothing but the one allowed
// endpoint may be dialled, and the proxy must come to an end.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		get("http://a.example/", "a.example"), connectLine("a.example:443") + string(records(helloMsg(sni("a.example")), 100)), connectLine("a.example:80") + get("/", "a.example"),
		socks(3, "a.example", 443), "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	w := newWorld()
	w.name("a.example", public.String())
	w.serve(f, public.String()+":80", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	w.listen(f, public.String()+":443", echo)
	_, addr := start(f, w, Options{Policy: policy(f, "a.example"), HeaderTimeout: time.Second, IdleTimeout: time.Second})
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Skip()
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write(in)
		_ = c.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatal("no end")
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, to := range w.dialled {
			if to.Addr() != public || to.Port() != 80 && to.Port() != 443 {
				t.Fatalf("dialled %s", to)
			}
		}
		w.dialled = w.dialled[:0]
		for name := range w.lookups {
			if name != "a.example" {
				t.Fatalf("looked up %q", name)
			}
		}
	})
}
