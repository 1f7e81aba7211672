package serve

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/tools"
)

// TestClientOverHTTP: who the client is reaches its calls over streamable HTTP, and
// still when the server knows nothing of it but its session id.
func TestClientOverHTTP(t *testing.T) {
	h, url := startHTTP(t, Options{})
	url += "/mcp"
	h.server.MCP().AddTool(mcp.NewTool("who"), func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText(fmt.Sprint("client ", tools.CallerOf(ctx).Client.ID())), nil
	})
	hello := strings.Replace(initialize, `"clientInfo":{"name":"`, `"clientInfo":{"name":"codex-mcp-client","title":"`, 1)
	if hello == initialize {
		t.Fatal("the example says no name")
	}
	resp, _ := post(t, url, hello)
	id := resp.Header.Get("Mcp-Session-Id")
	call := `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"who"}}`
	for range 2 {
		if _, text := post(t, url, call, "Mcp-Session-Id: "+id); !strings.Contains(text, "client 1") {
			t.Error(text)
		}
		h.open.sweep(-1) // as after hours of silence, or in the next server
	}
	if _, text := post(t, url, call, "Mcp-Session-Id: "+begin(t, url)); !strings.Contains(text, "client 0") {
		t.Error(text)
	}
	if resp, _ := post(t, url, call); resp.StatusCode != http.StatusBadRequest {
		t.Error(resp.Status)
	}
}
