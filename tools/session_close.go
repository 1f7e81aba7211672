package tools

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"
)

// sessionCloseTool is offered on a network only: protocol 2026-07-28 has no
// other way to say that a client is done.
func sessionCloseTool() tool {
	return tool{
		sets:    []string{"core", "session"},
		handles: true,
		def: mcp.NewTool("session_close",
			mcp.WithDescription("End a sandbox made by session_open: its processes and files are removed."),
			hints(false, true, true, false),
			mcp.WithString(sandboxArgument, mcp.Required()),
		),
		run: func(ctx context.Context, c *call) (*reply, error) {
			id := c.required(sandboxArgument)
			if c.err != nil {
				return nil, c.err
			}
			key := sandboxKey(principalOf(ctx), id)
			if !c.server.manager.Known(key) {
				return nil, refuse("session_not_found", "there is no sandbox with this sandbox_id, it may have ended already")
			}
			return done("ended", c.server.manager.Delete(key))
		},
	}
}
