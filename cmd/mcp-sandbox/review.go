package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// reviewFlags are what a person or script asks of a review.
type reviewFlags struct {
	apply, discard, merge                    []string
	protected, executable, access, conflicts bool
	asJSON, list, web                        bool
}

func newReview() *cobra.Command {
	var s settings
	var r reviewFlags
	cmd := &cobra.Command{
		Use:   "review [PATH...]",
		Short: "Look at what a session changed in a staged workspace, and in git settings and hooks of any; apply or discard it",
		Long:  "Show what a session started with --staged changed, and which git settings and hooks\nany session with --root left out of the project as git runs programs because of them.\nApply it to the project or discard it: on a terminal full-screen, by keys, elsewhere\nby flags. The project is --root, by default the current directory. What is protected,\na program, opened to others, or changed in the project meanwhile is applied only\nwith the flag that names it. Before an apply of a stage the project is stored as a snapshot.",
		Example: `  mcp-sandbox review                          what the session changed here
  mcp-sandbox review --apply src --apply README.md
  mcp-sandbox review --apply .git/config/core.fsmonitor --protected
  mcp-sandbox review --session fix --discard .`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			if err := r.check(args); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if !r.asJSON {
				out = &escaper{out} // also for a pager, which may pass orders on
			}
			return review(cmd.Context(), &s, &r, args, out)
		},
	}
	s.register(cmd.Flags())
	// The hidden ones stay out of the snapshot that an apply stores first.
	showThese(cmd.Flags(), append([]string{"root", "session", "state-dir", "config", "protect", "deny-read", "deny-secrets"}, ofStore...)...)
	f := cmd.Flags()
	f.Lookup("root").Usage = "the project (default: the current directory)"
	f.Lookup("session").Usage = "name of the session whose stage is meant (default: that of sessions without a name)"
	f.StringArrayVar(&r.apply, "apply", nil, "apply what was changed at or below this path; . is all")
	f.StringArrayVar(&r.discard, "discard", nil, "have the session lose its changes at or below this path; . is all")
	f.StringArrayVar(&r.merge, "merge", nil, "merge what was changed in this file in the project and in the session, where they touch different places")
	f.BoolVar(&r.protected, "protected", false, "with --apply and --merge: also protected paths, such as git directories and settings of editors")
	f.BoolVar(&r.executable, "executable", false, "with --apply and --merge: also programs")
	f.BoolVar(&r.access, "access", false, "with --apply: also what others may read or change afterwards and may not now")
	f.BoolVar(&r.conflicts, "conflicts", false, "with --apply: also what was changed in the project meanwhile, which is lost")
	f.BoolVar(&r.asJSON, "json", false, "print JSON")
	f.BoolVar(&r.web, "web", false, "serve the review as a page on this machine's loopback, at an address that is good once")
	f.BoolVar(&r.list, "list", false, "list all that can be reviewed, with size and age")
	return cmd
}

// check refuses what would be ignored.
func (f *reviewFlags) check(paths []string) error {
	changes := len(f.apply) + len(f.discard) + len(f.merge)
	switch {
	case f.list && (changes > 0 || len(paths) > 0 || f.web):
		return badSetting("--list shows all stages; leave paths, --apply, --merge, --discard and --web out")
	case f.web && (changes > 0 || len(paths) > 0 || f.asJSON):
		return badSetting("--web shows everything; leave paths, --apply, --merge, --discard and --json out")
	case changes > 0 && len(paths) > 0:
		return badSetting("unexpected path %q; write --apply, --merge or --discard before each path", paths[0])
	}
	for _, one := range []struct {
		name  string
		on    bool
		takes string
		with  int
	}{
		{"protected", f.protected, "--apply or --merge", len(f.apply) + len(f.merge)},
		{"executable", f.executable, "--apply or --merge", len(f.apply) + len(f.merge)},
		{"access", f.access, "--apply", len(f.apply)},
		{"conflicts", f.conflicts, "--apply", len(f.apply)},
	} {
		if one.on && one.with == 0 {
			return badSetting("--%s has no effect without %s; add it with a path, or leave --%s out", one.name, one.takes, one.name)
		}
	}
	return nil
}

