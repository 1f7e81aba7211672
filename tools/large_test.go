package tools

import (
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
)

func TestAsksLarge(t *testing.T) {
	for _, c := range []struct {
		tool tool
		most any
		want bool
	}{
		{readFileTool(), nil, false},
		{readFileTool(), float64(10_000), false},
		{readFileTool(), float64(maxTokensAsked), true},
		{searchTextTool(), float64(maxTokensAsked), true},
		{readOutputTool(), float64(maxTokensAsked), true},
		{execCommandTool(Options{}), float64(maxTokensAsked), false}, // it may wait for a minute
	} {
		var req mcp.CallToolRequest
		req.Params.Arguments = map[string]any{"max_output_tokens": c.most}
		if got := asksLarge(c.tool, req); got != c.want {
			t.Errorf("%s with %v: %v", c.tool.def.Name, c.most, got)
		}
	}
}
