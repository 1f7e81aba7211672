package serve

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzParseMessage holds the reader of a client's lines to a decoder that knows
// keys exactly: what is taken is one JSON object of JSON-RPC 2.0, and the
// method is the one under "method" and no other spelling.
func FuzzParseMessage(f *testing.F) {
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":"x","result":{}}`,
		`{"jsonrpc":"2.0","id":1,"METHOD":"a","method":"b"}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
		`[]`, `{"jsonrpc":"2.0","id":null,"method":"x"}`, `{"jsonrpc":"2.0","id":-1e3,"method":"x"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseMessage(text)
		if err != nil {
			pe, ok := err.(*protocolError)
			if !ok || pe.text == "" || (pe.code == -32700) == json.Valid(text) {
				t.Fatalf("%q: error %v, valid %v", text, err, json.Valid(text))
			}
			return
		}
		var top map[string]any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&top); err != nil {
			t.Fatalf("%q was taken: %v", text, err)
		}
		if top["jsonrpc"] != "2.0" {
			t.Fatalf("%q was taken as JSON-RPC 2.0", text)
		}
		method, has := top["method"].(string)
		if m.method != method {
			t.Fatalf("%q: method %q, want %q", text, m.method, method)
		}
		for k := range top {
			if strings.EqualFold(k, "method") && k != "method" {
				t.Fatalf("%q: the key %q was taken", text, k)
			}
		}
		switch id := top["id"].(type) {
		case nil, bool, map[string]any, []any:
			if m.id != nil {
				t.Fatalf("%q: id %s", text, m.id)
			}
		default:
			if has != (m.id != nil) {
				t.Fatalf("%q: id %v with method %v became %s", text, id, has, m.id)
			}
		}
		// What is said of it must itself be a message the client can read.
		b, err := json.Marshal(rpcError(m.id, -32600, m.method))
		if err != nil || !json.Valid(b) {
			t.Fatalf("%q: an answer that cannot be written: %v", text, err)
		}
	})
}

// FuzzTokens: what parseTokens takes is a list of named principals, none of
// whose tokens stands twice or is shorter than asked for; nothing it says
// repeats a token.
func FuzzTokens(f *testing.F) {
	f.Add([]byte("# who\nann:" + strings.Repeat("a", 32) + "\n\nbob:" + strings.Repeat("b", 32)))
	f.Add([]byte("ann:short"))
	f.Add([]byte("ann:" + strings.Repeat("a", 32) + " limit=4\n@oauth:bob limit=5"))
	f.Add([]byte("ann:" + strings.Repeat("a", 32) + "\nbob:" + strings.Repeat("a", 32) + "\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, _, err := parseTokens(text)
		if err != nil {
			for line := range strings.Lines(string(text)) {
				_, token, _ := strings.Cut(strings.TrimSpace(line), ":")
				if len(token) >= minToken && strings.Contains(err.Error(), token) {
					t.Fatalf("%q is told in %v", token, err)
				}
			}
			return
		}
		if len(list) == 0 {
			t.Fatal("nobody was taken")
		}
		sums := map[[32]byte]bool{}
		for _, p := range list {
			if sums[p.sum] || !principalName().MatchString(p.name) {
				t.Fatalf("%q: %+v", text, p)
			}
			sums[p.sum] = true
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if token, _, _ := strings.Cut(line, " "); line == "" || line[0] == '#' || line[0] == '@' {
				continue
			} else if _, token, ok := strings.Cut(token, ":"); ok && (len(token) < minToken || strings.ContainsAny(token, " \t\x00")) {
				t.Fatalf("the line %q was taken", line)
			}
		}
	})
}
