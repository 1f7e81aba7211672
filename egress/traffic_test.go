package egress

import (
	"bufio"
	"bytes"
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
	_, addr := start(t, w, Options{Policy: policy(t, "example.com")})
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
	d := p.denials()
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
	_, addr := start(t, w, Options{Policy: policy(t, "example.com")})
	u, _ := url.Parse("http://" + addr)
	var dials atomic.Int64
	tr := &http.Transport{Proxy: http.ProxyURL(u), MaxConnsPerHost: 1, DisableCompression: true, DialContext: countDials(&dials)}
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
	if n := dials.Load(); n != 1 {
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
	until(t, "the connection ends", func() bool { return p.openClients() == 0 })
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
