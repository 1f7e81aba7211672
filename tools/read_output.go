package tools

import (
	"context"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

func readOutputTool() tool {
	return tool{
		sets: []string{"core", "process"},
		def: mcp.NewTool("read_output",
			mcp.WithDescription("Read output that was cut from a result."),
			hints(true, false, true, false),
			mcp.WithString("output_id", mcp.Required()),
			mcp.WithInteger("offset", mcp.Description("First line; negative from the end")),
			mcp.WithInteger("limit", mcp.Description("Lines (default 200)")),
			mcp.WithString("pattern", mcp.Description("RE2")),
			mcp.WithInteger("max_output_tokens"),
		),
		run: readOutput,
	}
}

const (
	readOutputLines = 200
	mostOutputLines = 10_000
)

func readOutput(_ context.Context, c *call) (*reply, error) {
	id := c.required("output_id")
	offset := c.integer("offset", 1, -1<<53, 1<<53)
	limit := c.integer("limit", readOutputLines, 1, mostOutputLines)
	pattern := c.name("pattern", "")
	most := c.maxTokens()
	if c.err != nil {
		return nil, c.err
	}
	chunk, err := c.session.ReadOutput(id, offset, limit, pattern)
	if err != nil {
		return nil, err
	}
	var lines strings.Builder
	for _, l := range chunk.Lines {
		if pattern != "" {
			fmt.Fprintf(&lines, "%d:", l.Number)
		}
		lines.WriteString(l.Text)
		lines.WriteByte('\n')
	}
	cut := c.server.encoding.Truncate(lines.String(), most, func(tokens, lines int) string {
		return fmt.Sprintf("[... %d tokens in %d lines cut: ask for fewer lines ...]", tokens, lines)
	})

	var b strings.Builder
	switch {
	case len(chunk.Lines) == 0:
		b.WriteString("no lines")
	default:
		fmt.Fprintf(&b, "%d lines, %d to %d", len(chunk.Lines), chunk.Lines[0].Number, chunk.Lines[len(chunk.Lines)-1].Number)
	}
	if chunk.TotalLines >= 0 {
		fmt.Fprintf(&b, " of %d", chunk.TotalLines)
	}
	if chunk.Next > 0 {
		fmt.Fprintf(&b, ", go on with offset %d", chunk.Next)
	}
	if chunk.Missing > 0 {
		fmt.Fprintf(&b, ", %d bytes beyond these were not kept", chunk.Missing)
	}
	b.WriteByte('\n')
	b.WriteString(cut.Text)
	return &reply{text: b.String(), structured: map[string]any{
		"text": cut.Text, "lines": len(chunk.Lines), "next_offset": chunk.Next, "total_lines": chunk.TotalLines,
		"bytes": chunk.Bytes, "missing_bytes": chunk.Missing, "truncated": cut.Truncated,
	}}, nil
}
