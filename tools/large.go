package tools

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

// LargeReply is where a reply counts as large, in bytes. A program may ask for many
// times that, and while its reply is encoded and sent each byte is held several times.
const LargeReply = 256 << 10

// asksLarge says whether a call may get a large text, and only looks: it is to wait
// before it has read that. A command is waited for without a place, and has it later.
func asksLarge(t tool, req mcp.CallToolRequest) bool {
	return *t.def.Annotations.ReadOnlyHint && req.GetInt("max_output_tokens", 0) > LargeReply/bytesPerToken
}

// bytesPerToken is about what text has.
const bytesPerToken = 4

// large waits until a large reply may be made. Code: cancelled.
func (c *call) large(ctx context.Context) error {
	wait := CallerOf(ctx).Large
	if wait == nil || wait(ctx) == nil {
		return nil
	}
	return refuse("cancelled", "the call was cancelled while other large replies were sent; nothing was done")
}

// readBytes reads a file of which a reply may hold a large part.
func (c *call) readBytes(ctx context.Context, req session.ByteRequest) (session.ByteResult, error) {
	if req.Limit == 0 || req.Limit > LargeReply {
		if e, err := c.session.Files().Stat(ctx, req.Path); err != nil || e.Size <= LargeReply {
			req.Limit = LargeReply // also when it grows meanwhile
		} else if err := c.large(ctx); err != nil {
			return session.ByteResult{}, err
		}
	}
	return c.session.Files().ReadBytes(ctx, req)
}
