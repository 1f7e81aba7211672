package tools

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func rawInputTool() tool {
	return tool{
		sets: []string{rawSet, "core", "process"},
		def: mcp.NewTool("raw_input",
			mcp.WithDescription("Send text to a process of raw_exec, or without chars wait for what it writes; the result is that of raw_exec."),
			hints(false, true, false, true),
			mcp.WithInteger("session_id", mcp.Required()),
			mcp.WithString("chars"),
			mcp.WithBoolean("close"),
			mcp.WithString("encoding", mcp.Enum("utf-8", "base64")),
			mcp.WithInteger("yield_time_ms"),
		),
		run: rawInput,
	}
}

func rawInput(ctx context.Context, c *call) (*reply, error) {
	r := session.InputRequest{
		ID:       c.processID(),
		Chars:    c.rawGiven(c.text("chars", ""), "chars"),
		Close:    c.boolean("close", false),
		Progress: c.progress(ctx),
	}
	if c.has("yield_time_ms") {
		r.Yield = c.yield(0)
	}
	if c.err != nil {
		return nil, c.err
	}
	defer c.withPrompter(ctx)()
	res, err := c.session.Write(ctx, r)
	if err != nil {
		return nil, err
	}
	return c.rawOutcome(ctx, res)
}
