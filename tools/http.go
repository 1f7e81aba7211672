package tools

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// HTTPOptions say who may speak to a network server.
type HTTPOptions struct {
	// Transport is "http" (streamable HTTP, the default) or "sse".
	Transport string
	// Principals are let in with their tokens; nil lets everybody in, which is
	// for a socket that only its owner can open.
	Principals *Principals
	// AllowedHosts are Host headers answered for beside this machine's loopback
	// names, without port. AnyHost answers all: a unix socket has no name that
	// could be pointed at it.
	AllowedHosts []string
	AnyHost      bool
	// AllowedOrigins are web pages that may speak to the server.
	AllowedOrigins []string
	// MaxConns bounds open connections; 0 is 1024.
	MaxConns int
	// MaxCalls bounds the requests of one principal at once; 0 is 256.
	MaxCalls int
	// MaxNew bounds the MCP sessions that one principal begins: so many at once,
	// and an eighth of it each second from then on; 0 is 256.
	MaxNew int
	// TLS, when set, is spoken on the listener, with HTTP/2; nil is plain HTTP.
	TLS *tls.Config
	// Ready says whether a sandbox can be had, for /readyz; nil is yes.
	Ready func() error
	Log   *slog.Logger
}

// HTTP serves MCP over the network: the library's handlers behind a gate, limits
// and session ids of our own. What is worked around of the library (mcp-go
// 1.2.1) is said where it is done: http_gate.go (no Origin check, no tokens),
// http_body.go (no limits), http_sessions.go (ids that anybody can invent, an
// idle sweep during calls), http_stream.go (lost notifications), serveModern
// (cancels across clients), sse.go (calls that outlive their client).
type HTTP struct {
	server       *Server
	options      HTTPOptions
	log          *slog.Logger
	gate         *gate
	conns        *connLimit
	signer       *idSigner
	open         *connections
	library      http.Handler
	stop         context.Context // done when calls must end
	halt         context.CancelCauseFunc
	leaving      atomic.Bool
	large        chan struct{} // the places of large bodies
	refusalDelay time.Duration

	mu     sync.Mutex
	quotas map[string]*principalQuota // by principal

	lives sync.Map // of SSE: id -> sseLife
}

const (
	// mcpPath is the one endpoint of streamable HTTP.
	mcpPath = "/mcp"
	// quietAfter is when the library forgets a silent client's state; the client's
	// session id and sandbox stay.
	quietAfter = 6 * time.Hour
	// stopGrace lets calls that are about to end be answered, stopWithin bounds
	// the whole stop of the listener.
	stopGrace  = time.Second
	stopWithin = 4 * time.Second
)

