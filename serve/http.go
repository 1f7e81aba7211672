package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/tools"
)

// Options say who may speak to a network server.
type Options struct {
	// Transport is "http" (streamable HTTP, the default) or "sse".
	Transport string
	// Principals are admitted by their tokens; nil admits everybody, which is
	// for a socket that only its owner can open.
	Principals *Principals
	// OAuth admits by access tokens as well; nil does not.
	OAuth *OAuth
	// AllowedHosts are Host headers answered for in addition to this machine's loopback
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
	// Ready says whether sessions can be taken, for /readyz, which tells its text to
	// anybody; nil is yes.
	Ready func() error
	Log   *slog.Logger
}

// HTTP serves MCP over the network: the library's handlers behind a gate, limits
// and session ids made here. Defects of the library (mcp-go 1.2.1) are worked around
// where they matter: http_gate.go (no Origin check, no tokens),
// http_body.go (no limits), http_sessions.go (ids that anybody can invent, an
// idle sweep during calls), http_stream.go (lost notifications), serveModern
// (cancels across clients), sse.go (calls that outlive their client).
type HTTP struct {
	server       *tools.Server
	options      Options
	log          *slog.Logger
	gate         *gate
	conns        *connLimit
	signer       *idSigner
	open         *connections
	library      http.Handler
	stop         context.Context // done when calls must end
	halt         context.CancelCauseFunc
	leaving      atomic.Bool
	large        chan struct{} // a slot for each large body
	forward      *forwarder    // nil for a server alone
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
func NewHTTP(s *tools.Server, o Options) (*HTTP, error) {
	if !s.Options().Remote {
		return nil, sandbox.Errorf("internal", nil, "the server was not made for a network; set Options.Remote")
	}
	for _, h := range o.AllowedHosts {
		if err := checkHost(h); err != nil {
			return nil, err
		}
	}
	for _, origin := range o.AllowedOrigins {
		if err := checkOrigin(origin); err != nil {
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
	s.MCP().Use(giveLarge, cancelTools)
	secret, err := s.Manager().Secret()
	if err != nil {
		return nil, err
	}
	h := &HTTP{server: s, options: o, log: o.Log, quotas: map[string]*principalQuota{}, large: make(chan struct{}, maxLargeInAll), refusalDelay: refusalDelay}
	h.stop, h.halt = context.WithCancelCause(context.Background())
	h.forward = newForwarder(s.Manager(), secret)
	h.gate = newGate(o, func(w http.ResponseWriter, r *http.Request, kind string, status int, text string) {
		s.Denied(kind)
		h.refuse(w, r, "", refusal(status, text))
	})
	h.conns = newConnLimit(o.MaxConns)
	h.signer = newIDSigner(secret, s.Manager().Config().MaxAge)
	h.open = newConnections(h.signer)
	switch o.Transport {
	case "", "http":
		h.serveStreamable()
	case "sse":
		h.serveSSE()
	default:
		return nil, sandbox.Errorf("invalid_argument", nil, "transport is %q; use http or sse", o.Transport)
	}
	return h, nil
}

func (h *HTTP) serveStreamable() {
	lib := server.NewStreamableHTTPServer(h.server.MCP(),
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

// quietHandler logs the library's complaints about clients that hang up at debug
// level.
type quietHandler struct{ slog.Handler }

func (q quietHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	if !q.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}

// discardReply is for requests that the server makes to the library itself.
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
					n, err := h.server.Manager().EndPrincipal(name)
					h.log.Warn("a principal left the token file: its sessions were suspended", "principal", name, "sessions", n, "error", err)
				}
			case <-h.stop.Done():
				return
			}
		}
	})
	defer h.conns.close()
	defer h.forward.close()
	defer h.halt(sandbox.ErrStopping)
	last := newDrainingListener(l)
	l = h.conns.listen(last)
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
	last.drain(stopGrace)
	h.conns.drain(2 * stopGrace)
	err := srv.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-served
	return err
}

