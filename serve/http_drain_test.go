package serve

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// slowListener is one of a busy server: connections and what comes on them wait while
// it is shut.
type slowListener struct {
	*net.TCPListener
	accepts, reads shutter
}

type shutter struct{ shut atomic.Pointer[chan struct{}] }

func (g *shutter) close() { c := make(chan struct{}); g.shut.Store(&c) }
func (g *shutter) open()  { close(*g.shut.Swap(nil)) }
func (g *shutter) pass() {
	if c := g.shut.Load(); c != nil {
		<-*c
	}
}

func (l *slowListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	l.accepts.pass()
	if err != nil {
		return nil, err
	}
	return &slowConn{c, &l.reads}, nil
}

type slowConn struct {
	*net.TCPConn
	reads *shutter
}

func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.reads.pass()
	return n, err
}

const probe = "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + annToken + "\r\n\r\n"

// status sends a request on c and gives the status of its answer.
func status(c net.Conn, r *bufio.Reader) (int, error) {
	if _, err := io.WriteString(c, probe); err != nil {
		return 0, err
	}
	return answered(r)
}

func answered(r *bufio.Reader) (int, error) {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// TestStopAnswersWhoHasConnected: a request that reached a stopping server before it
// closed its listener or the connection is answered, so that its client knows that
// nothing was done.
func TestStopAnswersWhoHasConnected(t *testing.T) {
	for name, try := range map[string]func(t *testing.T, addr string, l *slowListener, stop func()){
		"connections that were not accepted": func(t *testing.T, addr string, l *slowListener, stop func()) {
			l.accepts.close()
			var conns []net.Conn
			for range 5 {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := io.WriteString(c, probe); err != nil {
					t.Fatal(err)
				}
				conns = append(conns, c)
			}
			stop()
			l.accepts.open()
			for i, c := range conns {
				if got, err := answered(bufio.NewReader(c)); got != http.StatusServiceUnavailable {
					t.Errorf("connection %d: %d %v", i, got, err)
				}
			}
		},
		"a request on an idle connection": func(t *testing.T, addr string, l *slowListener, stop func()) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			r := bufio.NewReader(c)
			if got, err := status(c, r); got != http.StatusBadRequest {
				t.Fatalf("%d %v", got, err)
			}
			l.reads.close()
			if _, err := io.WriteString(c, probe); err != nil {
				t.Fatal(err)
			}
			stop()
			l.reads.open()
			if got, err := answered(r); got != http.StatusServiceUnavailable {
				t.Errorf("%d %v", got, err)
			}
		},
		"clients that come all the time": func(t *testing.T, addr string, _ *slowListener, stop func()) {
			if runtime.GOOS != "linux" {
				t.Skip("new connections cannot be kept away there")
			}
			var wg sync.WaitGroup
			var refused, answers atomic.Int64
			for range 4 {
				wg.Go(func() {
					for {
						c, err := net.Dial("tcp", addr)
						if err != nil {
							refused.Add(1)
							return
						}
						if got, err := status(c, bufio.NewReader(c)); err != nil || got != http.StatusBadRequest && got != http.StatusServiceUnavailable {
							t.Errorf("after %d answers: %d %v", answers.Load(), got, err)
						}
						answers.Add(1)
						c.Close()
					}
				})
			}
			for answers.Load() < 20 {
				time.Sleep(time.Millisecond)
			}
			stop()
			wg.Wait()
			if refused.Load() != 4 {
				t.Error(refused.Load())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _ := startHTTP(t, Options{})
			var c net.ListenConfig
			c.SetMultipathTCP(false)
			on, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := &slowListener{TCPListener: on.(*net.TCPListener)}
			ctx, cancel := context.WithCancel(context.Background())
			served := make(chan error, 1)
			go func() { served <- h.Serve(ctx, l) }()
			defer func() { cancel(); <-served }()
			try(t, on.Addr().String(), l, func() {
				cancel()
				for !h.leaving.Load() {
					time.Sleep(time.Millisecond)
				}
			})
		})
	}
}

// TestLeavingConnectionReadsWhatCame: a read whose time is over gives what has arrived.
func TestLeavingConnectionReadsWhatCame(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	there, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := &limitedConn{Conn: here, limit: newConnLimit(1)}
	defer c.Close()
	if _, err := io.WriteString(there, "x"); err != nil {
		t.Fatal(err)
	}
	for !arrived(here) {
		time.Sleep(time.Millisecond)
	}
	c.leave()
	_ = here.SetReadDeadline(time.Unix(1, 0))
	if n, err := c.Read(make([]byte, 9)); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if n, err := c.Read(make([]byte, 9)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d %v", n, err)
	}
}

// TestStopAnswersWhatItCutShort: what was not answered when the server stopped, and
// changes nothing, can be sent again; it does not cost the client its session.
func TestStopAnswersWhatItCutShort(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for serving, want := range map[context.Context]int{over: http.StatusServiceUnavailable, t.Context(): http.StatusNotFound} {
		got := httptest.NewRecorder()
		w := newReplyWriter(got)
		w.serving = serving
		w.finish()
		if got.Code != want {
			t.Errorf("%d %s, want %d", got.Code, got.Body, want)
		}
	}
}
