package tools

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func writeStdinTool(o Options) tool {
	return tool{
		sets: []string{"core", "process"},
		def: mcp.NewTool("write_stdin",
			mcp.WithDescription("Type into a running command, or wait for it with empty chars. Returns new output when it waits for input again, ends, or yield_time_ms is over. On a terminal \\u0003 is Ctrl-C, \\u0004 Ctrl-D, \\r Enter."),
			hints(false, true, false, true),
			mcp.WithInteger("session_id", mcp.Required()),
			mcp.WithString("chars"),
			mcp.WithInteger("yield_time_ms", mcp.Description("Longest wait (default 10000; without chars 30000)")),
			mcp.WithString("wait_for"),
			mcp.WithInteger("max_output_tokens"),
			mcp.WithBoolean("close", mcp.Description("Then close stdin")),
		),
		run: writeStdin,
	}
}

func writeStdin(ctx context.Context, c *call) (*reply, error) {
	r := session.InputRequest{
		ID:       c.processID(),
		Chars:    c.text("chars", ""),
		Close:    c.boolean("close", false),
		WaitFor:  c.name("wait_for", ""),
		Progress: c.progress(ctx),
	}
	if c.has("yield_time_ms") {
		r.Yield = c.yield(0)
	}
	limit := c.maxTokens()
	if c.err != nil {
		return nil, c.err
	}
	defer c.attend(ctx)()
	res, err := c.session.Write(ctx, r)
	if err != nil {
		return nil, err
	}
	return c.commandReply(res, limit), nil
}

// processID reads session_id. Any whole number passes: one that was never given
// out is process_not_found, which tells the model more than a range would.
func (c *call) processID() int {
	return c.integer("session_id", 0, -1<<53, 1<<53)
}
