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
			mcp.WithDescription("Send text to a running command, or poll it with empty chars. Returns new output as soon as it has settled, and the exit code once it ends. \\u0003 is Ctrl-C, \\u0004 Ctrl-D, \\r Enter on a terminal."),
			hints("Type into a command", false, true, false, true),
			mcp.WithInteger("session_id", mcp.Required(), mcp.Description("From exec_command")),
			mcp.WithString("chars", mcp.Description("Text to send; empty polls")),
			mcp.WithInteger("yield_time_ms", mcp.Description("Wait at most this long (default 250; an empty poll 5000)")),
			mcp.WithInteger("max_output_tokens", mcp.Description("Cut longer output (default 10000)")),
			mcp.WithBoolean("close", mcp.Description("Close stdin after chars")),
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
