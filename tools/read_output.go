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
			mcp.WithInteger("byte_offset", mcp.Description("Read bytes, not lines; negative from the end")),
			mcp.WithInteger("byte_limit"),
			mcp.WithBoolean("raw", mcp.Description("Show control bytes as \\xNN")),
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
	show := func(s string) string { return plain(s).text }
	if c.boolean("raw", false) {
		show = escaped
	}
	if c.has("byte_offset") || c.has("byte_limit") {
		return c.outputBytes(id, most, show)
	}
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
		if l.Cut && pattern != "" {
			fmt.Fprintf(&lines, "(from byte %d) ", l.At)
		}
		lines.WriteString(show(l.Text))
		if l.Cut {
			fmt.Fprintf(&lines, " [... the line goes on: byte_offset %d ...]", l.At+int64(len(l.Text)))
		}
		lines.WriteByte('\n')
	}
	cut := c.truncate(lines.String(), most, func(tokens, lines int) string {
		return fmt.Sprintf("[... %d tokens in %d lines cut: ask for fewer lines ...]", tokens, lines)
	})

	var b strings.Builder
	switch {
	case len(chunk.Lines) == 0 && pattern != "" && offset == 1:
		b.WriteString("no line matches")
	case len(chunk.Lines) == 0 && pattern != "":
		fmt.Fprintf(&b, "no line matches from offset %d on", offset)
	case len(chunk.Lines) == 0:
		fmt.Fprintf(&b, "no line at offset %d", offset)
	default:
		fmt.Fprintf(&b, "%s, %d to %d", counted(len(chunk.Lines), "line", "lines"), chunk.Lines[0].Number, chunk.Lines[len(chunk.Lines)-1].Number)
	}
	switch {
	case chunk.TotalLines >= 0 && len(chunk.Lines) == 0:
		fmt.Fprintf(&b, "; the output has %s", counted(chunk.TotalLines, "line", "lines"))
	case chunk.TotalLines >= 0:
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

const mostOutputBytes = 1 << 20

func (c *call) outputBytes(id string, most int, show func(string) string) (*reply, error) {
	offset := c.integer("byte_offset", 0, -1<<53, 1<<53)
	limit := c.integer("byte_limit", 64<<10, 1, mostOutputBytes)
	if c.has("offset") || c.has("limit") || c.has("pattern") {
		c.fail("byte_offset and byte_limit cannot go with offset, limit or pattern; read bytes or lines")
	}
	if c.err != nil {
		return nil, c.err
	}
	text, at, size, err := c.session.OutputBytes(id, int64(offset), limit)
	if err != nil {
		return nil, err
	}
	end := at + int64(len(text))
	cut := c.truncate(show(text), most, func(tokens, _ int) string {
		return fmt.Sprintf("[... %d tokens cut: ask for fewer bytes ...]", tokens)
	})
	head := fmt.Sprintf("bytes %d to %d of %d", at, end, size)
	if end < size {
		head += fmt.Sprintf(", go on with byte_offset %d", end)
	}
	return &reply{text: head + "\n" + cut.Text, structured: map[string]any{
		"text": cut.Text, "byte_offset": at, "next_byte_offset": end, "bytes": size, "truncated": cut.Truncated,
	}}, nil
}
