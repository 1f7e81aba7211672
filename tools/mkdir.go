package tools

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

func mkdirTool() tool {
	return tool{
		sets:    []string{"files"},
		changes: session.Changes,
		grows:   true,
		def: mcp.NewTool("mkdir",
			mcp.WithDescription("Make a directory."),
			hints(false, false, true, false),
			mcp.WithString("path", mcp.Required()),
			mcp.WithBoolean("recursive", mcp.Description("Also missing parents")),
		),
		run: func(ctx context.Context, c *call) (*reply, error) {
			path, parents := c.required("path"), c.boolean("recursive", false)
			if c.err != nil {
				return nil, c.err
			}
			res, err := c.session.Files().Mkdir(ctx, path, parents)
			what := "made "
			if !res.Created {
				what = "already there: "
			}
			return done(what+sandbox.OneLine(path), err)
		},
	}
}

// done is the reply of a tool that has nothing to show but its success.
func done(what string, err error) (*reply, error) {
	if err != nil {
		return nil, err
	}
	return &reply{text: what + "\n", structured: map[string]any{"ok": true}}, nil
}
