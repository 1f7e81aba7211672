package tools

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
	// MaxBody bounds a request's body, in bytes: a file of 12 MiB in base64 fits.
	MaxBody = 16 << 20
	// bodyWithin bounds how long a body may take to arrive.
	bodyWithin = 30 * time.Second
	// maxNesting bounds nesting: our deepest argument has four levels.
	maxNesting = 128
)

// readMessage takes one JSON-RPC message off the request, or says why not. The
// library reads a body of any length for any time.
func (h *HTTP) readMessage(w http.ResponseWriter, r *http.Request) (message, []byte, *httpError) {
	fail := func(status, code int, text string) (message, []byte, *httpError) {
		return message{}, nil, &httpError{status: status, code: code, text: text}
	}
	// A page can send text/plain without asking first, JSON it cannot.
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return fail(http.StatusUnsupportedMediaType, mcp.INVALID_REQUEST, "the Content-Type is not application/json, send one JSON-RPC message as JSON")
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return fail(http.StatusUnsupportedMediaType, mcp.INVALID_REQUEST, "compressed bodies are not taken, send it as it is")
	}
	tooLong := "the message is longer than 16 MiB, send it in parts"
	if r.ContentLength > MaxBody {
		return fail(http.StatusRequestEntityTooLarge, mcp.INVALID_REQUEST, tooLong)
	}
	rc := http.NewResponseController(w)
	until := time.Now().Add(bodyWithin)
	_ = rc.SetReadDeadline(until)
	text, err := h.readBody(http.MaxBytesReader(w, r.Body, MaxBody), principalOf(r.Context()), until)
	// Kept, it would end the request's context in the middle of the call.
	_ = rc.SetReadDeadline(time.Time{})
	var long *http.MaxBytesError
	switch {
	case errors.Is(err, errTooManyLarge):
		h.server.denied("quota")
		return fail(http.StatusTooManyRequests, mcp.INVALID_REQUEST, "too many large messages are arriving, wait for some of yours to end")
	case errors.As(err, &long):
		return fail(http.StatusRequestEntityTooLarge, mcp.INVALID_REQUEST, tooLong)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(http.StatusRequestTimeout, mcp.INVALID_REQUEST, "the body took longer than 30 s, send it again")
	case err != nil:
		return fail(http.StatusBadRequest, mcp.PARSE_ERROR, "the body could not be read, send it again")
	}
	if tooDeep(text) {
		return fail(http.StatusBadRequest, mcp.INVALID_REQUEST, "the message nests deeper than 128 levels, send a flatter one")
	}
	msg, err := parseMessage(text)
	if err != nil {
		e := err.(*protocolError)
		if b := bytes.TrimSpace(text); len(b) > 0 && b[0] == '[' {
			e.text = "batches are not taken, send one message a request"
		}
		return message{}, nil, &httpError{status: http.StatusBadRequest, code: e.code, id: msg.id, text: e.text}
	}
	return msg, text, nil
}

// tooDeep looks before a recursive decoder does; what is inside strings counts
// for nothing.
func tooDeep(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxNesting {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// isModern says which era the library will take the message for: the newest
// protocol version named in the header or the body decides (mcp-go,
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
