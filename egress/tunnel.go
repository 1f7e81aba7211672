package egress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"mcp-sandbox/sandbox"
)

const (
	copyBuffer = 64 << 10
	// burst is how much the kernel moves by splice(2) between two looks at the
	// clock and the budget.
	burst = 1 << 20
)

// errLost is a failure to hand on what had been taken already.
var errLost = errors.New("bytes were lost on their way")

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// tunnel carries bytes between a client and its flow, after a look at how the
// client begins.
//
// On port 443 that must be TLS for the host that was asked for: a name check
// that lets any other protocol or server name through is one in name only. On
// other ports (which a rule must list) a client that begins with TLS is held to
// the same, and anything else passes as it is: ssh servers speak first, so both
// directions run while the proxy waits for the client's first byte.
func (p *Proxy) tunnel(c *client, f *flow) {
	r := p.newRelay(c, f)
	if f.to.port != 443 {
		r.run(r.sniff)
		return
	}
	if hello, err := p.hello(c, f.to); err == nil {
		r.run(func() ([]byte, error) { return hello, nil })
	}
}

// hello reads a ClientHello and holds its server name to the endpoint. A client
// that is refused gets the TLS alert unrecognized_name (RFC 6066 section 3).
func (p *Proxy) hello(c *client, e endpoint) ([]byte, error) {
	_ = c.SetReadDeadline(time.Now().Add(p.o.HeaderTimeout))
	raw, hello, err := readClientHello(c.br)
	if err == nil {
		err = hello.check(e)
	}
	if err == nil {
		return raw, nil
	}
	var fault clientHelloError
	if errors.As(err, &fault) {
		_ = p.denyEndpoint(c.RemoteAddr(), e, Decision{Reason: fault.Error()})
		c.alert(alertUnrecognizedName)
	}
	return nil, err
}

// TLS alerts (RFC 8446 section 6, RFC 6066 section 3).
const (
	alertInternalError    = 80
	alertUnrecognizedName = 112
)

// alert ends a connection with a fatal TLS alert.
func (c *client) alert(description byte) {
	const fatal = 2
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write([]byte{recordAlert, 3, 1, 0, 2, fatal, description})
	c.finish()
}

// relay is the two directions of a tunnel.
type relay struct {
	p    *Proxy
	c    *client
	f    *flow
	last atomic.Int64 // when bytes moved in either direction, in ns of Unix time
}

func (p *Proxy) newRelay(c *client, f *flow) *relay {
	r := &relay{p: p, c: c, f: f}
	r.touch()
	return r
}

func (r *relay) touch() { r.last.Store(time.Now().UnixNano()) }

// waited tells whether err is the end of one wait, while the tunnel as a whole
// is not idle: a download is not cut because its client has nothing to say.
func (r *relay) waited(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, errLost) && time.Since(time.Unix(0, r.last.Load())) < r.p.o.IdleTimeout
}

// run carries both directions until both have ended. begin gives the client's
// first bytes, while the other direction runs already.
func (r *relay) run(begin func() ([]byte, error)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.copy(r.c.Conn, r.f.Conn)
	}()
	r.upward(begin)
	<-done
}

// sniff waits for the client's first byte and reads a ClientHello where it is
// one's.
func (r *relay) sniff() ([]byte, error) {
	for {
		_ = r.c.SetReadDeadline(time.Now().Add(r.p.o.IdleTimeout))
		first, err := r.c.br.Peek(1)
		switch {
		case r.waited(err):
		case errors.Is(err, io.EOF):
			return nil, nil // copy meets it again, and half-closes
		case err != nil:
			return nil, err
		case first[0] != recordHandshake:
			return nil, nil
		default:
			return r.p.hello(r.c, r.f.to)
		}
	}
}

func (r *relay) upward(begin func() ([]byte, error)) {
	sent, err := begin()
	if err != nil {
		r.f.cut()
		return
	}
	// What the buffer holds goes first; from then on the bare connection is read,
	// which the kernel can splice.
	held, _ := r.c.br.Peek(r.c.br.Buffered())
	if sent = append(bytes.Clone(sent), held...); len(sent) > 0 && !r.write(r.f.Conn, sent) {
		r.f.cut()
		return
	}
	r.copy(r.f.Conn, r.c.Conn)
}

// write sends b within the budget.
func (r *relay) write(dst net.Conn, b []byte) bool {
	if !r.p.budget.take(int64(len(b))) {
		_ = r.p.overBudget(r.f.client.RemoteAddr(), r.f.to)
		return false
	}
	_ = dst.SetWriteDeadline(time.Now().Add(r.p.o.IdleTimeout))
	_, err := dst.Write(b)
	r.touch()
	return err == nil
}

// copy carries one direction to its end, passing the end on. Any failure cuts
// both: half a stream must not look like a whole one.
func (r *relay) copy(dst, src net.Conn) {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	var b *bulk
	defer func() { b.close() }()
	tried := false
	for {
		_ = src.SetReadDeadline(time.Now().Add(r.p.o.IdleTimeout))
		n, err := src.Read(buf[:])
		if n > 0 && !r.write(dst, buf[:n]) {
			r.f.cut()
			return
		}
		if err == nil && n >= copyBuffer/2 {
			if !tried {
				b, tried = newBulk(dst, src), true
			}
			if b != nil {
				err = r.burst(b, src)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			if !closeWrite(dst) {
				_ = dst.Close() // a connection that cannot half-close has only this way to say it
			}
			return
		case r.waited(err):
		default:
			r.f.cut()
			return
		}
	}
}

// burst moves bulk data without bringing it into the process, for as long as it
// comes and the budget is far from its end.
func (r *relay) burst(b *bulk, src net.Conn) error {
	for r.p.budget.reserve(burst, r.p.o.MaxConns) {
		_ = src.SetReadDeadline(time.Now().Add(r.p.o.IdleTimeout))
		n, err := b.move(burst, r.p.o.IdleTimeout)
		r.p.budget.give(burst - n)
		if n > 0 {
			r.touch()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// budget is what may still pass.
type budget struct {
	limited bool
	limit   int64
	left    atomic.Int64
	carried *atomic.Int64
}

func (b *budget) init(limit int64, carried *atomic.Int64) {
	b.limited, b.limit, b.carried = limit > 0, limit, carried
	b.left.Store(limit)
}

// take spends n or nothing.
func (b *budget) take(n int64) bool {
	if !b.limited {
		b.carried.Add(n)
		return true
	}
	for {
		left := b.left.Load()
		if left < n {
			b.left.CompareAndSwap(left, 0) // spent: a smaller piece may not slip through after it
			return false
		}
		if b.left.CompareAndSwap(left, left-n) {
			b.carried.Add(n)
			return true
		}
	}
}

// reserve spends n ahead of its use, only where every connection could do so and
// none would be starved.
func (b *budget) reserve(n int64, conns int) bool {
	return (!b.limited || b.left.Load() > 2*n*int64(conns+1)) && b.take(n)
}

func (b *budget) give(n int64) {
	b.carried.Add(-n)
	if b.limited {
		b.left.Add(n)
	}
}

func (b *budget) spent() bool { return b.limited && b.left.Load() <= 0 }

// overBudget records the end of the byte budget, and says it.
func (p *Proxy) overBudget(from net.Addr, e endpoint) *sandbox.Error {
	err := p.denyEndpoint(from, e, Decision{
		Reason: fmt.Sprintf("the %d bytes that this session's network may carry are used up", p.o.MaxBytes),
		flag:   "--limit-net-bytes", limit: true,
	})
	return sandbox.Errorf(codeLimit, nil, "%s", err.Error())
}
