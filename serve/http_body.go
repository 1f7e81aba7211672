package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"os"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
)

const (
	// maxBody bounds a request's body, in bytes: a file of 12 MiB in base64 fits.
	maxBody = 16 << 20
	// bodyWithin bounds how long a body may take to arrive.
	bodyWithin = 30 * time.Second
	// maxNesting bounds nesting; the deepest argument of a tool has four levels.
	maxNesting = 128
)

// readMessage takes one JSON-RPC message off the request, or says why not. The
// library reads a body of any length for any time.
func (h *HTTP) readMessage(w http.ResponseWriter, r *http.Request) (message, []byte, *httpError) {
	// These refusals leave the rest of the body unread.
	fail := func(status int, text string) (message, []byte, *httpError) {
		return message{}, nil, &httpError{status: status, code: mcp.INVALID_REQUEST, text: text, unread: true}
	}
	// A page can send text/plain without asking first, JSON it cannot.
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return fail(http.StatusUnsupportedMediaType, "the Content-Type is not application/json; send one JSON-RPC message as JSON")
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return fail(http.StatusUnsupportedMediaType, "compressed bodies are not taken; send it as it is")
	}
	tooLong := "the message is longer than 16 MiB; send it in parts"
	if r.ContentLength > maxBody {
		return fail(http.StatusRequestEntityTooLarge, tooLong)
	}
	rc := http.NewResponseController(w)
	until := time.Now().Add(bodyWithin)
	_ = rc.SetReadDeadline(until)
	text, err := h.readBody(http.MaxBytesReader(w, r.Body, maxBody), principalOf(r.Context()), until)
	// A remaining deadline would cancel the request's context during the call.
	_ = rc.SetReadDeadline(time.Time{})
	var long *http.MaxBytesError
	switch {
	case errors.Is(err, errTooManyLarge):
		h.server.Denied("quota")
		return fail(http.StatusTooManyRequests, "too many large messages are arriving; wait for some of yours to end")
	case errors.Is(err, errTooDeep):
		return fail(http.StatusBadRequest, "the message nests deeper than 128 levels; send a flatter one")
	case errors.As(err, &long):
		return fail(http.StatusRequestEntityTooLarge, tooLong)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(http.StatusRequestTimeout, "the body took longer than 30 s; send it again")
	case err != nil:
		return message{}, nil, &httpError{status: http.StatusBadRequest, code: mcp.PARSE_ERROR, text: "the body could not be read; send it again", unread: true}
	}
	whole := text
	msg, text, err := parseShortened(text)
	msg.whole = whole
	if err != nil {
		e := err.(*protocolError)
		if b := bytes.TrimSpace(text); len(b) > 0 && b[0] == '[' {
			e.text = "batches are not taken; send one message a request"
		}
		return message{}, nil, &httpError{status: http.StatusBadRequest, code: e.code, id: msg.id, text: e.text}
	}
	return msg, text, nil
}

// nesting looks at the depth of a message as it arrives, before a recursive
// decoder does; brackets inside strings do not count.
type nesting struct {
	depth           int
	quoted, escaped bool
}

// tooDeep scans the next part of the message.
func (n *nesting) tooDeep(part []byte) bool {
	for _, c := range part {
		switch {
		case n.escaped:
			n.escaped = false
		case n.quoted && c == '\\':
			n.escaped = true
		case c == '"':
			n.quoted = !n.quoted
		case n.quoted:
		case c == '{' || c == '[':
			if n.depth++; n.depth > maxNesting {
				return true
			}
		case c == '}' || c == ']':
			n.depth--
		}
	}
	return false
}

// isModern predicts whether the library treats the message as protocol 2026-07-28 or
// later: the newest version named in the header or the body decides (mcp-go,
// detectRequestEra).
func isModern(r *http.Request, params json.RawMessage) bool {
	if mcp.IsModernProtocol(r.Header.Get(mcp.HeaderProtocolVersion)) {
		return true
	}
	var p struct {
		Meta *mcp.Meta `json:"_meta"`
	}
	return json.Unmarshal(params, &p) == nil && mcp.IsModernProtocol(p.Meta.ProtocolVersion())
}
