package tools

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func writeFileTool() tool {
	return tool{
		sets: []string{"core", "files"},
		def: mcp.NewTool("write_file",
			mcp.WithDescription("Write a file atomically; missing folders are made."),
			hints(false, true, true, false),
			mcp.WithString("path", mcp.Required()),
			mcp.WithString("content", mcp.Required()),
			mcp.WithString("mode", mcp.Enum("overwrite", "append", "create"), mcp.Description("create refuses an existing file")),
			mcp.WithString("encoding", mcp.Enum("utf-8", "base64")),
			mcp.WithBoolean("executable", mcp.Description("Default: as it was")),
			mcp.WithBoolean("force"),
		),
		run: writeFile,
	}
}

func writeFile(ctx context.Context, c *call) (*reply, error) {
	req := session.WriteRequest{
		Path:    c.required("path"),
		Content: []byte(c.text("content", "")),
		Mode:    session.WriteMode(c.choice("mode", "overwrite", "append", "create")),
		Force:   c.boolean("force", false),
	}
	if c.choice("encoding", "utf-8", "base64") == "base64" {
		b, err := base64.StdEncoding.DecodeString(string(req.Content))
		if err != nil {
			c.fail("content is not base64 (%v), send standard base64 with padding", err)
		}
		req.Content, req.Binary = b, true
	}
	if c.has("executable") {
		x := c.boolean("executable", false)
		req.Executable = &x
	}
	if c.err != nil {
		return nil, c.err
	}
	res, err := c.session.Files().WriteFile(ctx, req)
	if err != nil {
		return nil, err
	}
	verb := "wrote"
	if res.Created {
		verb = "created"
	}
	return &reply{
		text:       fmt.Sprintf("%s %s, %d bytes written%s\n", verb, req.Path, res.Bytes, note(res.Note)),
		structured: map[string]any{"path": req.Path, "bytes_written": res.Bytes, "created": res.Created},
	}, nil
}
