package tools

import (
	"context"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func rawReadTool() tool {
	return tool{
		sets: []string{rawSet, "core", "files"},
		def: mcp.NewTool("raw_read",
			mcp.WithDescription("Read bytes of a file as base64, at most 32 MiB in one call. A negative offset counts from the end."),
			hints(true, false, true, false),
			mcp.WithString("path", mcp.Required()),
			mcp.WithInteger("offset"),
			mcp.WithInteger("limit"),
		),
		run: rawRead,
	}
}

func rawRead(ctx context.Context, c *call) (*reply, error) {
	req := session.ByteRequest{
		Path:   c.required("path"),
		Offset: int64(c.integer("offset", 0, -1<<53, 1<<53)),
		Limit:  int64(c.integer("limit", 0, 0, 1<<53)),
	}
	req.NoVersion = req.Offset != 0
	empty := c.has("limit") && req.Limit == 0
	if c.err != nil {
		return nil, c.err
	}
	f, err := c.readBytes(ctx, req)
	if err != nil {
		return nil, err
	}
	if empty {
		f.Content = nil
	}
	out := map[string]any{
		"data": base64Text(f.Content), "offset": f.Offset, "size": f.Size, "mime": f.MIME,
	}
	if f.Version != "" {
		out["version"] = f.Version
	}
	if end := f.Offset + int64(len(f.Content)); end < f.Size {
		out["next_offset"] = end
	}
	return rawReply(fmt.Sprintf("%d bytes of %d\n", len(f.Content), f.Size), out), nil
}
