package tools

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"mcp-sandbox/tokens"
)

// everyTool is each tool once, in all the ways it can be offered: by default,
// and to many clients, where every tool takes a sandbox_id more, with default
// sandboxes and without.
func everyTool(t *testing.T) map[string][]tool {
	t.Helper()
	shapes := map[string][]tool{}
	for name, o := range map[string]Options{
		"local":  {expose: true, staged: true, stageApply: true, shell: "bash"},
		"remote": {expose: true, staged: true, stageApply: true, Remote: true, DefaultSandbox: true, shell: "bash"},
		"strict": {expose: true, staged: true, stageApply: true, Remote: true, shell: "bash"},
	} {
		s := &Server{options: o}
		offered, err := s.offered(allTools(o))
		if err != nil {
			t.Fatal(err)
		}
		shapes[name] = offered
	}
	raw, err := (&Server{}).offered(rawTools())
	if err != nil {
		t.Fatal(err)
	}
	shapes["raw"] = raw
	return shapes
}

// TestSchemaGoldens shows a change of what clients are told in its diff: each
// tool's definition as it goes over the wire. MCP_SANDBOX_TEST_UPDATE=1 writes
// the files anew.
func TestSchemaGoldens(t *testing.T) {
	dir := filepath.Join("testdata", "schemas")
	wanted := map[string]bool{}
	golden := func(name string, tl tool) {
		b, err := json.MarshalIndent(tl.def, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		wanted[name+".json"] = true
		checkGolden(t, filepath.Join(dir, name+".json"), append(b, '\n'))
	}
	shapes := everyTool(t)
	local := map[string]bool{}
	for _, tl := range shapes["local"] {
		local[tl.def.Name] = true
		golden(tl.def.Name, tl)
	}
	for _, tl := range slices.Concat(shapes["remote"], shapes["raw"]) {
		if !local[tl.def.Name] {
			golden(tl.def.Name, tl)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !wanted[f.Name()] {
			t.Errorf("%s is the golden of no tool, remove it", f.Name())
		}
	}
}

func checkGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if os.Getenv("MCP_SANDBOX_TEST_UPDATE") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("%v: run MCP_SANDBOX_TEST_UPDATE=1 go test ./tools -run Golden", err)
		return
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what clients are told:\n%s\nif that is meant, run MCP_SANDBOX_TEST_UPDATE=1 go test ./tools -run Golden", path, got)
	}
}

// Budgets of the tool list, in bytes on the wire and in tokens: it is in the
// model's context before the first word is said. Clients with many tools or
// long descriptions load them late or not at all, so one tool has a limit too.
const (
	tokenBudget = 2_000
	toolBudget  = 400
)

// TestTokenBudget counts what a model reads of a tool, its name, description
// and input schema, in both encodings.
func TestTokenBudget(t *testing.T) {
	for _, name := range []string{"o200k_base", "cl100k_base"} {
		enc, err := tokens.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		total := enc.Count(instructions)
		offered, err := (&Server{}).offered(allTools(Options{}))
		if err != nil {
			t.Fatal(err)
		}
		for _, tl := range offered {
			b, err := json.Marshal(map[string]any{"name": tl.def.Name, "description": tl.def.Description, "parameters": tl.def.InputSchema})
			if err != nil {
				t.Fatal(err)
			}
			n := enc.Count(string(b))
			total += n
			if n > toolBudget {
				t.Errorf("%s: %s takes %d tokens, the budget of one tool is %d", name, tl.def.Name, n, toolBudget)
			}
		}
		t.Logf("%s: %d tokens for %d tools and the instructions", name, total, len(offered))
		if total > tokenBudget {
			t.Errorf("%s: the tools take %d tokens, the budget is %d", name, total, tokenBudget)
		}
	}
}
