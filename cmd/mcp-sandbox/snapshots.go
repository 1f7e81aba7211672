package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
	"mcp-sandbox/snapshot"
)

// checkSnapshots names the files that cannot be brought back, and fails when
// there are any.
func checkSnapshots(ctx context.Context, out io.Writer, r *snapshot.Repo, args []string) error {
	var ids []string
	if len(args) > 0 {
		id, err := r.Resolve(ctx, args[0])
		if err != nil {
			return err
		}
		ids = []string{id}
	} else {
		list, err := r.List(ctx)
		if err != nil {
			return err
		}
		for _, in := range list {
			ids = append(ids, in.ID)
		}
	}
	bad := 0
	for _, id := range ids {
		res, err := r.Check(ctx, id)
		if err != nil {
			bad++
			fmt.Fprintf(out, "%s: %s\n", id, err)
			continue
		}
		if res.DamagedCount > 0 {
			bad++
		}
		fmt.Fprintf(out, "%s: %d files, %d bytes read, %d damaged\n", id, res.Files, res.Bytes, res.DamagedCount)
		for _, path := range res.Damaged {
			fmt.Fprintf(out, "  damaged: %q\n", path)
		}
	}
	if bad > 0 {
		return sandbox.Errorf("snapshot_failed", nil, "%d of %d snapshots are damaged; restore what is whole with --path, then delete them", bad, len(ids))
	}
	return nil
}

// storesSnapshots are the verbs that make a store where there is none.
var storesSnapshots = []string{"create", "import"}

