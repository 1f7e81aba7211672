package tools

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"
)

// budget is what the whole tool list may weigh on the wire: it is in the
// model's context before the first word is said.
const budget = 10_000

// TestSchemas holds every tool to what the strictest clients take: Gemini and
// Cursor refuse type lists, boolean schemas and $ref, VS Code arrays without
// items, and Codex counts a missing hint as destructive and open-world.
func TestSchemas(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9_]{0,29}$`)
	seen := map[string]bool{}
	for _, tl := range allTools(Options{}) {
		d := tl.def
		if !name.MatchString(d.Name) || seen[d.Name] {
			t.Errorf("name %q", d.Name)
		}
		seen[d.Name] = true
		if d.Description == "" || len(tl.sets) == 0 {
			t.Errorf("%s has no description or toolset", d.Name)
		}
		a := d.Annotations
		if a.ReadOnlyHint == nil || a.DestructiveHint == nil || a.IdempotentHint == nil || a.OpenWorldHint == nil {
			t.Errorf("%s does not set all annotations", d.Name)
		} else if *a.ReadOnlyHint && *a.DestructiveHint {
			t.Errorf("%s is both read-only and destructive", d.Name)
		}
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var whole struct {
			InputSchema map[string]any `json:"inputSchema"`
		}
		if err := json.Unmarshal(b, &whole); err != nil {
			t.Fatal(err)
		}
		if whole.InputSchema["type"] != "object" {
			t.Errorf("%s: the schema is no object", d.Name)
		}
		lint(t, d.Name, whole.InputSchema)
		for p := range d.InputSchema.Properties {
			if !name.MatchString(p) {
				t.Errorf("%s.%s: name", d.Name, p)
			}
		}
	}
}

func lint(t *testing.T, where string, node map[string]any) {
	if _, ok := node["type"].(string); !ok {
		t.Errorf("%s: type is %v, want one string", where, node["type"])
	}
	for _, key := range []string{"$ref", "$defs", "oneOf", "anyOf", "allOf", "not", "if"} {
		if _, ok := node[key]; ok {
			t.Errorf("%s uses %s", where, key)
		}
	}
	if node["type"] == "array" {
		items, ok := node["items"].(map[string]any)
		if !ok {
			t.Errorf("%s: an array without items", where)
		} else {
			lint(t, where+"[]", items)
		}
	}
	props, _ := node["properties"].(map[string]any)
	for name, sub := range props {
		m, ok := sub.(map[string]any)
		if !ok {
			t.Errorf("%s.%s is a boolean schema", where, name)
			continue
		}
		lint(t, where+"."+name, m)
	}
}

// TestListBudget keeps the list small and byte-stable (AC-67).
func TestListBudget(t *testing.T) {
	var first string
	for range 3 {
		defs := []any{}
		for _, tl := range allTools(Options{}) {
			defs = append(defs, tl.def)
		}
		b, err := json.Marshal(map[string]any{"tools": defs})
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(b)
		}
		if string(b) != first {
			t.Fatal("the list is not the same twice")
		}
	}
	t.Logf("tools/list: %d bytes for %d tools", len(first), len(allTools(Options{})))
	if len(first) > budget {
		t.Errorf("tools/list has %d bytes, the budget is %d", len(first), budget)
	}
}

func TestArguments(t *testing.T) {
	def := execCommandTool(Options{}).def
	decode := func(raw any) (*arguments, error) { return decodeArguments(raw, def) }
	for _, tc := range []struct {
		raw  any
		want string
	}{
		{nil, "cmd is missing"},
		{map[string]any{"cmd": nil}, "cmd is missing"},
		{[]any{}, "arguments is an array"},
		{"text", "arguments is a string"},
		{map[string]any{"cmd": "x", "CMD": "y"}, `no argument "CMD"`},
	} {
		if _, err := decode(tc.raw); err == nil || !regexp.MustCompile(regexp.QuoteMeta(tc.want)).MatchString(err.Error()) {
			t.Errorf("%v: %v, want %q", tc.raw, err, tc.want)
		}
	}
	a, err := decode(map[string]any{"cmd": "x", "cols": "80", "rows": 24.0, "tty": "true", "login": nil, "env": `{"A":"1"}`})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(a.required("cmd"), a.integer("cols", 1, 1, 1000), a.integer("rows", 1, 1, 1000), a.boolean("tty", false), a.boolean("login", true), a.pairs("env"))
	if want := "x80 24 true true map[A:1]"; got != want || a.err != nil {
		t.Errorf("got %q, want %q (%v)", got, want, a.err)
	}
	// The first error stays.
	a.integer("cmd", 0, 0, 1)
	first := a.err
	a.boolean("cmd", false)
	if first == nil || a.err != first {
		t.Errorf("errors: %v then %v", first, a.err)
	}
}

func TestParseMessage(t *testing.T) {
	for _, tc := range []struct {
		text string
		code int
	}{
		{`{"jsonrpc":"2.0","id":1,"method":"ping"}`, 0},
		{`{"jsonrpc":"2.0","id":"a","method":"ping","params":{}}`, 0},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, 0},
		{`{"jsonrpc":"2.0","id":1,"result":{}}`, 0},
		{`nonsense`, -32700},
		{`[]`, -32600},
		{`5`, -32600},
		{`{"jsonrpc":"2.0","id":[1],"method":"ping"}`, -32600},
		{`{"jsonrpc":"2.0","id":true,"method":"ping"}`, -32600},
		{`{"jsonrpc":"2.0","id":null,"method":"ping"}`, -32600},
		{`{"jsonrpc":"2.0","id":1,"method":5}`, -32600},
		{`{"id":1,"method":"ping"}`, -32600},
		{`{"jsonrpc":"2.0","id":1}`, -32600},
		{`{"jsonrpc":"2.0","id":1,"METHOD":"ping","method":"ping"}`, -32600},
	} {
		_, err := parseMessage([]byte(tc.text))
		code := 0
		if err != nil {
			code = err.(*protocolError).code
		}
		if code != tc.code {
			t.Errorf("%s: %d, want %d", tc.text, code, tc.code)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":"x","result":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseMessage(text)
		if err == nil && m.id == nil && m.method == "" && !json.Valid(text) {
			t.Fatal("invalid JSON was taken")
		}
	})
}
