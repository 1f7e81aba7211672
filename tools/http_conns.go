package tools

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// connLimit bounds open connections. When they are used up, the oldest one that
// no let-in request is at work on goes, and first one that never had any: who
// only holds connections open (slowloris) locks nobody out, no call is dropped
// for it, and no client's connection between two calls, on which the next may
// just be on its way.
//
// http.ConnState alone cannot tell: a connection is "active" from the first byte
// of a header that may never end.
type connLimit struct {
	most int

	mu    sync.Mutex
	conns map[net.Conn]*connAge
	turn  int64
}

type connAge struct {
	atWork int
	letIn  bool
	since  int64
}

func newConnLimit(most int) *connLimit {
	return &connLimit{most: most, conns: map[net.Conn]*connAge{}}
}

type connKey struct{}

// context is http.Server.ConnContext.
func (l *connLimit) context(ctx context.Context, c net.Conn) context.Context {
	l.mu.Lock()
	var drop net.Conn
	if len(l.conns) >= l.most {
		if drop = l.oldest(); drop == nil {
			drop = c
		}
		delete(l.conns, drop)
	}
	if drop != c {
		l.turn++
		l.conns[c] = &connAge{since: l.turn}
	}
	l.mu.Unlock()
	if drop != nil {
		_ = drop.Close()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// state is http.Server.ConnState.
func (l *connLimit) state(c net.Conn, s http.ConnState) {
	if s == http.StateClosed || s == http.StateHijacked {
		l.mu.Lock()
		delete(l.conns, c)
		l.mu.Unlock()
	}
}

// work keeps the request's connection until the returned function is called.
func (l *connLimit) work(ctx context.Context) (done func()) {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.conns[c]
	if a == nil {
		return func() {}
	}
	a.atWork++
	a.letIn = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		a.atWork--
		l.turn++
		a.since = l.turn
	}
}

func (l *connLimit) oldest() net.Conn {
	var found net.Conn
	var best *connAge
	for c, a := range l.conns {
		if a.atWork > 0 {
			continue
		}
		if best == nil || a.letIn == best.letIn && a.since < best.since || best.letIn && !a.letIn {
			found, best = c, a
		}
	}
	return found
}
