package tools

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

// The four snapshot tools share their words, so they share a file.

func snapshotCreateTool() tool {
	return tool{
		sets: []string{"snapshot"},
		def: mcp.NewTool("snapshot_create",
			mcp.WithDescription("Store the workspace as it is now."),
			hints(false, false, false, false),
			mcp.WithString("label"),
		),
		run: snapshotCreate,
	}
}

func snapshotCreate(ctx context.Context, c *call) (*reply, error) {
	label := c.name("label", "")
	if c.err != nil {
		return nil, c.err
	}
	in, err := c.session.TakeSnapshot(ctx, label)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "snapshot_id %s: %d files, %d bytes, %d new bytes stored\n", in.ID, in.Files, in.Bytes, in.StoredBytes)
	for _, s := range in.Skipped {
		fmt.Fprintf(&b, "not stored: %s, %s\n", oneLine(s.Path), s.Reason)
	}
	return &reply{text: b.String(), structured: in}, nil
}

func snapshotListTool() tool {
	return tool{
		sets: []string{"snapshot"},
		def: mcp.NewTool("snapshot_list",
			mcp.WithDescription("List snapshots."),
			hints(true, false, true, false),
		),
		run: snapshotList,
	}
}

func snapshotList(ctx context.Context, c *call) (*reply, error) {
	repo, err := c.session.Snapshots()
	if err != nil {
		return nil, err
	}
	list, err := repo.List(ctx)
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = []session.SnapshotInfo{}
	}
	var b strings.Builder
	for _, in := range list {
		kind := ""
		if in.Auto {
			kind = " (automatic)"
		}
		if in.Baseline {
			kind = " (baseline)"
		}
		if in.WithoutIgnored {
			kind += " (without ignored files)"
		}
		fmt.Fprintf(&b, "%s %s %d files %d bytes%s %s\n", in.ID, in.Time.UTC().Format(time.RFC3339), in.Files, in.Bytes, kind, oneLine(in.Label))
	}
	if len(list) == 0 {
		b.WriteString("no snapshots\n")
	}
	return &reply{text: b.String(), structured: map[string]any{"snapshots": list}}, nil
}

func snapshotDiffTool() tool {
	return tool{
		sets: []string{"snapshot"},
		def: mcp.NewTool("snapshot_diff",
			mcp.WithDescription("Show what changed since a snapshot."),
			hints(true, false, true, false),
			mcp.WithString("snapshot_id", mcp.Required()),
			mcp.WithString("path"),
			mcp.WithInteger("max_output_tokens"),
		),
		run: snapshotDiff,
	}
}

// mostChanges bounds the list of changes; the text diff is bounded by tokens.
const mostChanges = 1000

func snapshotDiff(ctx context.Context, c *call) (*reply, error) {
	id, path, limit := c.required("snapshot_id"), c.name("path", ""), c.maxTokens()
	if c.err != nil {
		return nil, c.err
	}
	id, changes, text, mounted, err := c.session.Changed(ctx, id, path, 4*limit)
	if err != nil {
		return nil, err
	}
	total := len(changes)
	changes = append([]session.SnapshotChange{}, changes[:min(total, mostChanges)]...)
	var b strings.Builder
	fmt.Fprintf(&b, "%d changes since %s\n", total, id)
	for _, ch := range changes {
		fmt.Fprintf(&b, "%s %s (%d -> %d bytes)\n", ch.Kind, oneLine(ch.Path), ch.SizeBefore, ch.SizeAfter)
	}
	for _, m := range mounted {
		fmt.Fprintf(&b, "not compared: %s, %s\n", oneLine(m.Path), m.Reason)
	}
	shown, _ := spelled(text)
	b.WriteString(shown)
	cut := c.truncate(b.String(), limit, nil)
	out := map[string]any{"snapshot_id": id, "changes": changes, "total": total, "truncated": total > len(changes)}
	if len(mounted) > 0 {
		out["not_compared"] = mounted
	}
	return &reply{text: cut.Text, structured: out}, nil
}

const restoreTool = "snapshot_restore"

func snapshotRestoreTool() tool {
	return tool{
		sets:  []string{"snapshot"},
		grows: true,
		def: mcp.NewTool(restoreTool,
			mcp.WithDescription("Restore the workspace or a path from a snapshot (id, label or latest), after a checkpoint."),
			hints(false, true, true, false),
			mcp.WithString("snapshot_id", mcp.Required()),
			mcp.WithString("path"),
		),
		run: snapshotRestore,
	}
}

func snapshotRestore(ctx context.Context, c *call) (*reply, error) {
	req := session.RestoreRequest{ID: c.required("snapshot_id"), Path: c.name("path", "")}
	if c.err != nil {
		return nil, c.err
	}
	res, err := c.session.Restore(ctx, req)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "restored %s: %d added, %d changed, %d removed\n", res.Snapshot, res.Added, res.Changed, res.Removed)
	if res.Checkpoint != "" {
		fmt.Fprintf(&b, "to undo this, restore %s\n", res.Checkpoint)
	}
	for _, line := range res.Git {
		fmt.Fprintf(&b, "git: %s\n", oneLine(line))
	}
	for _, k := range res.Kept {
		fmt.Fprintf(&b, "left as it is: %s, %s\n", oneLine(k.Path), k.Reason)
	}
	return &reply{text: b.String(), structured: res}, nil
}