// reviewReport is what --json prints.
type reviewReport struct {
	Root     string               `json:"root"`
	Session  string               `json:"session,omitempty"`
	Created  time.Time            `json:"created"`
	InUse    bool                 `json:"in_use"`
	Changes  []reviewChange       `json:"changes"`
	Applied  *session.StageResult `json:"applied,omitempty"`
	Merged   *session.StageResult `json:"merged,omitempty"`
	Dropped  *session.StageResult `json:"discarded,omitempty"`
	Snapshot string               `json:"snapshot_id,omitempty"`
	// Unfinished is what an interrupted apply left and none could end yet.
	Unfinished []session.StageLeft `json:"unfinished,omitempty"`
}

type reviewChange struct {
	session.StageChange
	// PathBase64 is the path where it is not UTF-8, which JSON cannot tell.
	PathBase64 []byte `json:"path_base64,omitempty"`
	Diff       string `json:"diff"`
}

func review(ctx context.Context, s *settings, f *reviewFlags, paths []string, out io.Writer) (err error) {
	if f.list {
		return listStages(s, f.asJSON, out)
	}
	if s.session.Root == "" && s.session.Name == "" {
		s.session.Root = "."
	}
	r, err := session.OpenReview(s.session)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if f.web {
		return reviewInBrowser(ctx, r, out)
	}
	if len(f.apply)+len(f.discard)+len(f.merge)+len(paths) == 0 && !f.asJSON && isTerminal(os.Stdin) && isTerminal(os.Stdout) {
		return reviewOnTerminal(ctx, r)
	}
	i := r.Info()
	rep := reviewReport{Root: i.Root, Session: i.Session, Created: i.Created, InUse: i.InUse, Unfinished: r.Unfinished()}
	left := 0
	if len(f.merge) > 0 {
		res, id, err := mergeFiles(ctx, r, f.merge, session.StageChoice{Protected: f.protected, Executable: f.executable})
		if err != nil {
			return err
		}
		rep.Merged, rep.Snapshot = &res, id
		left += len(res.Left)
	}
	if len(f.apply) > 0 {
		res, id, err := r.Apply(ctx, f.apply, session.StageChoice{Protected: f.protected, Executable: f.executable, Access: f.access, Conflicts: f.conflicts})
		if err != nil {
			return err
		}
		rep.Applied, rep.Snapshot = &res, id
		left += len(res.Left)
	}
	if len(f.discard) > 0 {
		res, err := r.Discard(ctx, f.discard)
		if err != nil {
			return err
		}
		rep.Dropped = &res
		left += len(res.Left)
	}
	quiet := rep.Applied == nil && rep.Dropped == nil && rep.Merged == nil
	if quiet || f.asJSON {
		changes, diffs, err := r.Changes(paths)
		if err != nil {
			return err
		}
		rep.Changes = make([]reviewChange, len(changes))
		for i := range changes {
			rep.Changes[i] = reviewChange{StageChange: changes[i], Diff: diffs[i] + threeWayText(r.ThreeWay(ctx, &changes[i]))}
			if p := changes[i].Path; !utf8.ValidString(p) {
				rep.Changes[i].PathBase64 = []byte(p)
			}
		}
	}
	switch {
	case f.asJSON:
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(rep); err != nil {
			return err
		}
	case quiet:
		printChanges(out, &rep, len(paths) > 0)
	default:
		printResult(out, "merged", rep.Merged)
		printResult(out, "applied", rep.Applied)
		printResult(out, "discarded", rep.Dropped)
		printUndo(out, i.Root, rep.Snapshot, doneBy(rep.Merged)+doneBy(rep.Applied)+len(r.Unfinished()))
	}
	if left > 0 {
		return exitStatus(1)
	}
	return nil
}

