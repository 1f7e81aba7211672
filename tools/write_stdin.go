package tools

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"
)

const (
	writeYieldMS = 250
	// An empty poll asked for without a wait of its own waits this long: it ends
	// sooner on output or exit, so a long wait costs nothing.
	pollYieldMS = 5_000
)

func writeStdinTool(o Options) tool {
	return tool{
		sets: []string{"core", "process"},
		def: mcp.NewTool("write_stdin",
			mcp.WithDescription("Type into a running command, or poll it with empty chars. Returns new output once it has settled, and the exit code at the end. On a terminal \\u0003 is Ctrl-C, \\u0004 Ctrl-D, \\r Enter."),
			hints(false, true, false, true),
			mcp.WithInteger("session_id", mcp.Required()),
			mcp.WithString("chars"),
			mcp.WithInteger("yield_time_ms", mcp.Description("Longest wait (default 250; a poll 5000)")),
			mcp.WithInteger("max_output_tokens"),
			mcp.WithBoolean("close", mcp.Description("Then close stdin")),
		),
		run: writeStdin,
	}
}

func writeStdin(ctx context.Context, c *call) (*reply, error) {
	id := c.processID()
	chars := c.text("chars", "")
	closing := c.boolean("close", false)
	wait := writeYieldMS
	if chars == "" && !closing {
		wait = pollYieldMS
	}
	yield := c.yield(wait)
	limit := c.maxTokens()
	if c.err != nil {
		return nil, c.err
	}
	defer c.attend(ctx)()
	res, err := c.session.Write(ctx, id, chars, closing, yield, c.progress(ctx))
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
