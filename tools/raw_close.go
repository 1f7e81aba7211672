package tools

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"
)

func rawCloseTool() tool {
	return tool{
		sets:    []string{rawSet, "core", "session"},
		handles: true,
		def: mcp.NewTool("raw_close",
			mcp.WithDescription("End the sandbox of this connection, or the one named, for good: its processes, its workspace if the server made it, its snapshots and its saved state are removed."),
			hints(false, true, true, false),
			mcp.WithString(sandboxArgument),
		),
		run: func(ctx context.Context, c *call) (*reply, error) {
			key, err := c.server.sessionKey(ctx, "raw_close", c.request.Params.Arguments)
			if err != nil {
				return nil, err
			}
			return done("ended", c.server.manager.Delete(key))
		},
	}
}
