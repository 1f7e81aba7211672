package tools

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func rawImportTool() tool {
	return tool{
		sets:    []string{rawSet, "files"},
		changes: session.Destroys,
		grows:   true,
		def: mcp.NewTool("raw_import",
			mcp.WithDescription("Unpack a tar sent as base64, all of it or nothing. With more it is only taken, and the import_id of the reply goes with the following part. replace removes what the directory holds and the archive does not. exact takes links to anywhere, as raw_export writes them."),
			hints(false, true, true, false),
			mcp.WithString("data", mcp.Required()),
			mcp.WithBoolean("more"),
			mcp.WithString("import_id"),
			mcp.WithString("destination"),
			mcp.WithBoolean("replace"),
			mcp.WithBoolean("exact"),
			mcp.WithInteger("max_input_bytes"),
			mcp.WithInteger("max_extracted_bytes"),
			mcp.WithInteger("max_members"),
		),
		run: rawImport,
	}
}

func rawImport(ctx context.Context, c *call) (*reply, error) {
	data, err := base64.StdEncoding.DecodeString(c.text("data", ""))
	if err != nil {
		c.fail("data is not base64 (%v); send standard base64 with padding", err)
	}
	r := session.ImportRequest{
		ID: c.name("import_id", ""), Data: data, More: c.boolean("more", false),
		Extract: session.ExtractRequest{
			Destination: c.name("destination", "."), Format: "tar",
			Replace: c.boolean("replace", false), Exact: c.boolean("exact", false),
		},
	}
	r.Extract.Limits.MaxInput = int64(c.integer("max_input_bytes", 0, 1, 1<<53))
	r.Extract.Limits.MaxOutput = int64(c.integer("max_extracted_bytes", 0, 1, 1<<53))
	r.Extract.Limits.MaxMembers = c.integer("max_members", 0, 1, 1<<31-1)
	if c.err != nil {
		return nil, c.err
	}
	res, err := c.session.Import(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.More {
		return rawReply(fmt.Sprintf("%d bytes taken\n", res.Received), map[string]any{"import_id": res.ID, "received": res.Received}), nil
	}
	return rawReply(fmt.Sprintf("unpacked %d files\n", res.Files), map[string]any{
		"files": res.Files, "directories": res.Directories, "links": res.Links, "bytes": res.Bytes, "replaced": res.Replaced,
	}), nil
}
