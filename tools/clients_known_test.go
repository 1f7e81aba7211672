package tools

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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
		c := clientNamed(s.ClientInfo.Name)
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
		if clientWith(c.id).name != c.name {
			t.Errorf("%s is not found by its id", c.name)
		}
	}
	for _, name := range []string{"", "test", "not-codex", "mcp"} {
		if c := clientNamed(name); c.id != 0 || c.tokens != defaultMaxTokens || c.structured {
			t.Errorf("%q: %+v", name, c)
		}
	}
}

// TestStructuredSetting: on and off hold for every client, auto follows its row.
func TestStructuredSetting(t *testing.T) {
	for _, c := range []client{{}, {structured: true}} {
		for setting, want := range map[string]bool{"on": true, "off": false, "auto": c.structured} {
			s := &Server{options: Options{Structured: setting}}
			res := s.success(c, &reply{text: "a", structured: map[string]any{"a": 1}})
			if got := res.StructuredContent != nil; got != want {
				t.Errorf("%s for %+v: %v", setting, c, got)
			}
		}
	}
}

// TestClientOverHTTP: who the client is reaches its calls over streamable HTTP, in
// both eras, and still when the server knows nothing of it but its session id.
func TestClientOverHTTP(t *testing.T) {
	h, url := startHTTP(t, HTTPOptions{})
	url += "/mcp"
	h.server.mcp.AddTool(mcp.NewTool("who"), h.server.handler(tool{def: mcp.NewTool("who"), handles: true, run: who}))
	hello := strings.Replace(initialize, `"clientInfo":{"name":"`, `"clientInfo":{"name":"codex-mcp-client","title":"`, 1)
	if hello == initialize {
		t.Fatal("the example says no name")
	}
	resp, _ := post(t, url, hello)
	id := resp.Header.Get("Mcp-Session-Id")
	call := `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"who"}}`
	for range 2 {
		if _, text := post(t, url, call, "Mcp-Session-Id: "+id); !strings.Contains(text, "codex 2500") {
			t.Error(text)
		}
		h.open.sweep(-1) // as after hours of silence, or in the next server
	}
	if _, text := post(t, url, call, "Mcp-Session-Id: "+begin(t, url)); !strings.Contains(text, " 10000") {
		t.Error(text)
	}
	body, headers := modernCall(3, "who", "{}")
	body = strings.Replace(body, `{"name":"t","version"`, `{"name":"codex-mcp-client","version"`, 1)
	if _, text := post(t, url, body, headers...); !strings.Contains(text, "codex 2500") {
		t.Error(text)
	}
	if resp, _ := post(t, url, call); resp.StatusCode != http.StatusBadRequest {
		t.Error(resp.Status)
	}
}

func who(_ context.Context, c *call) (*reply, error) {
	return &reply{text: fmt.Sprint(c.from.name, " ", c.maxTokens())}, nil
}
