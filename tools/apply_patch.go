package tools

import (
	"context"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func applyPatchTool() tool {
	return tool{
		sets:    []string{"files"},
		changes: session.Changes,
		grows:   true,
		def: mcp.NewTool("apply_patch",
			mcp.WithDescription("Apply a patch to several files, all or nothing: unified diff, or *** Begin Patch / *** Update File: / *** Add File: / *** Delete File: / *** End Patch."),
			hints(false, true, false, false),
			mcp.WithString("patch", mcp.Required()),
		),
		run: applyPatch,
	}
}

type patchRow struct {
	Op      string `json:"op"`
	Path    string `json:"path"`
	MovedTo string `json:"moved_to,omitempty"`
	Added   int    `json:"added"`
	Removed int    `json:"removed"`
	// Lines are those that changed, as they are numbered now.
	Lines string `json:"lines,omitempty"`
}

func applyPatch(ctx context.Context, c *call) (*reply, error) {
	patch := c.text("patch", "")
	if strings.TrimSpace(patch) == "" {
		c.fail("patch is empty; send a unified diff or a *** Begin Patch block")
	}
	if c.err != nil {
		return nil, c.err
	}
	res, err := c.session.Files().ApplyPatch(ctx, patch)
	if err != nil {
		return nil, err
	}
	rows := []patchRow{}
	var b strings.Builder
	for _, f := range res.Files {
		r := patchRow{Op: f.Op, Path: f.Path, MovedTo: f.MovedTo, Added: f.Added, Removed: f.Removed}
		r.Lines = changedLines(f.Places)
		rows = append(rows, r)
		to := ""
		if r.MovedTo != "" {
			to = " -> " + oneLine(r.MovedTo)
		}
		at := ""
		if r.Lines != "" {
			at = " at line " + r.Lines
		}
		fmt.Fprintf(&b, "%s %s%s (+%d -%d)%s\n", r.Op, oneLine(r.Path), to, r.Added, r.Removed, at)
	}
	return &reply{text: b.String(), structured: map[string]any{"files": rows}}, nil
}

// changedLines tells where a file changed, up to a number of places.
func changedLines(places []session.LineRange) string {
	const most = 20
	var out []string
	for i, p := range places {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more places", len(places)-most))
			break
		}
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}
