package serve

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"mcp-sandbox/tools"
)

// An MCP session id is minted by the server alone and says so itself: when it
// was made, 128 random bits, which client it is (see clients), and a MAC over all
// and the principal it was given to. So an invented id, and one of another principal, is unknown without a
// table, ids hold across a restart and on every server of one state directory, and
// ten thousand clients that only say hello cost nothing that stays.
const (
	idTime   = 8
	idRandom = 16
	idClient = 1
	idMAC    = 16
)

// idSigner makes session ids. Its key is derived, so that no id can pass as
// something else that the server signs.
type idSigner struct {
	key    []byte
	maxAge time.Duration // 0: ids do not age
	now    func() time.Time
}

func newIDSigner(secret []byte, maxAge time.Duration) *idSigner {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("mcp-sandbox mcp-session-id 1"))
	return &idSigner{key: h.Sum(nil), maxAge: maxAge, now: time.Now}
}

func (m *idSigner) mac(principal, route string, body []byte) []byte {
	h := hmac.New(sha256.New, m.key)
	h.Write(body)
	if route != "" {
		h.Write(append([]byte(route), 0)) // no principal holds a zero byte
	}
	h.Write([]byte(principal))
	return h.Sum(nil)[:idMAC]
}

// routeHeader is how a proxy in front of several servers names the key by which
// it chose one of them for an initialize. The session id then begins with it, so
// that the proxy, which keeps no table, can choose the same server for the rest.
const routeHeader = "Mcp-Sandbox-Route"

// routeOf is the key a request names, "" for one that could not be part of an id.
// That a client may name one itself does no harm: it is not secret, and the MAC
// covers it.
func routeOf(r *http.Request) string {
	route := r.Header.Get(routeHeader)
	other := func(c rune) bool {
		return !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '_')
	}
	if len(route) > 64 || strings.ContainsFunc(route, other) {
		return ""
	}
	return route
}

func (m *idSigner) make(principal, route string, from tools.Client) string {
	b := make([]byte, idTime+idRandom, idTime+idRandom+idClient+idMAC)
	binary.BigEndian.PutUint64(b, uint64(m.now().Unix()))
	_, _ = rand.Read(b[idTime:]) // never fails (crypto/rand)
	b = append(b, from.ID())
	id := base64.RawURLEncoding.EncodeToString(append(b, m.mac(principal, route, b)...))
	if route != "" {
		id = route + "." + id
	}
	return id
}

// check says whether the id was given to this principal and is not too old.
func (m *idSigner) check(principal, id string) bool {
	_, _, ok := m.read(principal, id)
	return ok
}

// read is check, and to which client the id was given, and when.
func (m *idSigner) read(principal, id string) (from tools.Client, made time.Time, ok bool) {
	route, text := "", id
	if i := strings.IndexByte(id, '.'); i > 0 {
		route, text = id[:i], id[i+1:]
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != idTime+idRandom+idClient+idMAC {
		return tools.ClientByID(0), made, false
	}
	body, mac := b[:len(b)-idMAC], b[len(b)-idMAC:]
	if !hmac.Equal(mac, m.mac(principal, route, body)) {
		return tools.ClientByID(0), made, false
	}
	made = time.Unix(int64(binary.BigEndian.Uint64(body)), 0)
	return tools.ClientByID(body[idTime+idRandom]), made, m.maxAge <= 0 || m.now().Sub(made) <= m.maxAge
}

// connections are the MCP sessions that the library holds state for. An id that
// is valid but not among them is not an error: its state is made again.
type connections struct {
	signer *idSigner
	// forget makes the library drop what it holds for an id: it has no other way
	// to do it than a DELETE, and its own idle sweep ends sessions during a call.
	forget func(id string)

	mu   sync.Mutex
	byID map[string]*connection
	// dead are ids that were deleted here, oldest first in order.
	dead  map[string]bool
	order []string
}

type connection struct {
	id, principal string
	from          tools.Client
	made          time.Time
	called        atomic.Bool // a tool, at some time
	used          time.Time
	calls         map[*context.CancelFunc]bool
	streams       map[*context.CancelFunc]bool
	replies       map[string]*replyWriter // of requests in flight, by their id
}

const (
	// maxConnections bounds what is held for all, and maxOwnConnections for one
	// principal: about 20 KB each in the library.
	maxConnections    = 4096
	maxOwnConnections = 1024
	// maxDead bounds the ids remembered as deleted; the manager remembers those
	// that had a sandbox for good.
	maxDead = 1 << 16
	// maxStreams bounds the listening streams of one session.
	maxStreams = 4
)

func newConnections(m *idSigner) *connections {
	return &connections{signer: m, byID: map[string]*connection{}, dead: map[string]bool{}}
}

// enter finds the session of an id; nil when this principal has none.
func (c *connections) enter(principal, id string) *connection {
	from, made, ok := c.signer.read(principal, id)
	if !ok {
		return nil
	}
	c.mu.Lock()
	if c.dead[id] {
		c.mu.Unlock()
		return nil
	}
	conn := c.byID[id]
	var out []string
	if conn == nil {
		out = c.evict(principal)
		conn = &connection{id: id, principal: principal, from: from, made: made, calls: map[*context.CancelFunc]bool{}, streams: map[*context.CancelFunc]bool{}}
		c.byID[id] = conn
	}
	conn.used = c.signer.now()
	c.mu.Unlock()
	for _, id := range out {
		c.forget(id)
	}
	return conn
}

// evict takes the least used quiet entries off the table until there is room.
// Callers hold mu and let the library forget what is returned.
func (c *connections) evict(principal string) (out []string) {
	own, quiet := 0, []*connection(nil)
	for _, o := range c.byID {
		if o.principal == principal {
			own++
		}
		if len(o.calls)+len(o.streams) == 0 {
			quiet = append(quiet, o)
		}
	}
	if own < maxOwnConnections && len(c.byID) < maxConnections {
		return nil
	}
	slices.SortFunc(quiet, func(a, b *connection) int { return a.used.Compare(b.used) })
	// A sixteenth at once, so that a flood does not sort the table for each.
	drop := cmp.Or(maxOwnConnections/16, 1)
	for _, o := range quiet {
		if drop == 0 {
			break
		}
		if own >= maxOwnConnections && o.principal != principal {
			continue
		}
		delete(c.byID, o.id)
		out = append(out, o.id)
		drop--
	}
	return out
}

// trackCall counts a call in. Its context outlives the request: a broken connection
// does not cancel (MCP 2025-11-25, "Streamable HTTP", sending messages, rule 6), but
// the session's end and the server's stop are.
func (c *connections) trackCall(ctx, stop context.Context, conn *connection) (context.Context, func()) {
	return c.track(context.WithoutCancel(ctx), stop, conn, conn.calls)
}

// listen counts a stream in, which ends with its connection; false when the
// session has enough.
func (c *connections) listen(ctx, stop context.Context, conn *connection) (context.Context, func(), bool) {
	c.mu.Lock()
	full := len(conn.streams) >= maxStreams
	c.mu.Unlock()
	if full {
		return ctx, func() {}, false
	}
	ctx, done := c.track(ctx, stop, conn, conn.streams)
	return ctx, done, true
}

func (c *connections) track(ctx, stop context.Context, conn *connection, in map[*context.CancelFunc]bool) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(stop, cancel)
	if valid, ok := ctx.Value(validKey{}).(context.Context); ok {
		end := unhook
		revoked := context.AfterFunc(valid, cancel)
		unhook = func() bool { revoked(); return end() }
	}
	mark := &cancel
	c.mu.Lock()
	in[mark] = true
	c.mu.Unlock()
	return ctx, func() {
		unhook()
		cancel()
		c.mu.Lock()
		delete(in, mark)
		conn.used = c.signer.now()
		c.mu.Unlock()
	}
}

