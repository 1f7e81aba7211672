package tools

import (
	"context"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

func applyPatchTool() tool {
	return tool{
		sets: []string{"files"},
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
}

func applyPatch(ctx context.Context, c *call) (*reply, error) {
	patch := c.text("patch", "")
	if strings.TrimSpace(patch) == "" {
		c.fail("patch is empty, send a unified diff or a *** Begin Patch block")
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
		rows = append(rows, r)
		to := ""
		if r.MovedTo != "" {
			to = " -> " + oneLine(r.MovedTo)
		}
		fmt.Fprintf(&b, "%s %s%s (+%d -%d)\n", r.Op, oneLine(r.Path), to, r.Added, r.Removed)
	}
	return &reply{text: b.String(), structured: map[string]any{"files": rows}}, nil
}