// NewHTTP prepares the network face of a server made with Options.Remote. Codes:
// invalid_argument, internal.
func NewHTTP(s *Server, o HTTPOptions) (*HTTP, error) {
	if !s.options.Remote {
		return nil, refuse("internal", "the server was not made for a network, set Options.Remote")
	}
	for _, h := range o.AllowedHosts {
		if err := CheckHost(h); err != nil {
			return nil, err
		}
	}
	for _, origin := range o.AllowedOrigins {
		if err := CheckOrigin(origin); err != nil {
			return nil, err
		}
	}
	if o.MaxConns == 0 {
		o.MaxConns = 1024
	}
	if o.MaxCalls == 0 {
		o.MaxCalls = 256
	}
	if o.MaxNew == 0 {
		o.MaxNew = 256
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	secret, err := s.manager.Secret()
	if err != nil {
		return nil, err
	}
	h := &HTTP{server: s, options: o, log: o.Log, quotas: map[string]*principalQuota{}, large: make(chan struct{}, maxLargeInAll), refusalDelay: refusalDelay}
	h.stop, h.halt = context.WithCancelCause(context.Background())
	h.gate = newGate(o, func(w http.ResponseWriter, r *http.Request, kind string, status int, text string) {
		s.denied(kind)
		h.refuse(w, r, "", refusal(status, text))
	})
	h.conns = newConnLimit(o.MaxConns)
	h.signer = newIDSigner(secret, s.manager.Config().MaxAge)
	h.open = newConnections(h.signer)
	switch o.Transport {
	case "", "http":
		h.serveStreamable()
	case "sse":
		h.serveSSE()
	default:
		return nil, refuse("invalid_argument", "transport is %q, use http or sse", o.Transport)
	}
	return h, nil
}

func (h *HTTP) serveStreamable() {
	lib := server.NewStreamableHTTPServer(h.server.mcp,
		server.WithEndpointPath(mcpPath),
		server.WithSessionIdManagerResolver(h.open),
		// Hosts are checked by the gate, on every connection and not on loopback's
		// alone.
		server.WithDisableLocalhostProtection(true),
		server.WithStreamableHTTPLogger(slog.New(quietHandler{h.log.Handler()})),
	)
	h.library = lib
	h.open.forget = func(id string) {
		r, err := http.NewRequest(http.MethodDelete, mcpPath, nil)
		if err == nil {
			r.Header.Set(server.HeaderKeySessionID, id)
			lib.ServeHTTP(discardReply{http.Header{}}, r)
		}
	}
}

// quietHandler takes the library's complaints about clients that hang up for
// what they are.
type quietHandler struct{ slog.Handler }

func (q quietHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	if !q.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}

// discardReply is for requests that nobody sent.
type discardReply struct{ header http.Header }

func (d discardReply) Header() http.Header         { return d.header }
func (d discardReply) WriteHeader(int)             {}
func (d discardReply) Write(p []byte) (int, error) { return len(p), nil }

// Serve answers on l until ctx is done, then lets calls end: those still waiting
// after a second are cancelled, and all is closed within five. It closes l.
func (h *HTTP) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ConnState:         h.conns.state,
		ConnContext:       h.conns.context,
		ErrorLog:          slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		t := time.NewTicker(time.Minute)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				h.open.sweep(quietAfter)
			case <-h.stop.Done():
				return
			}
		}
	})
	wg.Go(func() {
		t := time.NewTicker(recheckTokens)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				for _, name := range h.options.Principals.takeGone() {
					n, err := h.server.manager.EndPrincipal(name)
					h.log.Warn("a principal left the token file: its sessions were suspended", "principal", name, "sessions", n, "error", err)
				}
			case <-h.stop.Done():
				return
			}
		}
	})
	defer h.conns.close()
	defer h.halt(sandbox.ErrStopping)
	l = h.conns.listen(l)
	if h.options.TLS != nil {
		srv.TLSConfig = h.options.TLS.Clone()
		srv.TLSConfig.NextProtos = []string{"h2", "http/1.1"}
		l = tls.NewListener(l, srv.TLSConfig)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	h.leaving.Store(true)
	end, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	t := time.AfterFunc(stopGrace, func() { h.halt(sandbox.ErrStopping) })
	defer t.Stop()
	err := srv.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-served
	return err
}

// ServeHTTP checks, then hands on to the library.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Cache-Control", "no-store")
	health := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
	by, ok := h.gate.pass(w, r, health || asksOAuth(r.URL.Path))
	principal := by.name
	path, name, found := h.route(r.URL.Path)
	switch {
	case !ok:
		return
	case health:
		h.health(w, r)
		return
	case asksOAuth(r.URL.Path):
		h.answerOAuth(w, r)
		return
	case !found:
		refuseHTTP(w, http.StatusNotFound, "there is nothing at this path; the endpoint is "+h.endpoint()+", and "+h.endpoint()+"/NAME for a sandbox of that name")
		return
	case name != "" && checkName(name) != nil:
		refuseHTTP(w, http.StatusNotFound, checkName(name).Error())
		return
	case h.leaving.Load():
		refuseHTTP(w, http.StatusServiceUnavailable, "the server is stopping, try again in a moment")
		return
	}
	defer h.conns.work(r.Context())()
	if !h.enter(principal) {
		h.server.denied("quota")
		h.refuseUnread(w, r, principal, refusal(http.StatusTooManyRequests, "too many requests in flight; wait for some to finish"))
		return
	}
	defer h.exit(principal)
	ctx := context.WithValue(r.Context(), principalKey{}, principal)
	if name == "" && h.server.options.DefaultSandbox {
		name = defaultName
	}
	if name != "" {
		ctx = context.WithValue(ctx, clientKeyType{}, namedKey(principal, name))
	}
	if path != r.URL.Path {
		// The library's handlers compare it.
		r = r.Clone(ctx)
		r.URL.Path, r.URL.RawPath = path, ""
	}
	reply := newReplyWriter(w)
	reply.valid = by.valid
	defer reply.finish()
	// What runs ends with the token that began it.
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, validKey{}, by.valid))
	defer cancel(nil)
	defer context.AfterFunc(by.valid, func() { cancel(errRevoked) })()
	if h.options.Transport == "sse" {
		h.answerSSE(reply, r.WithContext(ctx))
		return
	}
	h.answer(reply, r.WithContext(context.WithValue(ctx, replyWriterKey{}, reply)))
}

