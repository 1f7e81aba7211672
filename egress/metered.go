package egress

import (
	"errors"
	"io"
	"time"
)

var errBudget = errors.New("byte limit reached")

// metered counts what an exchange sends and receives, within the budget, and
// gives each step the idle time and no more.
type metered struct{ flow *flow }

func (m *metered) Read(b []byte) (int, error) {
	p := m.flow.proxy
	_ = m.flow.SetReadDeadline(time.Now().Add(p.o.IdleTimeout))
	n, err := m.flow.Read(b)
	if n > 0 && !p.budget.take(int64(n)) {
		return 0, errBudget
	}
	p.down.Add(int64(n))
	return n, err
}

func (m *metered) Write(b []byte) (int, error) {
	p := m.flow.proxy
	if !p.budget.take(int64(len(b))) {
		return 0, errBudget
	}
	_ = m.flow.SetWriteDeadline(time.Now().Add(p.o.IdleTimeout))
	n, err := m.flow.Write(b)
	p.up.Add(int64(n))
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
