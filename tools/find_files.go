package tools

import (
	"context"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func findFilesTool() tool {
	return tool{
		sets: []string{"files"},
		def: mcp.NewTool("find_files",
			mcp.WithDescription("Find files by glob such as **/*.go, newest first; ignore files are honoured."),
			hints(true, false, true, false),
			mcp.WithString("pattern", mcp.Required()),
			mcp.WithString("path", mcp.Description("Folder to look in")),
		),
		run: findFiles,
	}
}

func findFiles(ctx context.Context, c *call) (*reply, error) {
	req := session.FindRequest{Pattern: c.required("pattern"), Path: c.name("path", ".")}
	if c.err != nil {
		return nil, c.err
	}
	res, err := c.session.Files().Find(ctx, req)
	if err != nil {
		return nil, err
	}
	paths := []string{}
	var b strings.Builder
	for _, e := range res.Entries {
		paths = append(paths, e.Path)
		b.WriteString(oneLine(e.Path) + "\n")
	}
	if len(paths) == 0 {
		b.WriteString("no file matches\n")
	}
	if res.Denied > 0 {
		fmt.Fprintf(&b, "[%d hidden by --deny-read left out]\n", res.Denied)
	}
	if res.Truncated {
		fmt.Fprintf(&b, "[%d match in all: use a narrower pattern or path]\n", res.Total)
	}
	return &reply{text: b.String(), structured: map[string]any{"paths": paths, "total": res.Total, "truncated": res.Truncated}}, nil
}
