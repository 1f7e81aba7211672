package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"
)

// message is what the loop needs of a JSON-RPC message.
type message struct {
	id     json.RawMessage // nil for notifications and responses
	method string
	params json.RawMessage
	large  []string // see takeLarge
	halved bool     // see hasHalfPair
	broken bool     // it holds bytes that are not UTF-8
	whole  []byte   // as it came
}

type protocolError struct {
	code int
	text string
}

func (e *protocolError) Error() string { return e.text }

// parseMessage reads the top level strictly. Go's decoder matches keys without
// case, so "Method" would be read as "method" by the library and by nobody
// else (CVE-2026-27896): such keys are refused here, and the same in params.
func parseMessage(text []byte) (message, error) {
	var m message
	var top map[string]json.RawMessage
	if err := json.Unmarshal(text, &top); err != nil || top == nil {
		if json.Valid(text) {
			return m, invalid("the message is not an object; send one JSON-RPC request a line")
		}
		return m, &protocolError{mcp.PARSE_ERROR, "the line is not JSON; send one JSON-RPC message a line"}
	}
	twice, isTop, found := repeatedKey(text)
	if found {
		if id := top["id"]; !(isTop && twice == "id") && isID(id) {
			m.id = id
		}
		return m, invalid(fmt.Sprintf("the key %.200q stands twice in an object; send it once", twice))
	}
	id, hasID := top["id"]
	if hasID && string(id) != "null" {
		if !isID(id) {
			return m, invalid("id is neither a string nor a number")
		}
		m.id = id
		if id[0] != '"' && !isExact(id) {
			return m, invalid(fmt.Sprintf("the id %.40s is a number that readers of JSON round; use a string, or an integer up to %d", id, largestID))
		}
	}
	for k := range top {
		if what := respelled(k, messageKeys); what != "" {
			return m, invalid(what)
		}
	}
	var version string
	if json.Unmarshal(top["jsonrpc"], &version) != nil || version != mcp.JSONRPC_VERSION {
		return m, invalid(`jsonrpc must be "2.0"`)
	}
	answers := top["result"] != nil || top["error"] != nil
	if raw, ok := top["method"]; ok {
		if json.Unmarshal(raw, &m.method) != nil {
			return m, invalid("method is not a string")
		}
		if answers {
			return m, invalid("the message is both a request and an answer; send method, or result or error")
		}
	} else if answers {
		m.id = nil // an answer to a request of the server
	} else {
		return m, invalid("the message has no method")
	}
	if hasID && string(id) == "null" && m.method != "" {
		return m, invalid("id is null; use a string or a number")
	}
	m.params = top["params"]
	return m, checkParams(m.params)
}

// checkParams refuses params that the library would take for others.
func checkParams(params json.RawMessage) error {
	if len(params) == 0 || string(params) == "null" {
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(params, &fields) != nil {
		return invalid("params is not an object; send one with the fields of the method")
	}
	for k := range fields {
		if what := respelled(k, paramKeys); what != "" {
			return invalid(what)
		}
	}
	return nil
}

func invalid(text string) error { return &protocolError{mcp.INVALID_REQUEST, text} }

func isID(raw json.RawMessage) bool {
	return len(raw) > 0 && (raw[0] == '"' || raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9')
}

// compactID is an id in one spelling: "\u0061" and "a" are the same, and so are 1 and
// 1.0, which the library answers as 1.
func compactID(id json.RawMessage) string {
	var v any
	_ = json.Unmarshal(id, &v)
	switch v := v.(type) {
	case string:
		return "s" + v
	case float64:
		return "n" + strconv.FormatFloat(v, 'g', -1, 64)
	}
	return "n" + string(bytes.TrimSpace(id))
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
	msg.large, msg.halved, msg.broken = large, hasHalfPair(short), !utf8.Valid(short)
	return msg, short, err
}