// route splits a path into the endpoint and the name of a sandbox behind it, ""
// where there is none.
func (h *HTTP) route(path string) (endpoint, name string, ok bool) {
	if path == h.endpoint() || h.options.Transport == "sse" && path == messagePath {
		return path, "", true
	}
	name, ok = strings.CutPrefix(path, h.endpoint()+"/")
	return h.endpoint(), name, ok && name != ""
}

func (h *HTTP) endpoint() string {
	if h.options.Transport == "sse" {
		return ssePath
	}
	return mcpPath
}

// health: the process lives (healthz); a sandbox can be had (readyz).
func (h *HTTP) health(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuseHTTP(w, http.StatusMethodNotAllowed, "use GET")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.URL.Path == "/readyz" {
		switch {
		case h.leaving.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("stopping\n"))
			return
		case h.options.Ready != nil && h.options.Ready() != nil:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("no sandbox available; see the server log\n"))
			return
		}
	}
	_, _ = w.Write([]byte("ok\n"))
}

// answer is streamable HTTP.
func (h *HTTP) answer(w *replyWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		msg, text, refused := h.readMessage(w, r)
		if refused != nil {
			h.refuse(w, r, principalOf(r.Context()), refused)
			return
		}
		r = r.WithContext(withLarge(r.Context(), msg.large))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		if isModern(r, msg.params) {
			h.serveModern(w, r, msg)
			return
		}
		h.serveLegacy(w, r, msg)
	case http.MethodGet, http.MethodDelete:
		if isModern(r, nil) {
			h.library.ServeHTTP(w, r) // 405, with the reason
			return
		}
		conn, ok := h.connection(w, r)
		if !ok {
			return
		}
		if r.Method == http.MethodDelete {
			h.end(w, r, conn)
			return
		}
		h.listen(w, r, conn)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		refuseHTTP(w, http.StatusMethodNotAllowed, "this method is not part of MCP, use POST")
	}
}

