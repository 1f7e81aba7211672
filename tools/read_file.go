package tools

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func readFileTool() tool {
	return tool{
		sets: []string{"core", "files"},
		def: mcp.NewTool("read_file",
			mcp.WithDescription("Read a text file or some lines. Images come as images; others are described, or read as base64."),
			hints(true, false, true, false),
			mcp.WithString("path", mcp.Required(), mcp.Description("Relative to the workspace, or absolute")),
			mcp.WithInteger("offset", mcp.Description("First line, from 1 (base64: byte, from 0); negative from the end")),
			mcp.WithInteger("limit"),
			mcp.WithString("encoding", mcp.Enum("base64")),
			mcp.WithInteger("max_output_tokens"),
			mcp.WithBoolean("line_numbers"),
		),
		run: readFile,
	}
}

// readBytes bounds what one call takes from the file; the token limit cuts far
// below it. Most text has at least two bytes a token.
const readBytes = 8 << 20

func readFile(ctx context.Context, c *call) (*reply, error) {
	if c.choice("encoding", "utf-8", "base64", "text") == "base64" {
		return readBase64(ctx, c)
	}
	req := session.ReadRequest{
		Path:     c.required("path"),
		Offset:   c.integer("offset", 0, -1<<53, 1<<53),
		Limit:    c.integer("limit", 0, 0, 1<<53),
		MaxBytes: readBytes,
	}
	limit, numbered := c.maxTokens(), c.boolean("line_numbers", false)
	if c.err != nil {
		return nil, c.err
	}
	f, err := c.session.Files().ReadFile(ctx, req)
	if err != nil {
		return nil, err
	}
	if string(f.Kind) == "image" && len(f.Image) > 0 {
		return &reply{text: fmt.Sprintf("%s, %d bytes%s\n", f.MIME, f.Size, note(f.Note)), image: f.Image, mime: f.MIME}, nil
	}
	text, controls := spelled(f.Text)
	if controls > 0 {
		f.Note = strings.TrimPrefix(f.Note+", "+counted(controls, "control character is", "control characters are")+` shown as \xNN: encoding base64 has the bytes`, ", ")
	}
	if numbered && string(f.Kind) == "text" {
		text = numberLines(text, f.StartLine)
	}
	cut := c.truncate(text, limit, func(tokens, lines int) string {
		return fmt.Sprintf("[... %d tokens in %d lines cut: read them with offset and limit ...]", tokens, lines)
	})
	var b strings.Builder
	var link *mcp.ResourceLink
	total := "?"
	if f.TotalLines >= 0 {
		total = fmt.Sprint(f.TotalLines)
	}
	switch {
	case string(f.Kind) != "text":
		uri := c.fileURI(f.Path)
		link = c.linkTo(ctx, uri, path.Base(f.Path), f.MIME, f.Size)
		fmt.Fprintf(&b, "%s %s, %d bytes, version %s, resource %s%s\n", f.Kind, f.MIME, f.Size, f.Version, uri, note(f.Note))
	case f.EndLine < f.StartLine:
		fmt.Fprintf(&b, "no lines (of %s), version %s%s\n", total, f.Version, note(f.Note))
	default:
		fmt.Fprintf(&b, "lines %d-%d of %s, version %s%s\n", f.StartLine, f.EndLine, total, f.Version, note(f.Note))
	}
	b.WriteString(cut.Text)
	return &reply{text: b.String(), link: link, structured: map[string]any{
		"text": cut.Text, "start_line": f.StartLine, "end_line": f.EndLine, "total_lines": f.TotalLines,
		"size": f.Size, "version": f.Version, "encoding": f.Encoding, "kind": f.Kind, "mime": f.MIME,
		"truncated": cut.Truncated || f.Truncated, "original_token_count": cut.OriginalTokens,
	}}, nil
}

// numberLines puts each line's number in front, as grep -n does. A first line
// below 1 counts from the end of a file too large to count.
func numberLines(text string, first int) string {
	var b strings.Builder
	n := first
	for line := range strings.Lines(text) {
		fmt.Fprintf(&b, "%d:%s", n, line)
		n++
	}
	return b.String()
}

func note(s string) string {
	if s == "" {
		return ""
	}
	return ", " + s
}
