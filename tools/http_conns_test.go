package tools

import (
	"context"
	"net"
	"testing"
)

// A connection that never had a let-in request gives way before a client's that
// waits for its next call, however much younger it is; one at work never does.
func TestConnLimitSparesClients(t *testing.T) {
	l := newConnLimit(3)
	open := func() (net.Conn, context.Context) {
		c, other := net.Pipe()
		t.Cleanup(func() { c.Close(); other.Close() })
		return c, l.context(context.Background(), c)
	}
	held := func(c net.Conn) bool { return l.conns[c] != nil }
	working, ctx := open()
	defer l.work(ctx)()
	client, ctx := open()
	l.work(ctx)()
	stranger, _ := open()
	next, ctx := open()
	if held(stranger) || !held(working) || !held(client) || !held(next) {
		t.Fatalf("stranger %v, working %v, client %v, next %v", held(stranger), held(working), held(client), held(next))
	}
	// Among equals the oldest goes.
	l.work(ctx)()
	if last, _ := open(); held(client) || !held(working) || !held(next) || !held(last) {
		t.Errorf("client %v, working %v, next %v, last %v", held(client), held(working), held(next), held(last))
	}
}
