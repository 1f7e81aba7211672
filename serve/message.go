package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

// message is what the loop needs of a JSON-RPC message.
type message struct {
	id     json.RawMessage // nil for notifications and responses
	method string
	params json.RawMessage
	large  []string // see takeLarge
	halved bool     // see hasHalfPair
	whole  []byte   // as it came
}

type protocolError struct {
	code int
	text string
}

func (e *protocolError) Error() string { return e.text }

// parseMessage reads the top level strictly. Go's decoder matches keys without
// case, so "Method" would be read as "method" by the library and by nobody
// else (CVE-2026-27896): such keys are refused here.
func parseMessage(text []byte) (message, error) {
	var m message
	var top map[string]json.RawMessage
	if err := json.Unmarshal(text, &top); err != nil {
		if json.Valid(text) {
			return m, &protocolError{mcp.INVALID_REQUEST, "the message is not an object; send one JSON-RPC request a line"}
		}
		return m, &protocolError{mcp.PARSE_ERROR, "the line is not JSON; send one JSON-RPC message a line"}
	}
	id, hasID := top["id"]
	if hasID && string(id) != "null" {
		if id[0] != '"' && id[0] != '-' && (id[0] < '0' || id[0] > '9') {
			return m, &protocolError{mcp.INVALID_REQUEST, "id is neither a string nor a number"}
		}
		m.id = id
	}
	for k := range top {
		for _, known := range []string{"jsonrpc", "id", "method", "params", "result", "error"} {
			if k != known && strings.EqualFold(k, known) {
				return m, &protocolError{mcp.INVALID_REQUEST, fmt.Sprintf("the key %.200q is not ", k) + known + "; write it in lower case"}
			}
		}
	}
	var version string
	if json.Unmarshal(top["jsonrpc"], &version) != nil || version != mcp.JSONRPC_VERSION {
		return m, &protocolError{mcp.INVALID_REQUEST, `jsonrpc must be "2.0"`}
	}
	if raw, ok := top["method"]; ok {
		if json.Unmarshal(raw, &m.method) != nil {
			return m, &protocolError{mcp.INVALID_REQUEST, "method is not a string"}
		}
	} else if top["result"] != nil || top["error"] != nil {
		m.id = nil // an answer to a request of the server
	} else {
		return m, &protocolError{mcp.INVALID_REQUEST, "the message has no method"}
	}
	if hasID && string(id) == "null" && m.method != "" {
		return m, &protocolError{mcp.INVALID_REQUEST, "id is null; use a string or a number"}
	}
	m.params = top["params"]
	return m, nil
}

func rpcError(id json.RawMessage, code int, text string) mcp.JSONRPCMessage {
	var v any
	if id != nil {
		d := json.NewDecoder(bytes.NewReader(id))
		d.UseNumber()
		_ = d.Decode(&v)
	}
	return mcp.JSONRPCError{
		JSONRPC: mcp.JSONRPC_VERSION,
		ID:      mcp.NewRequestId(v),
		Error:   mcp.NewJSONRPCErrorDetails(code, text, nil),
	}
}

// parseShortened reads a message and gives it without the large strings of a
// tool call.
func parseShortened(text []byte) (message, []byte, error) {
	short, large := takeLarge(text)
	msg, err := parseMessage(short)
	if large != nil && (err != nil || msg.method != string(mcp.MethodToolsCall)) {
		msg, err = parseMessage(text)
		return msg, text, err
	}
	msg.large, msg.halved = large, hasHalfPair(short)
	return msg, short, err
}
