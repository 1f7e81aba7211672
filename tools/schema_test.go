package tools

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mcp-sandbox/session"
)

// budget is what the whole tool list may weigh on the wire: it is in the
// model's context before the first word is said.
const budget = 10_500

// TestListBudget keeps the list small and byte-stable (AC-67).
func TestListBudget(t *testing.T) {
	var first string
	for range 3 {
		defs := []any{}
		for _, tl := range allTools(Options{shell: "bash"}) {
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
		{[]any{}, "arguments is an array"},
		{"text", "arguments is a string"},
		{map[string]any{"cmd": "x", "CMD": "y"}, `no argument "CMD"`},
	} {
		if _, err := decode(tc.raw); err == nil || !regexp.MustCompile(regexp.QuoteMeta(tc.want)).MatchString(err.Error()) {
			t.Errorf("%v: %v, want %q", tc.raw, err, tc.want)
		}
	}
	for _, raw := range []any{nil, map[string]any{"session_id": nil}} {
		if _, err := decodeArguments(raw, writeStdinTool(Options{}).def); err == nil || !strings.Contains(err.Error(), "session_id is missing") {
			t.Errorf("%v: %v", raw, err)
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
	for raw, want := range map[string]string{`["A=1","B=x=y","C="]`: "map[A:1 B:x=y C:]", `["A"]`: "", `[1]`: "", `5`: "", `{"A":1}`: "map[A:1]"} {
		var v any
		if err := json.Unmarshal([]byte(raw), &v); err != nil {
			t.Fatal(err)
		}
		b := &arguments{fields: map[string]any{"env": v}}
		if got := fmt.Sprint(b.pairs("env")); (b.err != nil) != (want == "") || want != "" && got != want {
			t.Errorf("%s: %s %v", raw, got, b.err)
		}
	}
	// The first error stays.
	a.integer("cmd", 0, 0, 1)
	first := a.err
	a.boolean("cmd", false)
	if first == nil || a.err != first {
		t.Errorf("errors: %v then %v", first, a.err)
	}
}

// TestFileToolsAreUndoable: a file tool that is not read-only says what it does to
// files, so that a snapshot precedes it.
func TestFileToolsAreUndoable(t *testing.T) {
	for _, tool := range allTools(Options{Remote: true, expose: true}) {
		writes := slices.Contains(tool.sets, "files") && !*tool.def.Annotations.ReadOnlyHint
		if writes != (tool.changes != session.Continues) {
			t.Errorf("%s: changes is %v, and read-only is %v", tool.def.Name, tool.changes, *tool.def.Annotations.ReadOnlyHint)
		}
		if tool.changes == session.Destroys && !*tool.def.Annotations.DestructiveHint {
			t.Errorf("%s destroys files and has no destructive hint", tool.def.Name)
		}
	}
}
