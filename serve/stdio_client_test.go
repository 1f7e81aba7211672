package serve

import (
	"encoding/json"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
)

// A line is what encoding/json makes of the whole message, whatever it is.
func TestEncodeLine(t *testing.T) {
	hostile := "a\u2028b<&>\"\\\x00\x1f\xff\n\u00e9"
	for name, m := range map[string]mcp.JSONRPCMessage{
		"result": mcp.NewJSONRPCResultResponse(mcp.NewRequestId(int64(7)), &mcp.CallToolResult{
			Content: []mcp.Content{mcp.NewTextContent(hostile), mcp.NewImageContent("aGk=", "image/png")}, StructuredContent: map[string]any{"text": hostile, "n": 1.5}, IsError: true}),
		"string id":      mcp.NewJSONRPCResultResponse(mcp.NewRequestId("<\u2028>"), mcp.NewToolResultText("")),
		"no result":      mcp.NewJSONRPCResultResponse(mcp.NewRequestId(int64(1)), (*mcp.CallToolResult)(nil)),
		"another result": mcp.NewJSONRPCResultResponse(mcp.NewRequestId(int64(1)), map[string]any{"tools": []int{1}}),
		"error":          rpcError(json.RawMessage("3"), -32601, hostile),
		"notification":   mcp.JSONRPCNotification{JSONRPC: mcp.JSONRPC_VERSION, Notification: mcp.Notification{Method: "notifications/x"}},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			got, err := encodeLine(m)
			if err != nil || string(got) != string(want)+"\n" {
				t.Errorf("%v\n got %s\nwant %s", err, got, want)
			}
		})
	}
	if _, err := encodeLine(mcp.NewJSONRPCResultResponse(mcp.NewRequestId(int64(1)), &mcp.CallToolResult{StructuredContent: make(chan int)})); err == nil {
		t.Error("a result that cannot be encoded was")
	}
}
