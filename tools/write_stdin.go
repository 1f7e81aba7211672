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
			mcp.WithDescription("Type into a running command, or wait for it with empty chars. Returns new output when it waits for input again, ends, or yield_time_ms is over. On a terminal \\r is Enter."),
			hints(false, true, false, true),
			mcp.WithInteger("session_id", mcp.Required()),
			mcp.WithString("chars"),
			mcp.WithArray("keys", mcp.WithStringItems(), mcp.Description("On a terminal, after chars: Down, Enter, F2, C-c")),
			mcp.WithInteger("yield_time_ms", mcp.Description("Default 10000; without chars 30000")),
			mcp.WithString("wait_for"),
			mcp.WithInteger("max_output_tokens"),
			mcp.WithBoolean("close", mcp.Description("Then close stdin")),
			mcp.WithInteger("cols"),
			mcp.WithInteger("rows"),
		),
		run: writeStdin,
	}
}

func writeStdin(ctx context.Context, c *call) (*reply, error) {
	r := session.InputRequest{
		ID:       c.processID(),
		Chars:    c.text("chars", ""),
		Keys:     c.list("keys"),
		Cols:     c.integer("cols", 0, 1, 500),
		Rows:     c.integer("rows", 0, 1, 200),
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
	defer c.withPrompter(ctx)()
	res, err := c.session.Write(ctx, r)
	if err != nil {
		return nil, err
	}
	return c.commandOutcome(res, limit)
}

// processID reads session_id. Any whole number passes: one that was never given
// out is process_not_found, which tells the model more than a range would.
func (c *call) processID() int {
	return c.integer("session_id", 0, -1<<53, 1<<53)
}
