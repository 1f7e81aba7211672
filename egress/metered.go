package egress

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

var errBudget = errors.New("byte limit reached")

// metered spends the budget for what an exchange sends and receives, and
// gives each step the idle time and no more.
type metered struct{ flow *flow }

func (m *metered) Read(b []byte) (int, error) {
	p := m.flow.proxy
	_ = m.flow.SetReadDeadline(time.Now().Add(p.o.IdleTimeout))
	n, err := m.flow.Read(b)
	if n > 0 && !p.budget.take(int64(n)) {
		return 0, errBudget
	}
	return n, err
}

func (m *metered) Write(b []byte) (int, error) {
	p := m.flow.proxy
	if !p.budget.take(int64(len(b))) {
		return 0, errBudget
	}
	_ = m.flow.SetWriteDeadline(time.Now().Add(p.o.IdleTimeout))
	n, err := m.flow.Write(b)
	return n, err
}

// patientWriter writes to a client, with the idle time for each piece: a slow reader holds the server back
// through TCP, one that stopped is let go.
type patientWriter struct {
	c    *client
	idle time.Duration
}

func (w *patientWriter) Write(b []byte) (int, error) {
	_ = w.c.SetWriteDeadline(time.Now().Add(w.idle))
	return w.c.Write(b)
}

// moveBody carries exactly length bytes from src to dst, within the budget.
// Its error holds errBody where src failed or ended early, or where stop
// was set: whoever sets it must end the wait for src after.
func (p *Proxy) moveBody(dst, src net.Conn, length int64, stop *atomic.Bool) error {
	b := newBulk(dst, src)
	defer func() { b.close() }()
	buf := []byte(nil)
	for length > 0 {
		n, err := int64(0), error(nil)
		most := min(length, burst)
		_ = src.SetReadDeadline(time.Now().Add(p.o.IdleTimeout))
		if stop != nil && stop.Load() {
			return errBody
		}
		switch {
		case b != nil && p.budget.reserve(most, p.o.MaxConns):
			n, err = b.move(most, p.o.IdleTimeout)
			p.budget.give(most - n)
		default:
			if buf == nil {
				buf = make([]byte, copyBuffer)
			}
			n, err = p.copyPiece(dst, src, buf[:min(most, copyBuffer)])
		}
		length -= n
		switch {
		case err == nil:
		case errors.Is(err, errLost), errors.Is(err, errBudget):
			return err
		case length > 0:
			return errors.Join(errBody, err)
		}
	}
	return nil
}

func (p *Proxy) copyPiece(dst, src net.Conn, buf []byte) (int64, error) {
	n, err := src.Read(buf)
	if n == 0 {
		return 0, err
	}
	if !p.budget.take(int64(n)) {
		return 0, errBudget
	}
	_ = dst.SetWriteDeadline(time.Now().Add(p.o.IdleTimeout))
	if n, err := dst.Write(buf[:n]); err != nil {
		return int64(n), errors.Join(errLost, err)
	}
	return int64(n), err
}

// cappedReader fails past left bytes.
type cappedReader struct {
	r    io.Reader
	left int64
}

func (c *cappedReader) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("the head of the answer is too large")
	}
	if int64(len(b)) > c.left {
		b = b[:c.left]
	}
	n, err := c.r.Read(b)
	c.left -= int64(n)
	return n, err
}