// end makes an id dead and cancels what runs for it.
func (c *connections) end(conn *connection) {
	c.mu.Lock()
	delete(c.byID, conn.id)
	if !c.dead[conn.id] {
		if len(c.order) >= maxDead {
			delete(c.dead, c.order[0])
			c.order = c.order[1:]
		}
		c.dead[conn.id] = true
		c.order = append(c.order, conn.id)
	}
	var running []context.CancelFunc
	for _, in := range []map[*context.CancelFunc]bool{conn.calls, conn.streams} {
		for cancel := range in {
			running = append(running, *cancel)
		}
	}
	c.mu.Unlock()
	for _, cancel := range running {
		cancel()
	}
}

// answering registers the reply of a request in flight.
func (c *connections) answering(conn *connection, id string, w *replyWriter) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.replies == nil {
		conn.replies = map[string]*replyWriter{}
	}
	conn.replies[id] = w
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if conn.replies[id] == w {
			delete(conn.replies, id)
		}
	}
}

// silence keeps a cancelled request from being answered (MCP, "Cancellation").
func (c *connections) silence(conn *connection, id string) {
	c.mu.Lock()
	w := conn.replies[id]
	c.mu.Unlock()
	if w != nil {
		w.silence()
	}
}

// idle reports whether no call of the session is left.
func (c *connections) idle(conn *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(conn.calls) == 0
}

// sweep lets the library forget what has been quiet for a while.
func (c *connections) sweep(quiet time.Duration) {
	var out []string
	c.mu.Lock()
	for id, o := range c.byID {
		if len(o.calls)+len(o.streams) == 0 && c.signer.now().Sub(o.used) > quiet {
			delete(c.byID, id)
			out = append(out, id)
		}
	}
	c.mu.Unlock()
	for _, id := range out {
		c.forget(id)
	}
}

// ids hands the library the ids of one request's principal. Whether an id is
// valid is decided before the library sees the request, so it only says yes.
type ids struct {
	signer    *idSigner
	principal string
	route     string
	from      tools.Client
}

func (i ids) Generate() string             { return i.signer.make(i.principal, i.route, i.from) }
func (ids) Validate(string) (bool, error)  { return false, nil }
func (ids) Terminate(string) (bool, error) { return false, nil }

// ResolveSessionIdManager takes the principal and the client from the request's
// context, and the route from its header.
func (c *connections) ResolveSessionIdManager(r *http.Request) server.SessionIdManager {
	i := ids{signer: c.signer}
	if r != nil {
		i.principal, i.route = principalOf(r.Context()), routeOf(r)
		i.from = tools.CallerOf(r.Context()).Client
	}
	return i
}
