package tools

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

func mvTool() tool {
	return tool{
		sets:    []string{"files"},
		changes: session.Destroys,
		def: mcp.NewTool("mv",
			mcp.WithDescription("Move or rename a file or directory; refuses an existing destination."),
			hints(false, true, false, false),
			mcp.WithString("path", mcp.Required()),
			mcp.WithString("destination", mcp.Required()),
		),
		run: func(ctx context.Context, c *call) (*reply, error) {
			from, to := c.required("path"), c.required("destination")
			if c.err != nil {
				return nil, c.err
			}
			res, err := c.session.Files().Move(ctx, from, to)
			return done("moved "+sandbox.OneLine(from)+" to "+sandbox.OneLine(res.To), err)
		},
	}
}