// newSnapshots works on the snapshots of a workspace directory without a client.
func newSnapshots() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "snapshots",
		Short: "List, show, restore, check, move and prune the snapshots of a --root directory",
		Args:  cobra.NoArgs,
		// Without it cobra answers an unknown verb with the help and success.
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	s.register(cmd.PersistentFlags())
	showThese(cmd.PersistentFlags(), append([]string{"root", "state-dir", "config", "write", "deny-read", "deny-secrets", "protect"}, ofStore...)...)
	cmd.PersistentFlags().Lookup("root").Usage = "the workspace directory whose snapshots are meant"

	// with opens the snapshots of --root around one verb.
	with := func(do snapshotVerb) func(*cobra.Command, []string) error {
		return func(c *cobra.Command, args []string) error {
			if err := s.load(cmd.PersistentFlags()); err != nil {
				return err
			}
			if s.session.Root == "" {
				return badSetting("--root is missing; name the workspace directory whose snapshots are meant")
			}
			root, err := session.CheckRoot(s.session.Root, s.session.StateDir)
			if err != nil {
				return err
			}
			skip, err := session.EphemeralPaths(s.session, root)
			if err != nil {
				return err
			}
			// A command that soon ends: collecting garbage would cost more than the
			// memory is worth, up to a bound that a large first snapshot can meet.
			debug.SetGCPercent(400)
			debug.SetMemoryLimit(80 << 20)
			dir := session.SnapshotDir(s.session, root)
			if _, err := os.Lstat(dir); os.IsNotExist(err) && s.session.OpenStore == nil && !slices.Contains(storesSnapshots, c.Name()) {
				s.session.OpenStore = func(string) (snapshot.Store, error) { return snapshot.NoStore{}, nil }
			}
			r, err := session.OpenSnapshots(s.session, dir, root, skip...)
			if err != nil {
				return err
			}
			defer r.Close()
			return do(c.Context(), c.OutOrStdout(), r, args)
		}
	}
	var path string
	show := &cobra.Command{Use: "show ID", Short: "Show what changed since a snapshot", Args: cobra.ExactArgs(1), RunE: with(
		func(ctx context.Context, out io.Writer, r *snapshot.Repo, args []string) error {
			id, err := r.Find(ctx, args[0], "")
			if err != nil {
				return err
			}
			_, mounted, err := r.Compare(ctx, id, "", path)
			if err != nil {
				return err
			}
			text, err := r.DiffText(ctx, id, "", path, 0)
			if err != nil {
				return err
			}
			for _, m := range mounted {
				fmt.Fprintf(operator(os.Stderr), "mcp-sandbox: not compared: %q, %s\n", m.Path, m.Reason)
			}
			_, err = io.WriteString(out, text)
			return err
		})}
	restore := &cobra.Command{Use: "restore ID", Short: "Restore the directory from a snapshot", Args: cobra.ExactArgs(1), RunE: with(
		func(ctx context.Context, out io.Writer, r *snapshot.Repo, args []string) error {
			res, err := r.Restore(ctx, snapshot.RestoreRequest{ID: args[0], Path: path})
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%d added, %d changed, %d removed; to undo this, restore %s\n", res.Added, res.Changed, res.Removed, res.Checkpoint)
			for _, line := range res.Git {
				fmt.Fprintf(out, "git: %s\n", line)
			}
			for _, k := range res.Kept {
				fmt.Fprintf(out, "left as it is: %q, %s\n", k.Path, k.Reason)
			}
			return nil
		})}
	for _, c := range []*cobra.Command{show, restore} {
		c.Flags().StringVar(&path, "path", "", "only this file or directory")
	}
	cmd.AddCommand(newExport(with), newImport(with))
	cmd.AddCommand(show, restore,
		&cobra.Command{Use: "delete ID...", Short: "Delete snapshots; prune gives back their space", Args: cobra.MinimumNArgs(1), RunE: with(
			func(ctx context.Context, out io.Writer, r *snapshot.Repo, args []string) error {
				// All names are looked up first: latest is not another one after each.
				ids := make([]string, len(args))
				for i, ref := range args {
					var err error
					if ids[i], err = r.Resolve(ctx, ref); err != nil {
						return err
					}
				}
				slices.Sort(ids)
				for _, id := range slices.Compact(ids) {
					if err := r.Delete(ctx, id); err != nil {
						return err
					}
					fmt.Fprintln(out, "deleted", id)
				}
				return nil
			})},
		&cobra.Command{Use: "check [ID]", Short: "Read all that a snapshot, or every one, needs and verify it", Args: cobra.MaximumNArgs(1), RunE: with(checkSnapshots)},
		&cobra.Command{Use: "create [LABEL]", Short: "Store the directory as it is now", Args: cobra.MaximumNArgs(1), RunE: with(
			func(ctx context.Context, out io.Writer, r *snapshot.Repo, args []string) error {
				label := ""
				if len(args) > 0 {
					label = args[0]
				}
				in, err := r.Create(ctx, snapshot.CreateRequest{Label: label})
				if err != nil {
					return err
				}
				fmt.Fprintln(out, in.ID)
				// Not on standard output: that is the ID, for scripts.
				for _, k := range in.Skipped {
					fmt.Fprintf(operator(os.Stderr), "mcp-sandbox: not stored: %q, %s\n", k.Path, k.Reason)
				}
				if more := in.SkippedCount - len(in.Skipped); more > 0 {
					fmt.Fprintf(operator(os.Stderr), "mcp-sandbox: not stored: %d more\n", more)
				}
				return nil
			})},
		&cobra.Command{Use: "list", Short: "List the snapshots", Args: cobra.NoArgs, RunE: with(
			func(ctx context.Context, out io.Writer, r *snapshot.Repo, _ []string) error {
				list, err := r.List(ctx)
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "SNAPSHOT\tTIME\tFILES\tBYTES\tLABEL")
				for _, in := range list {
					fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%q\n", in.ID, in.Time.UTC().Format(time.RFC3339), in.Files, in.Bytes, in.Label)
				}
				return w.Flush()
			})},
		&cobra.Command{Use: "prune", Short: "Drop old snapshots and free their space", Args: cobra.NoArgs, RunE: with(
			func(ctx context.Context, out io.Writer, r *snapshot.Repo, _ []string) error {
				res, err := r.Prune(ctx)
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "%d snapshots dropped, %d bytes freed, %d bytes kept\n", res.Snapshots, res.Removed, res.Kept)
				return nil
			})},
	)
	return cmd
}
