package tools

import (
	"context"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

// mostListed is the most names that one directory is listed with; largeList of them make
// a large reply.
const (
	mostListed = 20_000
	largeList  = 2_000
)

func rawStatTool() tool {
	return tool{
		sets: []string{rawSet, "core", "files"},
		def: mcp.NewTool("raw_stat",
			mcp.WithDescription("Tell whether a path exists and what it leads to; with list also what a directory holds, at most 20000 names."),
			hints(true, false, true, false),
			mcp.WithString("path", mcp.Required()),
			mcp.WithBoolean("list"),
		),
		run: rawStat,
	}
}

// rawEntry is one name of a directory.
type rawEntry struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	Size int64  `json:"size"`
	Mode string `json:"mode"`
}

func rawStat(ctx context.Context, c *call) (*reply, error) {
	path, list := c.required("path"), c.boolean("list", false)
	if c.err != nil {
		return nil, c.err
	}
	e, err := c.session.Files().Stat(ctx, path)
	if codeOf(err) == "not_found" || codeOf(err) == "not_a_directory" {
		if list {
			return nil, err
		}
		return rawReply("not there\n", map[string]any{"exists": false}), nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]any{"exists": true, "kind": e.Kind, "size": e.Size, "mode": lsMode(e.Mode)}
	if list {
		res, err := c.session.Files().List(ctx, session.ListRequest{Path: path, Depth: 1, All: true, Max: mostListed})
		if err != nil {
			return nil, err
		}
		if len(res.Entries) > largeList {
			if err := c.large(ctx); err != nil {
				return nil, err
			}
		}
		entries := make([]rawEntry, len(res.Entries))
		for i, e := range res.Entries {
			entries[i] = rawEntry{Name: e.Name, Kind: string(e.Kind), Size: e.Size, Mode: lsMode(e.Mode)}
		}
		out["entries"], out["truncated"] = entries, res.Truncated
	}
	return rawReply(fmt.Sprintf("%s\n", e.Kind), out), nil
}
