package serve

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
)

// Clients that retry right after a refusal starve the others, so a principal's
// refusals beyond a burst of promptRefusals are delayed by refusalDelay. Meanwhile a
// refused request holds its connection alone, which is among the first to be evicted.
const (
	promptRefusals          = 128
	promptRefusalsPerSecond = 32
	refusalDelay            = time.Second
	// restWithin bounds how long the rest of a refused request may take to
	// arrive, which net/http reads for the next request's sake.
	restWithin = time.Second
)

// httpError is a refusal with its status.
type httpError struct {
	status int
	code   int // JSON-RPC
	id     json.RawMessage
	text   string
	unread bool // the rest of the body is not read
}

func (e *httpError) Error() string { return e.text }

// refuse sends a refusal, delayed when the principal has had too many.
func (h *HTTP) refuse(w http.ResponseWriter, r *http.Request, principal string, e *httpError) {
	h.delayRefusal(r, principal)
	refuseMessage(w, e)
}

// refuseUnread is refuse for a request whose body was not looked at.
func (h *HTTP) refuseUnread(w http.ResponseWriter, r *http.Request, principal string, e *httpError) {
	h.delayRefusal(r, principal)
	// Only while a body is to come: without one the connection is read already,
	// to see it end, and a deadline would end it.
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(restWithin))
	}
	refuseMessage(w, e)
}

// delayRefusal waits until a refusal of the principal is due.
func (h *HTTP) delayRefusal(r *http.Request, principal string) {
	h.mu.Lock()
	prompt := h.quota(principal).promptRefusals.AllowN(h.signer.now(), 1)
	h.mu.Unlock()
	if prompt {
		return
	}
	h.conns.expose(r.Context())
	h.pause(h.refusalDelay, r.Context().Done())
}

// refusal is a JSON-RPC error, which MCP allows for any status.
func refusal(status int, text string) *httpError {
	return &httpError{status: status, code: mcp.INVALID_REQUEST, text: text}
}

func refuseHTTP(w http.ResponseWriter, status int, text string) {
	refuseMessage(w, refusal(status, text))
}

func refuseMessage(w http.ResponseWriter, e *httpError) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.unread = true // the gate's, before the body
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	}
	if e.unread {
		h.Set("Connection", "close")
	}
	w.WriteHeader(e.status)
	_ = json.NewEncoder(w).Encode(rpcError(e.id, e.code, e.text))
}
