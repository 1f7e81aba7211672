package tools

import (
	"context"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func extractArchiveTool() tool {
	return tool{
		sets:    []string{"files"},
		changes: session.Destroys,
		grows:   true,
		def: mcp.NewTool("extract_archive",
			mcp.WithDescription("Unpack tar, tar.gz, bz2, xz, zst or zip; unsafe ones are refused."),
			hints(false, true, false, false),
			mcp.WithString("path", mcp.Required()),
			mcp.WithString("destination", mcp.Description("Default: the archive's directory")),
		),
		run: extractArchive,
	}
}

func extractArchive(ctx context.Context, c *call) (*reply, error) {
	req := session.ExtractRequest{Path: c.required("path"), Destination: c.name("destination", "")}
	if c.err != nil {
		return nil, c.err
	}
	res, err := c.session.Files().Extract(ctx, req)
	if err != nil {
		return nil, err
	}
	return &reply{
		text:       fmt.Sprintf("unpacked %d files, %d directories, %d links, %d bytes\n", res.Files, res.Directories, res.Links, res.Bytes),
		structured: map[string]any{"files": res.Files, "directories": res.Directories, "links": res.Links, "bytes": res.Bytes},
	}, nil
}
