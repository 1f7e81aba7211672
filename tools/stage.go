package tools

import (
	"context"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

// The three tools of a staged workspace share their words, so they share a file. They
// are offered with --staged alone, and the last two only where the model may apply.

// stagedInstructions tell the model of a staged workspace, and who applies what it changed.
func stagedInstructions(modelApplies bool) string {
	who := "the user applies your changes"
	if modelApplies {
		who = "your changes are applied, by stage_apply or by the user"
	}
	return " The workspace is staged: the user's files change only when " + who + "; stage_diff shows what is waiting. Programs that watch files are not told of the user's own edits meanwhile; have them poll."
}

func stageDiffTool() tool {
	return tool{
		sets: []string{"files"},
		def: mcp.NewTool("stage_diff",
			mcp.WithDescription("Show your changes that wait for the user to apply them."),
			hints(true, false, true, false),
			mcp.WithString("path"),
			mcp.WithInteger("max_output_tokens"),
		),
		run: stageDiff,
	}
}

func stageDiff(_ context.Context, c *call) (*reply, error) {
	path, limit := c.name("path", "."), c.maxTokens()
	if c.err != nil {
		return nil, c.err
	}
	changes, diffs, err := c.session.StageChanges([]string{path})
	if err != nil {
		return nil, err
	}
	total := len(changes)
	changes = append([]session.StageChange{}, changes[:min(total, mostChanges)]...)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", counted(total, "change waits", "changes wait"))
	for i := range changes {
		ch := &changes[i]
		fmt.Fprintf(&b, "%s %s %s%s\n", ch.Kind, ch.Type, oneLine(ch.Path)+gitWords(ch), stageMarks(ch))
	}
	for _, d := range diffs {
		shown, _ := spelled(d)
		b.WriteString(shown)
		if b.Len() > 8*limit {
			break
		}
	}
	cut := c.truncate(b.String(), limit, nil)
	return &reply{text: cut.Text, structured: map[string]any{"changes": changes, "total": total, "truncated": total > len(changes)}}, nil
}

// gitWords says what waits in a git directory.
func gitWords(ch *session.StageChange) string {
	if ch.Git == "" {
		return ""
	}
	return ": " + oneLine(ch.Git)
}

// stageMarks says why a change is one for a person.
func stageMarks(ch *session.StageChange) string {
	m := ch.Marks()
	if len(m) == 0 {
		return ""
	}
	return " (" + oneLine(strings.Join(m, ", ")) + ")"
}

func stageApplyTool() tool {
	return tool{
		sets: []string{"files"},
		def: mcp.NewTool("stage_apply",
			mcp.WithDescription("Apply your changes at or below a path (. is all) to the user's files. Programs, protected paths and conflicts are left to the user."),
			hints(false, true, true, false),
			mcp.WithString("path", mcp.Required()),
		),
		run: func(ctx context.Context, c *call) (*reply, error) {
			path := c.required("path")
			if c.err != nil {
				return nil, c.err
			}
			res, id, err := c.session.StageApply(ctx, []string{path})
			if err != nil {
				return nil, err
			}
			r := stageReply("applied", res)
			r.structured = map[string]any{"done": res.Done, "left": res.Left, "snapshot_id": id}
			return r, nil
		},
	}
}

func stageDiscardTool() tool {
	return tool{
		sets: []string{"files"},
		def: mcp.NewTool("stage_discard",
			mcp.WithDescription("Undo your changes at or below a path (. is all) that wait."),
			hints(false, true, true, false),
			mcp.WithString("path", mcp.Required()),
		),
		run: func(ctx context.Context, c *call) (*reply, error) {
			path := c.required("path")
			if c.err != nil {
				return nil, c.err
			}
			res, err := c.session.StageDiscard(ctx, []string{path})
			if err != nil {
				return nil, err
			}
			return stageReply("discarded", res), nil
		},
	}
}

func stageReply(what string, res session.StageResult) *reply {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d\n", what, len(res.Done))
	for _, l := range res.Left[:min(len(res.Left), mostChanges)] {
		fmt.Fprintf(&b, "not %s: %s: %s\n", what, oneLine(l.Path), oneLine(l.Why))
	}
	return &reply{text: b.String(), structured: res}
}
