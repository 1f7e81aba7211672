package egress

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

const transfer = 1 << 30

// BenchmarkTransfer carries 1 GiB to a client: direct, and through the proxy by
// each road. Compare MB/s within one run.
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
	w.serve(b, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", fmt.Sprint(transfer))
		send(rw)
	}))
	_, addr := start(b, w, Options{Policy: policy(b, "a.example:7", "a.example")})
	_, limited := start(b, w, Options{Policy: policy(b, "a.example:7"), MaxBytes: 1 << 60})
	drain := func(c net.Conn) error {
		buf := make([]byte, 256<<10)
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, buf)
		if err == nil && n < transfer {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	var direct, directHTTP string
	for at, real := range w.servers {
		if at.Port() == 7 {
			direct = real
		} else {
			directHTTP = real
		}
	}
	for _, c := range []struct{ name, to, ask string }{
		{"direct", direct, ""},
		{"connect", addr, connectLine("a.example:7")},
		{"connect-limited", limited, connectLine("a.example:7")},
		{"socks", addr, socks(3, "a.example", 7)},
		{"http-direct", directHTTP, "GET / HTTP/1.0\r\n\r\n"},
		{"http", addr, get("http://a.example/", "a.example")},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(transfer)
			for b.Loop() {
				conn, err := net.Dial("tcp", c.to)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.WriteString(conn, c.ask)
				if err := drain(conn); err != nil {
					b.Fatal(err)
				}
				conn.Close()
			}
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
