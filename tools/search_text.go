package tools

import (
	"context"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func searchTextTool() tool {
	return tool{
		sets: []string{"files"},
		def: mcp.NewTool("search_text",
			mcp.WithDescription("Search file contents by regular expression (RE2). all: ignored files too."),
			hints(true, false, true, false),
			mcp.WithString("pattern", mcp.Required()),
			mcp.WithString("path"),
			mcp.WithString("glob", mcp.Description("Such as *.go")),
			mcp.WithInteger("context", mcp.Description("Lines around a match")),
			mcp.WithInteger("max_results", mcp.Description("Default 200")),
			mcp.WithBoolean("ignore_case"),
			mcp.WithBoolean("literal"),
			mcp.WithBoolean("all"),
		),
		run: searchText,
	}
}

type matchRow struct {
	Path string `json:"path"`
	Line int    `json:"line"`
	Text string `json:"text"`
}

func searchText(ctx context.Context, c *call) (*reply, error) {
	req := session.SearchRequest{
		Pattern:    c.required("pattern"),
		Path:       c.name("path", "."),
		Glob:       c.name("glob", ""),
		Context:    c.integer("context", 0, 0, 50),
		MaxResults: c.integer("max_results", 200, 1, 10_000),
		IgnoreCase: c.boolean("ignore_case", false),
		Literal:    c.boolean("literal", false),
		All:        c.boolean("all", false),
	}
	if c.err != nil {
		return nil, c.err
	}
	res, err := c.session.Files().Search(ctx, req)
	if err != nil {
		return nil, err
	}
	rows := []matchRow{}
	var b strings.Builder
	for _, f := range res.Files {
		last := 0
		for _, l := range f.Lines {
			l.Text, _ = spelled(l.Text)
			// grep's marks: ":" for a match, "-" for context, "--" between groups.
			mark := "-"
			if l.Match {
				mark = ":"
				rows = append(rows, matchRow{Path: f.Path, Line: l.Line, Text: l.Text})
			}
			if req.Context > 0 && last > 0 && l.Line > last+1 {
				b.WriteString("--\n")
			}
			last = l.Line
			fmt.Fprintf(&b, "%s%s%d%s%s\n", oneLine(f.Path), mark, l.Line, mark, l.Text)
		}
	}
	if len(rows) == 0 {
		b.WriteString("no match\n")
	}
	b.WriteString(leftOut(res.Denied, res.Ignored, res.Unread))
	if res.Truncated {
		b.WriteString("[more matches: use a narrower pattern, path or glob]\n")
	}
	cut := c.truncate(b.String(), c.defaultTokens(), nil)
	return &reply{text: cut.Text, structured: map[string]any{"matches": rows, "truncated": res.Truncated || cut.Truncated,
		"ignored_files": res.Ignored.Files, "ignored_folders": res.Ignored.Directories, "unreadable": res.Unread.Count}}, nil
}
