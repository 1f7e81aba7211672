package tools

import (
	"context"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

func rmTool() tool {
	return tool{
		sets:    []string{"files"},
		changes: session.Destroys,
		def: mcp.NewTool("rm",
			mcp.WithDescription("Remove a file, link (not its target) or directory."),
			hints(false, true, false, false),
			mcp.WithString("path", mcp.Required()),
			mcp.WithBoolean("recursive", mcp.Description("Directory and all in it")),
		),
		run: func(ctx context.Context, c *call) (*reply, error) {
			path, recursive := c.required("path"), c.boolean("recursive", false)
			if c.err != nil {
				return nil, c.err
			}
			res, err := c.session.Files().Remove(ctx, path, recursive)
			if err == nil && res.Removed == 0 {
				return done(fmt.Sprintf("nothing to remove: %s does not exist", sandbox.OneLine(path)), nil)
			}
			return done(fmt.Sprintf("removed %s (%s, %d in all)", sandbox.OneLine(path), res.Kind, res.Removed), err)
		},
	}
}
