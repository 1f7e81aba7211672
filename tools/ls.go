package tools

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func lsTool() tool {
	return tool{
		sets: []string{"core", "files"},
		def: mcp.NewTool("ls",
			mcp.WithDescription("List a directory: mode, size, time, link targets."),
			hints(true, false, true, false),
			mcp.WithString("path"),
			mcp.WithInteger("depth", mcp.Description("Default 1")),
			mcp.WithBoolean("all", mcp.Description("With dot files")),
		),
		run: ls,
	}
}

const maxDepth = 20

type lsRow struct {
	Path   string `json:"path"`
	Kind   string `json:"kind"`
	Size   int64  `json:"size"`
	Mode   string `json:"mode"`
	MTime  string `json:"mtime"`
	Target string `json:"link_target,omitempty"`
}

func ls(ctx context.Context, c *call) (*reply, error) {
	req := session.ListRequest{
		Path:  c.name("path", "."),
		Depth: c.integer("depth", 1, 1, maxDepth),
		All:   c.boolean("all", false),
	}
	if req.Path == "" {
		req.Path = "."
	}
	if c.err != nil {
		return nil, c.err
	}
	res, err := c.session.Files().List(ctx, req)
	if err != nil {
		return nil, err
	}
	rows := []lsRow{}
	var b strings.Builder
	for _, e := range res.Entries {
		r := lsRow{Path: e.Path, Kind: string(e.Kind), Size: e.Size, Mode: lsMode(e.Mode), MTime: e.ModTime.UTC().Format(time.RFC3339), Target: e.LinkTarget}
		rows = append(rows, r)
		target := ""
		if r.Target != "" {
			target = " -> " + oneLine(r.Target)
		}
		suffix := ""
		if r.Kind == "directory" {
			suffix = "/"
		}
		if e.Denied {
			r.Mode, r.MTime = "", ""
			rows[len(rows)-1] = r
			fmt.Fprintf(&b, "(hidden by --deny-read) %s%s\n", oneLine(r.Path), suffix)
			continue
		}
		fmt.Fprintf(&b, "%s %10d %s %s%s%s\n", r.Mode, r.Size, r.MTime, oneLine(r.Path), suffix, target)
	}
	if len(rows) == 0 && res.Hidden == 0 {
		b.WriteString("empty\n")
	}
	if res.Hidden > 0 {
		fmt.Fprintf(&b, "[%d hidden: use all]\n", res.Hidden)
	}
	b.WriteString(couldNotRead(res.Unread))
	if res.Truncated {
		b.WriteString("[more entries than shown: list a directory below, or a smaller depth]\n")
	}
	return &reply{text: b.String(), structured: map[string]any{"entries": rows, "truncated": res.Truncated}}, nil
}

// lsMode spells a mode as ls(1) does: a letter for the type, and set-ID and sticky
// bits in the place of an x.
func lsMode(m fs.FileMode) string {
	b := []byte("-" + m.Perm().String()[1:])
	switch {
	case m&fs.ModeDir != 0:
		b[0] = 'd'
	case m&fs.ModeSymlink != 0:
		b[0] = 'l'
	case m&fs.ModeNamedPipe != 0:
		b[0] = 'p'
	case m&fs.ModeSocket != 0:
		b[0] = 's'
	case m&fs.ModeCharDevice != 0:
		b[0] = 'c'
	case m&fs.ModeDevice != 0:
		b[0] = 'b'
	}
	for _, s := range []struct {
		bit    fs.FileMode
		at     int
		letter byte
	}{{fs.ModeSetuid, 3, 's'}, {fs.ModeSetgid, 6, 's'}, {fs.ModeSticky, 9, 't'}} {
		if m&s.bit == 0 {
			continue
		}
		if b[s.at] == 'x' {
			b[s.at] = s.letter
		} else {
			b[s.at] = s.letter - 'a' + 'A'
		}
	}
	return string(b)
}
