package tools

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"
)

// sessionCloseTool is offered on a network only: protocol 2026-07-28 has no
// other way to say that a client is done.
func sessionCloseTool(o Options) tool {
	description := mcp.WithDescription("End a sandbox made by session_open: its processes and files are removed.")
	argument := mcp.WithString(sandboxArgument, mcp.Required())
	if o.DefaultSandbox {
		description = mcp.WithDescription("End a sandbox, by default the one of calls without a sandbox_id: its processes end, and its workspace is removed if the server made it.")
		argument = mcp.WithString(sandboxArgument)
	}
	return tool{
		sets:    []string{"core", "session"},
		handles: true,
		def:     mcp.NewTool("session_close", description, hints(false, true, true, false), argument),
		run: func(ctx context.Context, c *call) (*reply, error) {
			if own := CallerOf(ctx).Key; own != "" && o.DefaultSandbox && !c.has(sandboxArgument) {
				return done(closed(c, "; the next call without a sandbox_id makes a new one"), c.server.manager.Delete(own))
			}
			id := c.required(sandboxArgument)
			if c.err != nil {
				return nil, c.err
			}
			key := sandboxKey(CallerOf(ctx).Principal, id)
			if !c.server.manager.Known(key) {
				return nil, refuse("session_not_found", "there is no sandbox with this sandbox_id; it may have ended already")
			}
			return done(closed(c, ""), c.server.manager.Delete(key))
		},
	}
}

// closed tells that a sandbox has ended, and that the end of a staged one discards nothing.
func closed(c *call, next string) string {
	if c.server.options.staged {
		return "ended; while changes wait to be applied it is kept, and a call continues it"
	}
	return "ended" + next
}
