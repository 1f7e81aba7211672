package tools

import (
	"context"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func rawExportTool() tool {
	return tool{
		sets: []string{rawSet, "files", "snapshot"},
		def: mcp.NewTool("raw_export",
			mcp.WithDescription("Write the workspace as a tar and give its first bytes as base64; with the export_id of that reply and an offset, the following ones. skip names paths to leave out. What is hidden is not in it."),
			hints(true, false, false, false),
			mcp.WithString("export_id"),
			mcp.WithInteger("offset"),
			mcp.WithInteger("limit"),
			mcp.WithArray("skip", mcp.WithStringItems()),
		),
		run: rawExport,
	}
}

func rawExport(ctx context.Context, c *call) (*reply, error) {
	r := session.ExportRequest{
		ID:     c.name("export_id", ""),
		Offset: int64(c.integer("offset", 0, 0, 1<<53)),
		Limit:  c.integer("limit", session.MaxByteRange, 1, session.MaxByteRange),
		Skip:   c.list("skip"),
	}
	if c.err != nil {
		return nil, c.err
	}
	if r.Limit > LargeReply {
		if err := c.large(ctx); err != nil {
			return nil, err
		}
	}
	part, err := c.session.Export(ctx, r)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"data": base64Text(part.Data), "offset": r.Offset, "size": part.Size}
	if end := r.Offset + int64(len(part.Data)); end < part.Size {
		out["export_id"], out["next_offset"] = part.ID, end
	}
	return rawReply(fmt.Sprintf("%d bytes of %d\n", len(part.Data), part.Size), out), nil
}
