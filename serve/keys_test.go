package serve

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"mcp-sandbox/tools"
)

// TestAmbiguousMessages: what another reader of JSON could take for another message is
// refused, with the id of the request where there is one, and what is plain is taken.
func TestAmbiguousMessages(t *testing.T) {
	call := func(params string) string {
		return `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":` + params + `}`
	}
	many := ""
	for i := range 40 {
		many += fmt.Sprintf(`"k%d":1,`, i)
	}
	for _, c := range []struct{ text, id, want string }{
		{`{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/list"}`, "7", `"method" stands twice`},
		{`{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}`, "", `"id" stands twice`},
		{`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"ls"},"params":null}`, "7", `"params" stands twice`},
		{`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"ls"},"param\u0073":{}}`, "7", `"params" stands twice`},
		{call(`{"name":"ls","name":"exec_command"}`), "7", `"name" stands twice`},
		{call(`{"name":"ls","arguments":{"path":"a","path":"b"}}`), "7", `"path" stands twice`},
		{call(`{"name":"ls","arguments":{"env":[{"a":[],"b":{"c":1},"a":2}]}}`), "7", `"a" stands twice`},
		{call(`{"name":"ls","arguments":{` + many + `"k3":1}}`), "7", `"k3" stands twice`},
		{call(`{"name":"ls","arguments":{` + many + `"k39":1}}`), "7", `"k39" stands twice`},
		{call(`{"name":"ls","Name":"exec_command"}`), "7", "is not name"},
		{call(`{"name":"ls","argument\u017f":{}}`), "7", "is not arguments"},
		{call(`{"_META":{}}`), "7", "is not _meta"},
		{`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestid":7}}`, "", "is not requestId"},
		{call(`["ls"]`), "7", "params is not an object"},
		{`null`, "", "not an object"},
		{`{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}`, "7", "both a request and an answer"},
		{`{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}`, "9007199254740993", "round"},
		{`{"jsonrpc":"2.0","id":1764516000123456789,"method":"ping"}`, "1764516000123456789", "round"},
		{`{"jsonrpc":"2.0","id":-9007199254740993,"method":"ping"}`, "-9007199254740993", "round"},
		{`{"jsonrpc":"2.0","id":1e400,"method":"ping"}`, "1e400", "round"},
		{`{"jsonrpc":"2.0","id":1e-400,"method":"ping"}`, "1e-400", "round"},
		{`{"jsonrpc":"2.0","id":0.12345678901234567890,"method":"ping"}`, "0.12345678901234567890", "round"},

		{`{"jsonrpc":"2.0","id":9007199254740991,"method":"ping"}`, "9007199254740991", ""},
		{`{"jsonrpc":"2.0","id":"9007199254740993","method":"ping"}`, `"9007199254740993"`, ""},
		{`{"jsonrpc":"2.0","id":0,"method":"ping"}`, "0", ""},
		{`{"jsonrpc":"2.0","id":0.5,"method":"ping"}`, "0.5", ""},
		{call(`null`), "7", ""},
		{call(`{"name":"ls","arguments":{"name":"ls","a":{"name":[{"name":1},{"name":1}]},"b":"name","c":"\"name\":"}}`), "7", ""},
		{call(`{"name":"ls","arguments":{` + many + `"k40":["k3","k3",{"k3":1}]}}`), "7", ""},
		{call(`{"name":"ls","arguments":{"Path":"a","path":"b"}}`), "7", ""}, // the tool refuses it
	} {
		m, err := parseMessage([]byte(c.text))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
		if string(m.id) != c.id {
			t.Errorf("%s: id %s, want %s", c.text, m.id, c.id)
		}
	}
}

// TestIDsInOneSpelling: a cancel reaches its request however the two spell the id.
func TestIDsInOneSpelling(t *testing.T) {
	for _, same := range [][2]string{{`"a"`, `"\u0061"`}, {`"a/b"`, `"a\/b"`}, {`1`, `1.0`}, {`100`, `1e2`}, {`1`, ` 1 `}} {
		if a, b := compactID([]byte(same[0])), compactID([]byte(same[1])); a != b {
			t.Errorf("%s is %s, and %s is %s", same[0], a, same[1], b)
		}
	}
	for _, other := range [][2]string{{`1`, `"1"`}, {`""`, `null`}, {`1`, `10`}, {`""`, ``}} {
		if a, b := compactID([]byte(other[0])), compactID([]byte(other[1])); a == b {
			t.Errorf("%s and %s are both %s", other[0], other[1], a)
		}
	}
}

// TestReplacedBytesAreTold: what a decoder replaces without a word is told.
func TestReplacedBytesAreTold(t *testing.T) {
	for value, want := range map[string]int{
		"\xff": 1, "a\xc3": 1, "\xed\xa0\x80": 1, "\\ud83d\xff": 2, "\u00e9": 0, "\ufffd": 0,
		strings.Repeat("x", largeString) + "\xff": 1, strings.Repeat("x", largeString): 0,
	} {
		text := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"write_file","arguments":{"path":"a","content":"` + value + `"}}}`
		msg, _, err := parseShortened([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if notes := tools.CallerOf(withLarge(context.Background(), msg)).Notes; len(notes) != want {
			t.Errorf("%.20q: %q", value, notes)
		}
	}
}
