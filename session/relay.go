package session

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// relay accepts on a listener, serves each connection on its own goroutine, and
// knows every connection it holds, so that close leaves neither.
type relay struct {
	listener net.Listener
	most     int // connections held at once, both sides counted
	serve    func(ctx context.Context, c net.Conn)
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// newRelay is started by run, so that serve may refer to it.
func newRelay(l net.Listener, most int) *relay {
	r := &relay{listener: l, most: most, conns: map[net.Conn]bool{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

func (r *relay) run(serve func(ctx context.Context, c net.Conn)) {
	r.serve = serve
	r.wg.Go(r.accept)
}

func (r *relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			if r.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors passes; a loop without a pause would not let it.
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.ctx.Done():
				return
			}
			continue
		}
		if !r.hold(c) {
			_ = c.Close()
			continue
		}
		r.wg.Go(func() {
			defer r.release(c)
			r.serve(r.ctx, c)
		})
	}
}

// hold refuses connections over the limit and after the end.
func (r *relay) hold(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.conns) >= r.most {
		return false
	}
	r.conns[c] = true
	return true
}

func (r *relay) release(c net.Conn) {
	r.mu.Lock()
	delete(r.conns, c)
	r.mu.Unlock()
	_ = c.Close()
}

// join passes bytes both ways until both directions have ended.
func (r *relay) join(a, b net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { pass(a, b) })
	pass(b, a)
	wg.Wait()
}

// pass copies one direction to its end and tells the other side so. After an
// error both sides end, or the direction back would wait for ever.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		_ = to.Close()
		_ = from.Close()
	}
}

func (r *relay) close() {
	r.cancel()
	_ = r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}
