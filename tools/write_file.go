package tools

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

func writeFileTool() tool {
	return tool{
		sets:    []string{"core", "files"},
		changes: session.Changes,
		grows:   true,
		def: mcp.NewTool("write_file",
			mcp.WithDescription("Write a file; makes missing directories."),
			hints(false, true, true, false),
			mcp.WithString("path", mcp.Required()),
			mcp.WithString("content", mcp.Required()),
			mcp.WithString("mode", mcp.Enum("overwrite", "append", "create"), mcp.Description("create refuses an existing file")),
			mcp.WithString("encoding", mcp.Enum("utf-8", "base64")),
			mcp.WithBoolean("executable"),
			mcp.WithBoolean("force"),
			mcp.WithString("if_unchanged", mcp.Description("Version from read_file")),
		),
		run: writeFile,
	}
}

func writeFile(ctx context.Context, c *call) (*reply, error) {
	req := session.WriteRequest{
		Path:        c.required("path"),
		Mode:        session.WriteMode(c.choice("mode", "overwrite", "append", "create")),
		Force:       c.boolean("force", false),
		IfUnchanged: c.name("if_unchanged", ""),
	}
	content := c.text("content", "")
	if c.choice("encoding", "utf-8", "base64") == "base64" {
		b, err := base64.StdEncoding.DecodeString(content)
		if err != nil {
			c.fail("content is not base64 (%v); send standard base64 with padding", err)
		}
		req.Content, req.Binary = b, true
	} else {
		req.Content = []byte(content)
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
	out := map[string]any{"path": req.Path, "bytes_written": res.Bytes, "created": res.Created}
	return &reply{
		text:       fmt.Sprintf("%s %s, %d bytes written%s%s\n", verb, sandbox.OneLine(req.Path), res.Bytes, newVersion(out, res.Version, req.IfUnchanged), note(res.Note)),
		structured: out,
	}, nil
}

// newVersion tells the version a write made: as data, and in the text for models
// that go by versions.
func newVersion(structured map[string]any, version, asked string) string {
	if version == "" {
		return ""
	}
	structured["version"] = version
	if asked == "" {
		return ""
	}
	return ", version " + version
}
