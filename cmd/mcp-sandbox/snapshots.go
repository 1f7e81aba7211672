package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mcp-sandbox/session"
	"mcp-sandbox/snapshot"
)

// newSnapshots works on the snapshots of a workspace folder without a client.
func newSnapshots() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "snapshots",
		Short: "List, show, restore and prune the snapshots of a --root folder",
		Args:  cobra.NoArgs,
	}
	s.register(cmd.PersistentFlags())

	// with opens the snapshots of --root around one verb.
	with := func(do func(ctx context.Context, out io.Writer, r *snapshot.Repo, args []string) error) func(*cobra.Command, []string) error {
		return func(c *cobra.Command, args []string) error {
			if err := s.load(cmd.PersistentFlags()); err != nil {
				return err
			}
			if s.session.Root == "" {
				return badSetting("snapshots needs --root, the workspace folder whose snapshots are meant")
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
			debug.SetMemoryLimit(96 << 20)
			r, err := session.OpenSnapshots(s.session, session.SnapshotDir(s.session, root), root, skip...)
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
			text, err := r.DiffText(ctx, id, "", path, 0)
			if err != nil {
				return err
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
			for _, k := range res.Kept {
				fmt.Fprintf(out, "left as it is: %q, %s\n", k.Path, k.Reason)
			}
			return nil
		})}
	for _, c := range []*cobra.Command{show, restore} {
		c.Flags().StringVar(&path, "path", "", "only this file or folder")
	}
	cmd.AddCommand(show, restore,
		&cobra.Command{Use: "create [LABEL]", Short: "Store the folder as it is now", Args: cobra.MaximumNArgs(1), RunE: with(
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
		&cobra.Command{Use: "prune", Short: "Drop old snapshots and give back their space", Args: cobra.NoArgs, RunE: with(
			func(ctx context.Context, out io.Writer, r *snapshot.Repo, _ []string) error {
				res, err := r.Prune(ctx)
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "%d snapshots dropped, %d bytes given back, %d kept\n", res.Snapshots, res.Removed, res.Kept)
				return nil
			})},
	)
	return cmd
}
