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
			mcp.WithDescription("Find files by glob such as **/*.go, newest first. all: ignored files too."),
			hints(true, false, true, false),
			mcp.WithString("pattern", mcp.Required()),
			mcp.WithString("path"),
			mcp.WithBoolean("all"),
		),
		run: findFiles,
	}
}

func findFiles(ctx context.Context, c *call) (*reply, error) {
	req := session.FindRequest{Pattern: c.required("pattern"), Path: c.name("path", "."), All: c.boolean("all", false)}
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
	b.WriteString(leftOut(res.Denied, res.Ignored, res.Unread))
	if res.Truncated {
		fmt.Fprintf(&b, "[%d match in all: use a narrower pattern or path]\n", res.Total)
	}
	return &reply{text: b.String(), structured: map[string]any{"paths": paths, "total": res.Total, "truncated": res.Truncated,
		"ignored_files": res.Ignored.Files, "ignored_folders": res.Ignored.Directories, "unreadable": res.Unread.Count}}, nil
}

// leftOut says what a search or find did not look at, a line each.
func leftOut(denied int, ignored session.Ignored, unread session.Unread) string {
	var b strings.Builder
	if denied > 0 {
		fmt.Fprintf(&b, "[%d hidden by --deny-read left out]\n", denied)
	}
	if ignored.Files+ignored.Directories > 0 {
		var what []string
		if n := ignored.Files; n > 0 {
			what = append(what, counted(n, "file", "files"))
		}
		if n := ignored.Directories; n > 0 {
			what = append(what, counted(n, "directory", "directories"))
		}
		fmt.Fprintf(&b, "[ignored and left out: %s; all includes them]\n", strings.Join(what, ", "))
	}
	return b.String() + couldNotRead(unread)
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func couldNotRead(u session.Unread) string {
	if u.Count == 0 {
		return ""
	}
	var names []string
	for _, n := range u.Names {
		names = append(names, oneLine(n))
	}
	more := ""
	if n := u.Count - len(u.Names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("[could not be read: %s%s]\n", strings.Join(names, ", "), more)
}
