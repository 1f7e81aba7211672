package serve

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"mcp-sandbox/session"
	"mcp-sandbox/tools"
)

// The transport of protocol 2024-11-05: a stream for everything the server says,
// and a POST for everything the client does. A session without a named sandbox
// lives as long as its stream.
//
// The library's handlers (mcp-go 1.2.1) let any web page open the stream and
// take messages of any content type; the gate and readMessage stand before them.
// Their calls do not notice that the client has gone; cancelTools ends them.
const (
	ssePath     = "/sse"
	messagePath = "/message"
)

func (h *HTTP) serveSSE() {
	h.library = server.NewSSEServer(h.server.MCP(),
		server.WithSSEEndpoint(ssePath),
		server.WithMessageEndpoint(messagePath),
		// A path alone: the server may not know the name the client used.
		server.WithUseFullURLForMessageEndpoint(false),
		server.WithSSEDisableLocalhostProtection(true),
		server.WithSessionIDGenerator(func(ctx context.Context, _ *http.Request) (string, error) {
			id := h.signer.make(principalOf(ctx), "", tools.ClientByID(0))
			if made, ok := ctx.Value(sseMadeKey{}).(func(string)); ok {
				made(id)
			}
			return id, nil
		}),
	)
}

type (
	sseMadeKey struct{}
	lifeKey    struct{}
)

func (h *HTTP) answerSSE(w *replyWriter, r *http.Request, quota *inFlight) {
	want := http.MethodGet
	if r.URL.Path == messagePath {
		want = http.MethodPost
	}
	switch {
	case r.Method != want:
		w.Header().Set("Allow", want)
		refuseHTTP(w, http.StatusMethodNotAllowed, "use "+want)
	case want == http.MethodGet:
		h.sseStream(w, r)
	default:
		h.sseMessage(w, r, quota)
	}
}

func (h *HTTP) sseStream(w *replyWriter, r *http.Request) {
	principal, id, requests := principalOf(r.Context()), "", &sseRequests{}
	w.drops = requests.drops
	defer requests.end()
	ctx, cancel := context.WithCancel(r.Context())
	// The stop cancels calls first, and the stream still carries their results.
	defer context.AfterFunc(h.stop, func() {
		requests.answered(stopAnswers)
		cancel()
	})()
	key := tools.CallerOf(ctx).Key
	named := key != ""
	ctx = context.WithValue(ctx, sseMadeKey{}, func(made string) {
		id = made
		if !named {
			key = sseKey(principal, id)
		}
		h.lives.Store(made, sseLife{ctx, key, requests})
	})
	h.stream(w, r, ctx, cancel)
	if id == "" {
		return
	}
	h.lives.Delete(id)
	if named {
		return // the principal's, for the next stream
	}
	// The id dies with its stream, so nobody could come back to the sandbox.
	if err := h.server.Manager().Delete(sseKey(principal, id)); err != nil {
		h.log.Error("a session did not end cleanly", "error", err)
	}
}

// sseLife is the part of a stream that its messages use: its end and its sandbox.
type sseLife struct {
	context.Context
	key      string
	requests *sseRequests
}

// sessionProtocols are the versions that begin with initialize. Messages over
// SSE lack the headers that 2026-07-28 requires, so server/discover must not offer
// it: clients that ask would choose it and then have every call refused.
func sessionProtocols() []string {
	return slices.DeleteFunc(slices.Clone(mcp.ValidProtocolVersions), mcp.IsModernProtocol)
}

func sseKey(principal, id string) string { return session.Key(principal, "sse:"+id) }

func (h *HTTP) sseMessage(w *replyWriter, r *http.Request, quota *inFlight) {
	msg, text, refused := h.readMessage(w, r)
	if refused != nil {
		h.refuse(w, r, principalOf(r.Context()), refused)
		return
	}
	if h.lacksScope(w, r, senderOf(r.Context()), msg) {
		return
	}
	principal, id := principalOf(r.Context()), r.URL.Query().Get("sessionId")
	found, _ := h.lives.Load(id)
	life, ok := found.(sseLife)
	if !ok || !h.signer.check(principal, id) {
		h.refuse(w, r, principal, refusal(http.StatusNotFound, "session not found or ended; open "+ssePath+" for a new one"))
		return
	}
	life.requests.saw(msg, quota)
	ctx := from(withLarge(r.Context(), msg), func(c *tools.Caller) { c.Key = life.key })
	ctx = context.WithValue(ctx, lifeKey{}, life.Context)
	ctx = context.WithValue(ctx, stopKey{}, h.stop)
	ctx = server.WithSupportedProtocolVersions(ctx, sessionProtocols())
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	h.library.ServeHTTP(w, r.WithContext(ctx))
}

// cancelTools ends a tool when the server stops, and over SSE with its client's
// stream, from which the library detaches it. Over SSE the library queues
// notifications and results separately, so a result waits 5 ms for the last
// progress before it (1 ms sufficed when measured).
func cancelTools(next server.ToolHandlerFunc) server.ToolHandlerFunc {
	return func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		life, sse := ctx.Value(lifeKey{}).(context.Context)
		stop, _ := ctx.Value(stopKey{}).(context.Context)
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		for _, end := range []context.Context{life, stop} {
			if end != nil {
				defer context.AfterFunc(end, func() { cancel(context.Cause(end)) })()
			}
		}
		res, err := next(ctx, req)
		if m := req.Params.Meta; sse && m != nil && m.ProgressToken != nil {
			time.Sleep(5 * time.Millisecond)
		}
		return res, err
	}
}
