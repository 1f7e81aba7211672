package serve

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"mcp-sandbox/session"
)

// TestSentOnIsKnownToHaveBegun: whatever way a server is away before it has asked for
// the body, the call was not begun there and is tried again; after that it may have been.
func TestSentOnIsKnownToHaveBegun(t *testing.T) {
	head := func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			t.Error(err)
		}
	}
	say := func(c net.Conn, text string) { _, _ = io.WriteString(c, text) }
	for name, tc := range map[string]struct {
		peer  func(c net.Conn) // nil: nobody listens
		begun bool
	}{
		"nobody listens":                    {nil, false},
		"closed when it connects":           {func(net.Conn) {}, false},
		"reset when it connects":            {func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, false},
		"closed after the header":           {head, false},
		"reset after the header":            {func(c net.Conn) { head(c); _ = c.(*net.TCPConn).SetLinger(0) }, false},
		"half an answer":                    {func(c net.Conn) { head(c); say(c, "HTTP/1.1 503 Serv") }, false},
		"something else answers":            {func(c net.Conn) { head(c); say(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") }, false},
		"closed when it asked for the body": {func(c net.Conn) { head(c); say(c, "HTTP/1.1 100 Continue\r\n\r\n"); _, _ = c.Read(make([]byte, 1)) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			if tc.peer == nil {
				l.Close()
			}
			go func() {
				defer close(done)
				c, err := l.Accept()
				if err != nil {
					return
				}
				tc.peer(c)
				c.Close()
			}()
			f := &forwarder{key: []byte("k"), client: peerClient()}
			defer f.close()
			resp, begun, _, err := f.sendTo(t.Context(), session.Holder{URL: "http://" + l.Addr().String(), ID: "a"}, &passing{method: http.MethodPost, uri: "/mcp", host: "localhost", header: http.Header{}, body: []byte(`{"jsonrpc":"2.0"}`)})
			if err == nil {
				resp.Body.Close()
			}
			if err == nil || begun() != tc.begun {
				t.Errorf("%v, begun %v", err, begun())
			}
			l.Close()
			<-done
		})
	}
}