// mergeFiles merges the files that can be.
func mergeFiles(ctx context.Context, r *session.Review, paths []string, choice session.StageChoice) (all session.StageResult, id string, err error) {
	all.Done = []string{}
	var changes []session.StageChange
	for _, p := range paths {
		some, _, err := r.Changes([]string{p})
		if err != nil {
			return all, "", err
		}
		if len(some) == 0 {
			all.Left = append(all.Left, session.StageLeft{Path: p, Why: "the session changed nothing there"})
		}
		for i := range some {
			if !slices.ContainsFunc(changes, func(c session.StageChange) bool { return c.Path == some[i].Path }) {
				changes = append(changes, some[i])
			}
		}
	}
	for i := range changes {
		t := r.ThreeWay(ctx, &changes[i])
		if t == nil || !t.Clean {
			all.Left = append(all.Left, session.StageLeft{Path: changes[i].Path, Why: "it is not a conflict of texts in different places"})
			continue
		}
		res, snap, err := r.ApplyMerged(ctx, changes[i].Path, t, choice)
		if err != nil {
			return all, id, err
		}
		if id == "" {
			id = snap
		}
		all.Done, all.Left = append(all.Done, res.Done...), append(all.Left, res.Left...)
	}
	return all, id, nil
}

// marks are the words that stand with a change.
func marks(c *session.StageChange) string {
	m := c.Marks()
	if len(m) == 0 {
		return ""
	}
	return " (" + strings.Join(m, ", ") + ")"
}

// printChanges lists the changes, of all paths or of some.
func printChanges(out io.Writer, r *reviewReport, some bool) {
	for _, l := range r.Unfinished {
		fmt.Fprintf(out, "unfinished %s: %s\n", onOneLine(l.Path), onOneLine(l.Why))
	}
	if len(r.Changes) == 0 {
		if some {
			fmt.Fprintln(out, "nothing is staged at these paths")
		} else {
			fmt.Fprintln(out, "nothing is staged")
		}
		return
	}
	for i := range r.Changes {
		c := &r.Changes[i]
		fmt.Fprintf(out, "%-9s %s%s\n", c.Kind, nameOf(&c.StageChange), marks(&c.StageChange))
	}
	fmt.Fprintln(out)
	for i := range r.Changes {
		fmt.Fprint(out, r.Changes[i].Diff)
	}
}

func nameOf(c *session.StageChange) string {
	name := onOneLine(c.Path)
	if c.Value != "" {
		return name + " = " + onOneLine(c.Value)
	}
	if c.Git != "" {
		return name + ": " + onOneLine(c.Git)
	}
	if c.Type == "directory" {
		name += "/"
	}
	return name
}

// onOneLine quotes a text that would end its line, order its characters, look like a
// quoted one, or hide where it ends.
func onOneLine(text string) string {
	if strings.ContainsFunc(text, sandbox.Steers) || !utf8.ValidString(text) || strings.HasPrefix(text, `"`) || strings.TrimSpace(text) != text {
		return fmt.Sprintf("%q", text)
	}
	return text
}

// printUndo says how what a review did to the project is undone; nothing is where it did
// nothing.
func printUndo(out io.Writer, root, snapshot string, done int) {
	if snapshot != "" && done > 0 {
		fmt.Fprintf(out, "to undo: mcp-sandbox snapshots restore --root %s %s\n", typedWord(root), snapshot)
	}
}

func counted(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func doneBy(r *session.StageResult) int {
	if r == nil {
		return 0
	}
	return len(r.Done)
}

func printResult(out io.Writer, what string, r *session.StageResult) {
	if r == nil {
		return
	}
	fmt.Fprintf(out, "%s: %d\n", what, len(r.Done))
	for _, l := range r.Left {
		fmt.Fprintf(out, "not %s: %s: %s\n", what, onOneLine(l.Path), onOneLine(l.Why))
	}
}

func listStages(s *settings, asJSON bool, out io.Writer) error {
	all, err := session.Stages(s.session)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(append([]session.StageInfo{}, all...))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, i := range all {
		state := ""
		if i.InUse {
			state = "in use"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d of git\t%s\t%s\n", i.Root, i.Session, counted(int64(i.Files), "file"), counted(i.Bytes, "byte"), i.GitLeft, i.Created.Format(time.RFC3339), state)
	}
	return w.Flush()
}
