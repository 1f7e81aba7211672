package tools

import (
	"context"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

func editFileTool() tool {
	return tool{
		sets:    []string{"files"},
		changes: session.Changes,
		grows:   true,
		def: mcp.NewTool("edit_file",
			mcp.WithDescription("Replace exact text in a file; old_text must occur once unless replace_all. Returns a diff."),
			hints(false, true, false, false),
			mcp.WithString("path", mcp.Required()),
			mcp.WithString("old_text", mcp.Required()),
			mcp.WithString("new_text", mcp.Required()),
			mcp.WithBoolean("replace_all"),
			mcp.WithBoolean("force"),
			mcp.WithString("if_unchanged"),
		),
		run: editFile,
	}
}

func editFile(ctx context.Context, c *call) (*reply, error) {
	req := session.EditRequest{
		Path:        c.required("path"),
		OldText:     c.text("old_text", ""),
		NewText:     c.text("new_text", ""),
		ReplaceAll:  c.boolean("replace_all", false),
		Force:       c.boolean("force", false),
		IfUnchanged: c.name("if_unchanged", ""),
	}
	if c.err != nil {
		return nil, c.err
	}
	res, err := c.session.Files().EditFile(ctx, req)
	if err != nil {
		return nil, err
	}
	text, _ := spelled(res.Diff)
	diff := c.truncate(text, c.defaultTokens(), nil).Text
	out := map[string]any{"path": req.Path, "replacements": res.Replacements, "diff": diff}
	return &reply{
		text:       fmt.Sprintf("%d replaced in %s%s%s\n%s", res.Replacements, sandbox.OneLine(req.Path), newVersion(out, res.Version, req.IfUnchanged), note(res.Note), diff),
		structured: out,
	}, nil
}
