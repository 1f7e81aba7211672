package serve

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"mcp-sandbox/session"
	"mcp-sandbox/tools"
)

// answer is streamable HTTP.
func (h *HTTP) answer(w *replyWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		msg, text, refused := h.readMessage(w, r)
		if refused != nil {
			h.refuse(w, r, principalOf(r.Context()), refused)
			return
		}
		if !forwardedBody(r.Context(), msg.whole) {
			h.refuse(w, r, principalOf(r.Context()), refusal(http.StatusUnauthorized, "the body differs from the one that another server forwarded; send the request again"))
			return
		}
		if h.lacksScope(w, r, senderOf(r.Context()), msg) {
			return
		}
		r = r.WithContext(withLarge(r.Context(), msg))
		if caller := tools.CallerOf(r.Context()); h.forward != nil && !caller.Forwarded {
			p := passingOf(r, caller.Principal, msg.whole)
			if m := mcp.MCPMethod(msg.method); m == mcp.MethodToolsCall || m == mcp.MethodResourcesRead {
				r = r.WithContext(from(r.Context(), func(c *tools.Caller) {
					c.Forward = func(ctx context.Context, to *session.Elsewhere) tools.Forwarding {
						return h.forward.forward(ctx, to, p, w)
					}
				}))
			}
		}
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
		refuseHTTP(w, http.StatusMethodNotAllowed, "this method is not part of MCP; use POST")
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
		w.serving = h.stop
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
			h.server.Denied("quota")
			h.refuse(w, r, principal, refusal(http.StatusTooManyRequests, "sessions are being created too fast; retry shortly or reuse one"))
			return
		}
		// A session id sent along belongs to another session.
		r.Header.Del(server.HeaderKeySessionID)
		var hello mcp.InitializeParams
		_ = json.Unmarshal(msg.params, &hello) // the library answers a bad one
		client := tools.ClientNamed(hello.ClientInfo.Name)
		if tools.AsksRaw(hello.Capabilities) {
			client = client.Raw() // the session's id says so for as long as it holds
		}
		ctx := from(r.Context(), func(c *tools.Caller) { c.Client = client })
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
		// The stop cancels the tool and not the request, so that the tool's result is
		// still sent: the library (mcp-go 1.2.1) answers no cancelled request.
		conn.called.Store(true)
		stop = context.Background()
	} else {
		w.serving = h.stop
	}
	ctx, done := h.open.trackCall(r.Context(), stop, conn)
	defer done()
	if tool {
		ctx = context.WithValue(ctx, stopKey{}, h.stop)
	}
	switch {
	case msg.id != nil:
		defer h.open.answering(conn, compactID(msg.id), w)()
	case msg.method == string(mcp.MethodNotificationCancelled):
		var p struct {
			RequestID json.RawMessage `json:"requestId"`
		}
		if json.Unmarshal(msg.params, &p) == nil {
			h.open.silence(conn, compactID(p.RequestID))
		}
		if caller := tools.CallerOf(r.Context()); h.forward != nil && !caller.Forwarded {
			p := passingOf(r, caller.Principal, msg.whole)
			defer h.forward.tellCancel(r.Context(), p)
		}
	}
	ctx = from(ctx, func(c *tools.Caller) { c.Client, c.Key = conn.from, cmp.Or(c.Key, conn.key()) })
	h.library.ServeHTTP(w, r.WithContext(ctx))
}

// key names the sandbox of an MCP session whose address names none, and the mark
// that the session was ended.
func (c *connection) key() string { return session.Key(c.principal, "mcp:"+c.id) }

// connection finds the session a request names, and answers when there is none.
// A missing id never stands for the only session there is.
func (h *HTTP) connection(w http.ResponseWriter, r *http.Request) (*connection, bool) {
	all := r.Header.Values(server.HeaderKeySessionID)
	if len(all) != 1 || all[0] == "" {
		h.refuse(w, r, principalOf(r.Context()), refusal(http.StatusBadRequest, "the Mcp-Session-Id header is missing; send initialize first and then the id of its answer with every request"))
		return nil, false
	}
	conn := h.open.enter(principalOf(r.Context()), all[0])
	made := time.Time{}
	if conn != nil && tools.CallerOf(r.Context()).Key == "" { // the address names no sandbox
		made = conn.made
	}
	if conn == nil || h.server.Manager().Gone(conn.key(), made) {
		// 404 makes a client initialize again (MCP 2025-11-25, "Session Management").
		h.refuse(w, r, principalOf(r.Context()), refusal(http.StatusNotFound, "session not found or ended; send initialize to start a new one"))
		return nil, false
	}
	return conn, true
}

// listen is the standalone stream. It makes no sandbox.
func (h *HTTP) listen(w *replyWriter, r *http.Request, conn *connection) {
	ctx, done, ok := h.open.listen(r.Context(), h.stop, conn)
	if !ok {
		h.server.Denied("quota")
		h.refuse(w, r, principalOf(r.Context()), refusal(http.StatusTooManyRequests, "this session has enough open streams; close one"))
		return
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	h.stream(w, r, ctx, cancel)
}

// end is DELETE: what runs is cancelled, and a sandbox of the session's own goes
// with its files. One that its address leads to belongs to the principal.
func (h *HTTP) end(w *replyWriter, r *http.Request, conn *connection) {
	making := !h.open.idle(conn) || conn.called.Load() && h.server.Options().DefaultSandbox
	h.open.end(conn)
	h.open.forget(conn.id)
	forget := h.server.Manager().Forget
	if caller := tools.CallerOf(r.Context()); h.forward != nil && !caller.Forwarded {
		p := passingOf(r, caller.Principal, nil)
		h.forward.tellAll(p)
		forget = func(key string, making bool) error { return h.forgetElsewhere(key, making, p) }
	}
	err := forget(conn.key(), making)
	// A call that was accepted before the id died may have made the sandbox again.
	for t := time.Now(); !h.open.idle(conn) && time.Since(t) < 5*time.Second; {
		time.Sleep(5 * time.Millisecond)
	}
	err = errors.Join(err, forget(conn.key(), false))
	if errors.Is(err, session.ErrElsewhere) {
		w.refuse(session.ElsewhereText(err))
		return
	}
	if err != nil {
		h.log.Error("a session did not end cleanly", "error", err)
	}
	w.WriteHeader(http.StatusOK)
}

// forgetElsewhere is Forget, and for a session that another server holds, the DELETE
// sent there, until one of the two succeeds or a lost server's lease must be past.
func (h *HTTP) forgetElsewhere(key string, making bool, p *passing) error {
	m := h.server.Manager()
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		err := m.Forget(key, making)
		var at *session.Elsewhere
		if !errors.As(err, &at) || time.Since(began) > m.Patience() {
			return err
		}
		if at.URL != "" {
			h.forward.tell(at.Holder, p)
			m.Unroute(at.Name)
			making = false // the holder has set the mark, or there is nothing to mark
		}
	}
}
