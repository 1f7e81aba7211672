package tools

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
)

// TestClientTable holds the table against the clientInfo that clients were seen
// to send (testdata/clientinfo.json): each is known by its row, and by it alone.
func TestClientTable(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "clientinfo.json"))
	if err != nil {
		t.Fatal(err)
	}
	var seen []struct {
		Client     string
		ClientInfo mcp.Implementation
		// Row is the name of its row, "" for a client without one.
		Row string
	}
	if err := json.Unmarshal(b, &seen); err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, s := range seen {
		c := ClientNamed(s.ClientInfo.Name)
		if c.name != s.Row {
			t.Errorf("%s (%q) is taken for %q, want %q", s.Client, s.ClientInfo.Name, c.name, s.Row)
		}
		rows[s.Row] = true
	}
	ids := map[byte]string{0: "others"}
	for _, c := range clients {
		if !rows[c.name] {
			t.Errorf("nobody was seen as %q", c.name)
		}
		if ids[c.id] != "" {
			t.Errorf("%s and %s have the same id", c.name, ids[c.id])
		}
		ids[c.id] = c.name
		if c.name != strings.ToLower(c.name) || c.why == "" || c.tokens <= 0 || c.tokens > defaultMaxTokens || c.most != 0 && c.most < c.tokens {
			t.Errorf("%+v", c)
		}
		if ClientByID(c.id).name != c.name {
			t.Errorf("%s is not found by its id", c.name)
		}
	}
	for _, name := range []string{"", "test", "not-codex", "mcp"} {
		if c := ClientNamed(name); c.id != 0 || c.tokens != defaultMaxTokens || c.structured {
			t.Errorf("%q: %+v", name, c)
		}
	}
}

// TestStructuredSetting: on and off hold for every client, auto follows its row.
func TestStructuredSetting(t *testing.T) {
	for _, c := range []Client{{}, {structured: true}} {
		for setting, want := range map[string]bool{"on": true, "off": false, "auto": c.structured} {
			s := &Server{options: Options{Structured: setting}}
			res := s.success(c, &reply{text: "a", structured: map[string]any{"a": 1}})
			if got := res.StructuredContent != nil; got != want {
				t.Errorf("%s for %+v: %v", setting, c, got)
			}
		}
	}
}

// TestClientOfCall: a call names its client in its _meta (protocol 2026-07-28), else
// its transport does.
func TestClientOfCall(t *testing.T) {
	ctx := WithCaller(t.Context(), Caller{Client: ClientNamed("claude-code")})
	var req mcp.CallToolRequest
	if c := clientOf(ctx, req); c.name != "claude-code" {
		t.Errorf("by the transport: %+v", c)
	}
	if err := json.Unmarshal([]byte(`{"params":{"name":"x","_meta":{"io.modelcontextprotocol/clientInfo":{"name":"codex-mcp-client","version":"1"}}}}`), &req); err != nil {
		t.Fatal(err)
	}
	if c := clientOf(ctx, req); c.name != "codex" {
		t.Errorf("by the call: %+v", c)
	}
	if c := clientOf(t.Context(), mcp.CallToolRequest{}); c.id != 0 || c.tokens != defaultMaxTokens {
		t.Errorf("unknown: %+v", c)
	}
}