// ServeHTTP admits the request, then passes it to the library.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Cache-Control", "no-store")
	health := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
	r, answered := h.forward.admit(w, r)
	if answered {
		return
	}
	by, ok := h.gate.pass(w, r, health || asksOAuth(r.URL.Path))
	principal := by.name
	sent, forwarded := sentOn(r)
	if forwarded {
		h.forward.answers(w, sent)
	}
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
	case forwarded && r.URL.Path == yieldPath:
		h.answerPeer(w, r)
		return
	case !found:
		refuseHTTP(w, http.StatusNotFound, "there is nothing at this path; the endpoint is "+h.endpoint()+", and "+h.endpoint()+"/NAME for a sandbox of that name")
		return
	case name != "" && tools.CheckSandboxName(name) != nil:
		refuseHTTP(w, http.StatusNotFound, tools.CheckSandboxName(name).Error())
		return
	case h.leaving.Load():
		head.Set("Connection", "close")
		refuseHTTP(w, http.StatusServiceUnavailable, "the server is stopping; try again in a moment")
		return
	}
	defer h.conns.work(r.Context())()
	if !h.enter(principal) {
		h.server.Denied("quota")
		h.refuseUnread(w, r, principal, refusal(http.StatusTooManyRequests, "too many requests in flight; wait for some to finish"))
		return
	}
	large, written := h.largeAnswer(principal)
	quota := inFlight{func() {
		written()
		h.exit(principal)
	}}
	defer func() { quota.end() }()
	ctx := from(r.Context(), func(c *tools.Caller) { c.Principal, c.Grants, c.Forwarded = principal, by.grant, forwarded })
	if forwarded {
		ctx = context.WithValue(ctx, forwardedKey{}, sent.Body)
	}
	if name == "" && h.server.Options().DefaultSandbox {
		name = tools.DefaultSandbox
	}
	if name != "" {
		ctx = from(ctx, func(c *tools.Caller) { c.Key = tools.NamedKey(principal, name) })
	}
	if path != r.URL.Path {
		// The library's handlers compare it.
		r = r.Clone(ctx)
		r.URL.Path, r.URL.RawPath = path, ""
	}
	reply := newReplyWriter(w)
	reply.valid = by.valid
	defer reply.finish()
	// A call is cancelled when its token is revoked.
	ctx, cancel := context.WithCancelCause(context.WithValue(context.WithValue(ctx, validKey{}, by.valid), byKey{}, by))
	defer cancel(nil)
	defer context.AfterFunc(by.valid, func() { cancel(errRevoked) })()
	if r.Method == http.MethodGet && !by.expires.IsZero() {
		// A stream could outlive its token for days. A call that was admitted ends
		// soon enough.
		var done context.CancelFunc
		ctx, done = context.WithDeadline(ctx, by.expires)
		defer done()
	}
	if h.options.Transport == "sse" {
		h.answerSSE(reply, r.WithContext(from(ctx, func(c *tools.Caller) { c.Large = large })), &quota)
		return
	}
	h.answer(reply, r.WithContext(from(ctx, func(c *tools.Caller) { c.Notifier, c.Refuse, c.Large = reply, reply.refuse, large })))
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

// health answers /healthz (the process runs) and /readyz (a sandbox is available).
func (h *HTTP) health(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuseHTTP(w, http.StatusMethodNotAllowed, "this path answers GET only; use GET")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.URL.Path == "/readyz" {
		switch {
		case h.leaving.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("stopping\n"))
			return
		case h.options.Ready != nil:
			if err := h.options.Ready(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = fmt.Fprintln(w, err)
				return
			}
		}
	}
	_, _ = w.Write([]byte("ok\n"))
}

// Connections counts those of clients that are open.
func (h *HTTP) Connections() int { return h.conns.count() }

// validKey is the context that ends with the request's token.
type validKey struct{}

// byKey is the principal of the request, with what came with its token.
type byKey struct{}

// stopKey is the context whose end cancels a tool, and not its request.
type stopKey struct{}

func senderOf(ctx context.Context) principal {
	by, _ := ctx.Value(byKey{}).(principal)
	return by
}

func principalOf(ctx context.Context) string { return tools.CallerOf(ctx).Principal }
