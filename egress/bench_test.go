package egress

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"
)

const transfer = 1 << 30

// BenchmarkTransfer carries 1 GiB to a client through the proxy by each road and
// compares it with the same without the proxy. A machine's load comes and goes,
// so each round runs both, one after the other; "ratio" is the median of the
// rounds' direct time over the proxy's, 1 being as fast. Use -benchtime 7x.
func BenchmarkTransfer(b *testing.B) {
	w := newWorld()
	w.name("a.example", public.String())
	chunk := make([]byte, 256<<10)
	send := func(c io.Writer) {
		for range transfer / len(chunk) {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}
	w.listen(b, public.String()+":7", func(c net.Conn) { send(c) })
	w.serve(b, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/chunked" {
			rw.Header().Set("Content-Length", strconv.Itoa(transfer))
		}
		send(rw)
	}))
	_, addr := start(b, w, Options{Policy: policy(b, "a.example:7", "a.example")})
	_, limited := start(b, w, Options{Policy: policy(b, "a.example:7"), MaxBytes: 1 << 60})
	var direct, directHTTP string
	for at, real := range w.servers {
		if at.Port() == 7 {
			direct = real
		} else {
			directHTTP = real
		}
	}
	buf := make([]byte, 256<<10)
	fetch := func(b *testing.B, to, ask string) time.Duration {
		began := time.Now()
		conn, err := net.Dial("tcp", to)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, ask)
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, buf)
		if err != nil || n < transfer {
			b.Fatalf("%d bytes, %v", n, err)
		}
		return time.Since(began)
	}
	for _, c := range []struct{ name, direct, directAsk, to, ask string }{
		{"connect", direct, "", addr, connectLine("a.example:7")},
		{"connect-limited", direct, "", limited, connectLine("a.example:7")},
		{"socks", direct, "", addr, socks(3, "a.example", 7)},
		{"http", directHTTP, "GET / HTTP/1.0\r\n\r\n", addr, "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
		{"http-chunked", directHTTP, "GET /chunked HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", addr, "GET http://a.example/chunked HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(2 * transfer)
			var ratios []float64
			for b.Loop() {
				without := fetch(b, c.direct, c.directAsk)
				ratios = append(ratios, float64(without)/float64(fetch(b, c.to, c.ask)))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
		})
	}
}

// BenchmarkRequest is the cost of one small request, each on its own tunnel.
func BenchmarkRequest(b *testing.B) {
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(b, public.String()+":7", echo)
	_, addr := start(b, w, Options{Policy: policy(b, "a.example:7")})
	ask := connectLine("a.example:7") + "x"
	for b.Loop() {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.WriteString(c, ask)
		_ = c.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
