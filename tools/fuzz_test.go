package tools

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

// FuzzArguments gives every tool arguments of any shape. Bad ones are refused
// with a code and a next step; the getters of good ones keep to their ranges
// whatever was sent.
func FuzzArguments(f *testing.F) {
	offered, err := (&Server{options: Options{Remote: true, expose: true}}).offered(append(allTools(Options{Remote: true, expose: true}), rawTools()...))
	if err != nil {
		f.Fatal(err)
	}
	for i, s := range []string{
		`{"cmd":"x","cols":"80","rows":24.0,"tty":"true","login":null,"env":"{\"A\":\"1\"}"}`,
		`{"cmd":"x","env":{"A":1,"B":null}}`, `{"cmd":1e400}`, `"{\"cmd\":\"x\"}"`, `[]`, `null`, `{"path":"a\u0000b"}`,
		`{"cmd":"x","cols":9223372036854775808}`, `{"cmd":"x","cols":-0.5}`, `{"cmd":"x","cols":"1e2"}`,
	} {
		f.Add([]byte(s), i)
	}
	f.Fuzz(func(t *testing.T, text []byte, which int) {
		var raw any
		if json.Unmarshal(text, &raw) != nil {
			return
		}
		def := offered[uint(which)%uint(len(offered))].def
		a, err := decodeArguments(raw, def)
		if err != nil {
			if sandbox.CodeOf(err) != "invalid_argument" || !strings.Contains(err.Error(), def.Name) {
				t.Fatalf("%s: %v", def.Name, err)
			}
			return
		}
		for name, v := range a.fields {
			_, known := def.InputSchema.Properties[name]
			if !known && v != nil && !isExtra(name, a.fields) && !slices.Contains(a.notes, ignored("", name)) {
				t.Fatalf("%s took the argument %q without a word", def.Name, name)
			}
		}
		for _, name := range def.InputSchema.Required {
			if !a.has(name) {
				t.Fatalf("%s was taken without %s", def.Name, name)
			}
		}
		for name := range def.InputSchema.Properties {
			if n := (&arguments{fields: a.fields}).integer(name, 7, 5, 50); n < 5 || n > 50 {
				t.Fatalf("%s: integer %d out of its range", name, n)
			}
			if n := (&arguments{fields: a.fields}).clamped(name, 7, 5, 50); n < 5 || n > 50 {
				t.Fatalf("%s: clamped %d out of its range", name, n)
			}
			b := &arguments{fields: a.fields}
			if s := b.name(name, ""); b.err == nil && strings.ContainsRune(s, 0) {
				t.Fatalf("%s: a NUL byte in a name", name)
			}
			c := &arguments{fields: a.fields}
			if s := c.choice(name, "one", "two"); c.err == nil && !slices.Contains([]string{"", "one", "two"}, s) {
				t.Fatalf("%s: the choice %q", name, s)
			}
			e := &arguments{fields: a.fields}
			given, isMap := a.fields[name].(map[string]any)
			if got := e.pairs(name); isMap && e.err == nil && len(got) != len(given) {
				t.Fatalf("%s: %d of %d pairs", name, len(got), len(given))
			}
			(&arguments{fields: a.fields}).boolean(name, true)
		}
	})
}
