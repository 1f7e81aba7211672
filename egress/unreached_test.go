package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestUnreachedReason: what is told of a failure is its own reason, and unknown where
// there is none to read.
func TestUnreachedReason(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for want, err := range map[string]error{
		"connection refused":                dial(syscall.ECONNREFUSED),
		"no route to host":                  dial(syscall.EHOSTUNREACH),
		"network is unreachable":            dial(syscall.ENETUNREACH),
		"timed out":                         dial(context.DeadlineExceeded),
		"no such host name":                 &net.DNSError{Name: "x.", IsNotFound: true},
		"the look-up of its name timed out": &net.DNSError{Name: "x.", IsTimeout: true},
		"the look-up of its name failed":    &net.DNSError{Name: "x.", Server: "10.0.0.1", Err: "server misbehaving"},
		"its name has no address":           &net.AddrError{Err: "no suitable address found", Addr: "x."},
		"unknown reason":                    errors.New("from 10.1.2.3"),
		"the connection ended":              fmt.Errorf("reading: %w", io.ErrUnexpectedEOF),
		"connection reset by peer":          dial(syscall.ECONNRESET),
	} {
		if got := answerReason(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// TestUnreachedIsTold: each way in tells of an allowed host that fails, and none of a
// host that answers.
func TestUnreachedIsTold(t *testing.T) {
	w := newWorld()
	w.name("down.example", public.String())
	w.name("mute.example", public.String())
	w.listen(t, public.String()+":8080", func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) })
	var mu sync.Mutex
	var told []string
	_, addr := start(t, w, Options{
		Policy:      policy(t, "*.example", "mute.example:8080"),
		OnUnreached: func(u Unreached) { mu.Lock(); defer mu.Unlock(); told = append(told, u.String()) },
	})
	const failed = " is allowed, and the server could not reach it: "
	for _, tc := range []struct{ send, want string }{
		{"CONNECT down.example:443 HTTP/1.1\r\n\r\n", "down.example:443" + failed + "unknown reason"},
		{"GET http://down.example/ HTTP/1.1\r\nHost: down.example\r\n\r\n", "down.example:80" + failed + "unknown reason"},
		{"CONNECT none.example:443 HTTP/1.1\r\n\r\n", "none.example:443" + failed + "no such host name"},
		{"\x05\x01\x00\x05\x01\x00\x03\x0cnone.example\x01\xbb", "none.example:443" + failed + "no such host name"},
		{"GET http://mute.example:8080/ HTTP/1.1\r\nHost: mute.example:8080\r\n\r\n", "mute.example:8080 is allowed, and the server got no usable answer from it: the connection ended"},
		{"GET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n", ""},
	} {
		mu.Lock()
		told = nil
		mu.Unlock()
		raw(t, addr, tc.send)
		mu.Lock()
		if got := strings.Join(told, "|"); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.send, got, tc.want)
		}
		mu.Unlock()
	}
}
