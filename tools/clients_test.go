package tools

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// serverName is the name `mcp-sandbox config` and the packages give the server;
// clients put it in front of the tools' names.
const serverName = "sandbox"

// clientRule is what one client demands of a tool, as found in its documents and
// bug reports; a breach loses the tool, or every tool, or the whole request.
type clientRule struct {
	client, rule string
	check        func(d definition) []string
}

// definition is a tool as a client sees it, decoded from the wire.
type definition struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	InputSchema map[string]any  `json:"inputSchema"`
	Annotations map[string]bool `json:"annotations"`
}

var namePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9_]{0,29}$`) })

func clientRules() []clientRule {
	return []clientRule{
		{"all", "a name of lower-case letters, digits and _, at most 30 long", func(d definition) []string {
			bad := []string{}
			for name := range properties(d.InputSchema) {
				if !namePattern().MatchString(name) {
					bad = append(bad, "argument "+name)
				}
			}
			if !namePattern().MatchString(d.Name) {
				bad = append(bad, d.Name)
			}
			return bad
		}},
		{"Claude Code", "mcp__SERVER__TOOL of at most 128 characters", func(d definition) []string {
			return tooLong("mcp__"+serverName+"__"+d.Name, 128)
		}},
		{"Claude Code", "a description of 1 to 4,096 characters", func(d definition) []string {
			if d.Description == "" {
				return []string{"no description"}
			}
			return tooLong(d.Description, 4096)
		}},
		{"Claude", "an input schema that is an object without oneOf, anyOf or allOf at its top", func(d definition) []string {
			bad := keywords("", d.InputSchema, false, "oneOf", "anyOf", "allOf")
			if d.InputSchema["type"] != "object" {
				bad = append(bad, "it is no object")
			}
			return bad
		}},
		{"OpenAI strict mode", "every object has properties or is closed, and no map is open", func(d definition) []string {
			var bad []string
			walk("", d.InputSchema, func(where string, node map[string]any) {
				if node["type"] != "object" {
					return
				}
				props, _ := node["properties"].(map[string]any)
				more, closed := node["additionalProperties"]
				if open, ok := more.(bool); closed && (!ok || open) || !closed && len(props) == 0 {
					bad = append(bad, "an open object at "+where)
				}
			})
			return bad
		}},
		{"Gemini", "a name of at most 63 characters with its server", func(d definition) []string {
			return tooLong("mcp_"+serverName+"_"+d.Name, 63)
		}},
		{"Gemini", "exactly one type, a string, at every node: a list is answered with 400 for the whole request", oneType},
		{"Gemini", "no $ref, $defs, definitions, oneOf, anyOf, allOf, not, if, const or patternProperties anywhere", func(d definition) []string {
			return keywords("", d.InputSchema, true, "$ref", "$defs", "definitions", "oneOf", "anyOf", "allOf", "not", "if", "const", "patternProperties")
		}},
		{"Gemini", "enums of strings, not empty", func(d definition) []string {
			var bad []string
			walk("", d.InputSchema, func(where string, node map[string]any) {
				values, has := node["enum"]
				list, ok := values.([]any)
				if has && (!ok || len(list) == 0 || node["type"] != "string") {
					bad = append(bad, where+": enum")
				}
				for _, v := range list {
					if s, ok := v.(string); !ok || s == "" {
						bad = append(bad, fmt.Sprintf("%s: enum value %v", where, v))
					}
				}
			})
			return bad
		}},
		{"Cursor", "server and tool name of at most 60 characters together", func(d definition) []string {
			return tooLong(serverName+":"+d.Name, 60)
		}},
		{"Cursor", "no null among the types: the call is refused before it is sent", oneType},
		{"VS Code", "items that are a schema on every array", func(d definition) []string {
			var bad []string
			walk("", d.InputSchema, func(where string, node map[string]any) {
				if _, ok := node["items"].(map[string]any); node["type"] == "array" && !ok {
					bad = append(bad, where+": an array without items")
				}
			})
			return bad
		}},
		{"VS Code", "a name of at most 64 characters with its server", func(d definition) []string {
			return tooLong("mcp_"+serverName+"_"+d.Name, 64)
		}},
		{"VS Code", "no boolean schemas", func(d definition) []string {
			var bad []string
			walk("", d.InputSchema, func(where string, node map[string]any) {
				for name, sub := range properties(node) {
					if _, ok := sub.(map[string]any); !ok {
						bad = append(bad, where+"."+name)
					}
				}
			})
			return bad
		}},
		{"Codex", "all four annotations: a missing one counts as destructive and open-world", func(d definition) []string {
			var bad []string
			for _, hint := range []string{"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"} {
				if _, ok := d.Annotations[hint]; !ok {
					bad = append(bad, hint)
				}
			}
			if d.Annotations["readOnlyHint"] && d.Annotations["destructiveHint"] {
				bad = append(bad, "both read-only and destructive")
			}
			return bad
		}},
		{"OpenAI models", "required arguments that exist, each once", func(d definition) []string {
			var bad []string
			seen := map[string]bool{}
			list, _ := d.InputSchema["required"].([]any)
			for _, v := range list {
				name, _ := v.(string)
				if _, ok := properties(d.InputSchema)[name]; !ok || seen[name] {
					bad = append(bad, fmt.Sprintf("required %v", v))
				}
				seen[name] = true
			}
			return bad
		}},
	}
}

func properties(node map[string]any) map[string]any {
	m, _ := node["properties"].(map[string]any)
	return m
}

// walk visits the schema and every schema in it, in a fixed order.
func walk(where string, node map[string]any, visit func(where string, node map[string]any)) {
	visit(where, node)
	for _, name := range slices.Sorted(maps.Keys(properties(node))) {
		if m, ok := properties(node)[name].(map[string]any); ok {
			walk(where+"."+name, m, visit)
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if m, ok := node[key].(map[string]any); ok {
			walk(where+"["+key+"]", m, visit)
		}
	}
}

func oneType(d definition) []string {
	var bad []string
	walk("", d.InputSchema, func(where string, node map[string]any) {
		s, ok := node["type"].(string)
		if !ok || !slices.Contains([]string{"object", "array", "string", "integer", "number", "boolean"}, s) {
			bad = append(bad, fmt.Sprintf("%s: type is %v", where, node["type"]))
		}
	})
	return bad
}

func keywords(where string, node map[string]any, deep bool, words ...string) []string {
	var bad []string
	walk(where, node, func(at string, n map[string]any) {
		if !deep && at != where {
			return
		}
		for _, w := range words {
			if _, ok := n[w]; ok {
				bad = append(bad, at+" uses "+w)
			}
		}
	})
	return bad
}

func tooLong(s string, most int) []string {
	if len(s) > most {
		return []string{fmt.Sprintf("%d characters", len(s))}
	}
	return nil
}

func breaches(d definition) []string {
	var all []string
	for _, r := range clientRules() {
		for _, what := range r.check(d) {
			all = append(all, fmt.Sprintf("%s wants %s: %s", r.client, r.rule, what))
		}
	}
	return all
}

// TestClientsTakeEveryTool holds each tool, in each shape it is offered in, to
// the rules of every client.
func TestClientsTakeEveryTool(t *testing.T) {
	for shape, list := range everyTool(t) {
		seen := map[string]bool{}
		for _, tl := range list {
			if seen[tl.def.Name] || len(tl.sets) == 0 {
				t.Errorf("%s: %s is listed twice or is in no toolset", shape, tl.def.Name)
			}
			seen[tl.def.Name] = true
			b, err := json.Marshal(tl.def)
			if err != nil {
				t.Fatal(err)
			}
			var d definition
			if err := json.Unmarshal(b, &d); err != nil {
				t.Fatal(err)
			}
			for _, what := range breaches(d) {
				t.Errorf("%s: %s: %s", shape, tl.def.Name, what)
			}
		}
		// Cursor warns past 40 tools, VS Code refuses a request past 128.
		if len(seen) > 40 {
			t.Errorf("%s: %d tools, Cursor warns past 40", shape, len(seen))
		}
	}
}

// TestClientRulesRefuse: a rule that nothing breaks proves nothing.
func TestClientRulesRefuse(t *testing.T) {
	const good = `{"name":"ls","description":"d","annotations":{"readOnlyHint":true,"destructiveHint":false,"idempotentHint":true,"openWorldHint":false},"inputSchema":{"type":"object","properties":{"a":{"type":"string","enum":["x"]},"b":{"type":"array","items":{"type":"integer"}}},"required":["a"]}}`
	long := strings.Repeat("n", 130)
	broken := map[string]bool{}
	try := func(from, to string) int {
		text := strings.Replace(good, from, to, 1)
		if from != "" && text == good {
			t.Fatalf("%q is not in the example", from)
		}
		var d definition
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, r := range clientRules() {
			if bad := r.check(d); len(bad) > 0 {
				broken[r.client+": "+r.rule] = true
				n += len(bad)
			}
		}
		return n
	}
	if n := try("", ""); n != 0 {
		t.Fatalf("the good example has %d breaches", n)
	}
	for _, tc := range [][2]string{
		{`"name":"ls"`, `"name":"Ls"`},
		{`"name":"ls"`, `"name":"` + long + `"`},
		{`"description":"d"`, `"description":""`},
		{`"type":"object"`, `"type":"string"`},
		{`"type":"object"`, `"type":"object","anyOf":[]`},
		{`{"type":"string"`, `{"type":["string","null"]`},
		{`{"type":"string"`, `{"description":"untyped"`},
		{`{"type":"string"`, `{"type":"string","$ref":"#/x"`},
		{`"enum":["x"]`, `"enum":[1]`},
		{`"enum":["x"]`, `"enum":[]`},
		{`"items":{"type":"integer"}`, `"items":{"type":"object"}`},
		{`"required":["a"]`, `"required":["a"],"additionalProperties":{"type":"string"}`},
		{`"items":{"type":"integer"}`, `"items":true`},
		{`"items":{"type":"integer"}`, `"items":{"type":"null"}`},
		{`,"items":{"type":"integer"}`, ``},
		{`"b":{"type":"array","items":{"type":"integer"}}`, `"b":true`},
		{`"a":{`, `"A b":{`},
		{`,"openWorldHint":false`, ``},
		{`"destructiveHint":false`, `"destructiveHint":true`},
		{`"required":["a"]`, `"required":["z"]`},
		{`"required":["a"]`, `"required":["a","a"]`},
	} {
		if try(tc[0], tc[1]) == 0 {
			t.Errorf("%s in place of %s was taken by every client", tc[1], tc[0])
		}
	}
	for _, r := range clientRules() {
		if !broken[r.client+": "+r.rule] {
			t.Errorf("no example breaks what %s wants: %s", r.client, r.rule)
		}
	}
}
