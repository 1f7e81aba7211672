package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
)

const (
	// writeWithin bounds one write to a client that does not read. Streams are
	// open for hours, so no time-out of the whole answer can be set.
	writeWithin = 30 * time.Second
	// keepAlive is below the 60 s after which common proxies drop a silent stream.
	keepAlive = 25 * time.Second
)

// replyWriter wraps the connection for the library.
//
// The library (mcp-go 1.2.1) sends a call's notifications through a channel that
// a goroutine empties, and what is left when the call returns can be lost
// (upstream issue 969). Here a call's notification is written at once, in the
// call's own goroutine, so it is on the wire before the result is: the answer is
// turned into an event stream when the first one comes, and the library's JSON
// becomes that stream's last event.
type replyWriter struct {
	w  http.ResponseWriter
	rc *http.ResponseController

	mu      sync.Mutex
	header  http.Header // the library's, sent when it starts
	ours    bool        // an event stream was begun here
	started bool        // the library has sent its header
	wrap    bool        // what it writes is JSON for that stream
	body    bytes.Buffer
	status  int
	stream  bool
	silent  bool // the request was cancelled: its response is dropped
	// refused, when set, is sent with 503 instead of the library's response.
	refused string
	passed  bool            // another server has answered
	valid   context.Context // ends with the request's token; nil: it does not end
	serving context.Context // ends with the server, for what changes nothing; nil: it does not end
	// drops, when set, names events that are not written. What it gives with them is
	// called when an event has been written or dropped.
	drops func(event []byte) (drop bool, after func())
}

func newReplyWriter(w http.ResponseWriter) *replyWriter {
	return &replyWriter{w: w, rc: http.NewResponseController(w), header: http.Header{}}
}

// Unwrap is for http.ResponseController.
func (w *replyWriter) Unwrap() http.ResponseWriter { return w.w }

func (w *replyWriter) Header() http.Header { return w.header }

func (w *replyWriter) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start(status)
}

func (w *replyWriter) start(status int) {
	if w.started {
		return
	}
	w.started = true
	if w.silent || w.refused != "" {
		w.wrap = true // discarded by finish
		return
	}
	events := w.header.Get("Content-Type") == "text/event-stream"
	if w.ours {
		w.wrap = !events
		return
	}
	h := w.w.Header()
	for name, values := range w.header {
		h[name] = values
	}
	// The library's SSE handler lets every page read (its default).
	if h.Get("Access-Control-Allow-Origin") == "*" {
		h.Del("Access-Control-Allow-Origin")
	}
	if events {
		w.begin()
	}
	w.status = status
	w.deadline()
	w.w.WriteHeader(status)
}

// begin sets what an event stream needs on its way through proxies.
func (w *replyWriter) begin() {
	w.stream = true
	h := w.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
}

func (w *replyWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start(http.StatusOK)
	if w.wrap {
		return w.body.Write(p)
	}
	if w.drops != nil {
		drop, after := w.drops(p)
		defer after()
		if drop {
			return len(p), nil
		}
	}
	w.deadline()
	return w.w.Write(p)
}

func (w *replyWriter) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.wrap {
		_ = w.rc.Flush()
	}
}

func (w *replyWriter) deadline() { _ = w.rc.SetWriteDeadline(time.Now().Add(writeWithin)) }

// refuse has the request answered with 503, unless an answer is on its way. It is
// for calls of which nothing was done: a proxy may try them at another server.
func (w *replyWriter) refuse(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.started && !w.ours {
		w.refused = text
	}
}

// silence drops the response unless it is on its way.
func (w *replyWriter) silence() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.started {
		w.silent = true
	}
}

// Notify writes one notification of the running call.
func (w *replyWriter) Notify(n mcp.JSONRPCNotification) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open()
	if !w.ours && !w.stream {
		return nil // answered already
	}
	return w.event(text)
}

func (w *replyWriter) event(text []byte) error {
	w.deadline()
	var b bytes.Buffer
	b.WriteString("event: message\ndata: ")
	b.Write(bytes.TrimSpace(text))
	b.WriteString("\n\n")
	if _, err := w.w.Write(b.Bytes()); err != nil {
		return err
	}
	return w.rc.Flush()
}

// finish sends the event held back for the end of the stream, and answers calls that
// the library leaves unanswered because they were cancelled from outside.
func (w *replyWriter) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.passed {
		return
	}
	if w.refused != "" && !w.silent {
		w.deadline()
		w.w.Header().Set("Retry-After", "1")
		refuseHTTP(w.w, http.StatusServiceUnavailable, w.refused)
		return
	}
	if !w.started && !w.ours && w.valid != nil && w.valid.Err() != nil {
		w.started = true
		w.deadline()
		w.w.Header().Set("WWW-Authenticate", `Bearer realm="mcp-sandbox", error="invalid_token"`)
		refuseHTTP(w.w, http.StatusUnauthorized, "the token was revoked during this call; use another one")
		return
	}
	if !w.started && !w.ours && w.serving != nil && w.serving.Err() != nil {
		w.started = true
		w.deadline()
		refuseHTTP(w.w, http.StatusServiceUnavailable, "the server is stopping; try again in a moment")
		return
	}
	if !w.started && !w.ours {
		// Not 503: the call may have run, and a proxy would send it again.
		w.started = true
		w.deadline()
		refuseHTTP(w.w, http.StatusNotFound, "the session was ended during this call; send initialize to start a new one")
		return
	}
	if w.silent && !w.ours && w.wrap {
		// A request may be answered by a stream (MCP, "Streamable HTTP"), and the
		// stream may be empty.
		w.begin()
		w.deadline()
		w.w.WriteHeader(http.StatusOK)
		return
	}
	if w.wrap && !w.silent && w.body.Len() > 0 {
		_ = w.event(w.body.Bytes())
		w.body.Reset()
	}
}

// keepOpen writes a comment now and then until ctx ends, so that no proxy takes
// a silent stream for a dead one.
func (w *replyWriter) keepOpen(ctx context.Context) {
	t := time.NewTicker(keepAlive)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		w.mu.Lock()
		if w.stream {
			w.deadline()
			if _, err := w.w.Write([]byte(": \n\n")); err == nil {
				_ = w.rc.Flush()
			}
		}
		w.mu.Unlock()
	}
}