// serveModern answers protocol 2026-07-28 and later, which has no sessions: a
// sandbox is that of the address or named by sandbox_id in the call's arguments,
// and closing the request is the cancel.
func (h *HTTP) serveModern(w *replyWriter, r *http.Request, msg message) {
	// The library keys a running call by session and request id, and here the
	// session is the empty one of every client: a cancel with id 1 would end some
	// other client's call.
	if msg.method == string(mcp.MethodNotificationCancelled) {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	if msg.method == string(mcp.MethodToolsCall) {
		ctx = context.WithValue(ctx, stopKey{}, h.stop)
	} else {
		defer context.AfterFunc(h.stop, cancel)()
	}
	h.stream(w, r, ctx, cancel)
}

// stream runs the library on a request that may stay open for long.
func (h *HTTP) stream(w *replyWriter, r *http.Request, ctx context.Context, cancel context.CancelFunc) {
	var wg sync.WaitGroup
	defer wg.Wait() // nothing may write when the request is over
	defer cancel()
	wg.Go(func() { w.keepOpen(ctx) })
	h.library.ServeHTTP(w, r.WithContext(ctx))
}

// serveLegacy answers the protocols with an MCP session.
func (h *HTTP) serveLegacy(w *replyWriter, r *http.Request, msg message) {
	principal := principalOf(r.Context())
	if msg.method == string(mcp.MethodInitialize) {
		if !h.mayBegin(principal) {
			h.server.denied("quota")
			h.refuse(w, r, principal, refusal(http.StatusTooManyRequests, "sessions are being created too fast; retry shortly or reuse one"))
			return
		}
		// A session id sent along is none of this session's.
		r.Header.Del(server.HeaderKeySessionID)
		var hello mcp.InitializeParams
		_ = json.Unmarshal(msg.params, &hello) // the library answers a bad one
		ctx := context.WithValue(r.Context(), knownClientKey{}, clientNamed(hello.ClientInfo.Name))
		h.library.ServeHTTP(w, r.WithContext(ctx))
		if id := w.header.Get(server.HeaderKeySessionID); id != "" {
			h.open.enter(principal, id)
		}
		return
	}
	conn, ok := h.connection(w, r)
	if !ok {
		return
	}
	tool := msg.method == string(mcp.MethodToolsCall)
	stop := h.stop
	if tool {
		// A tool hears of the stop by itself, and what it says then is the answer:
		// the library (mcp-go 1.2.1) writes none for a request that was cancelled.
		conn.called.Store(true)
		stop = context.Background()
	}
	ctx, done := h.open.trackCall(r.Context(), stop, conn)
	defer done()
	if tool {
		ctx = context.WithValue(ctx, stopKey{}, h.stop)
	}
	switch {
	case msg.id != nil:
		defer h.open.answering(conn, string(msg.id), w)()
	case msg.method == string(mcp.MethodNotificationCancelled):
		var p struct {
			RequestID json.RawMessage `json:"requestId"`
		}
		if json.Unmarshal(msg.params, &p) == nil {
			h.open.silence(conn, string(p.RequestID))
		}
	}
	ctx = context.WithValue(ctx, knownClientKey{}, conn.from)
	if _, named := ctx.Value(clientKeyType{}).(string); !named {
		ctx = context.WithValue(ctx, clientKeyType{}, conn.key())
	}
	h.library.ServeHTTP(w, r.WithContext(ctx))
}

// key names the sandbox of an MCP session that its address leads to none, and
// the mark that the session was ended.
func (c *connection) key() string { return session.Key(c.principal, "mcp:"+c.id) }

// connection finds the session a request names, and answers when there is none.
// An id that is missing is never taken for the only one there is.
func (h *HTTP) connection(w http.ResponseWriter, r *http.Request) (*connection, bool) {
	all := r.Header.Values(server.HeaderKeySessionID)
	if len(all) != 1 || all[0] == "" {
		h.refuse(w, r, principalOf(r.Context()), refusal(http.StatusBadRequest, "the Mcp-Session-Id header is missing, send initialize first and then the id of its answer with every request"))
		return nil, false
	}
	conn := h.open.enter(principalOf(r.Context()), all[0])
	if conn == nil || h.server.manager.Gone(conn.key()) {
		// 404 makes a client begin anew (MCP 2025-11-25, "Session Management").
		h.refuse(w, r, principalOf(r.Context()), refusal(http.StatusNotFound, "session not found or ended; send initialize to start a new one"))
		return nil, false
	}
	return conn, true
}

// listen is the standalone stream. It makes no sandbox.
func (h *HTTP) listen(w *replyWriter, r *http.Request, conn *connection) {
	ctx, done, ok := h.open.listen(r.Context(), h.stop, conn)
	if !ok {
		h.server.denied("quota")
		h.refuse(w, r, principalOf(r.Context()), refusal(http.StatusTooManyRequests, "this session has enough open streams, close one"))
		return
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	h.stream(w, r, ctx, cancel)
}

// end is DELETE: what runs is cancelled, and a sandbox of the session's own goes
// with its files. One that its address leads to belongs to the principal.
func (h *HTTP) end(w *replyWriter, _ *http.Request, conn *connection) {
	making := !h.open.idle(conn) || conn.called.Load() && h.server.options.DefaultSandbox
	h.open.end(conn)
	h.open.forget(conn.id)
	err := h.server.manager.Forget(conn.key(), making)
	// A call that was let in before the id died may have made the sandbox anew.
	for t := time.Now(); !h.open.idle(conn) && time.Since(t) < 5*time.Second; {
		time.Sleep(5 * time.Millisecond)
	}
	if err = errors.Join(err, h.server.manager.Forget(conn.key(), false)); err != nil {
		h.log.Error("a session did not end cleanly", "error", err)
	}
	w.WriteHeader(http.StatusOK)
}

// validKey is the context that ends with the request's token.
type validKey struct{}

// stopKey is the context whose end cancels a tool, and not its request.
type stopKey struct{}

type principalKey struct{}

func principalOf(ctx context.Context) string {
	p, _ := ctx.Value(principalKey{}).(string)
	return p
}
