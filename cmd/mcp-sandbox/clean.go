package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"mcp-sandbox/session"
)

func newClean() *cobra.Command {
	var s settings
	var caches, stages, all, yes bool
	cmd := &cobra.Command{
		Use:   "clean [--caches] [--stages] [--all]",
		Short: "Show and remove what servers left on this machine",
		Long:  "Show what servers left in the state directory, and remove it when asked to: the\ncaches of package managers and compilers, except those of sessions that run (nothing\nbut time is lost); the stages of staged workspaces in which nothing waits, and\nwhat of git stayed in sessions more than 30 days ago; or, after a question, all of it:\nkept sessions, snapshots, tokens and keys too.",
		Example: `  mcp-sandbox clean             only show
  mcp-sandbox clean --caches    the caches that no session uses
  mcp-sandbox clean --all       everything, before the program is uninstalled`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			if all || !caches && !stages {
				return cleanAll(cmd, s.session, all, yes)
			}
			if stages {
				removed, left, err := session.CleanStages(s.session)
				fmt.Fprintf(cmd.OutOrStdout(), "stages: %d removed, %d in use or with changes that wait (mcp-sandbox review --list)\n", removed, left)
				if err != nil || !caches {
					return err
				}
			}
			removed, inUse, err := session.CleanCaches(s.session)
			fmt.Fprintf(cmd.OutOrStdout(), "%d removed, %d in use\n", removed, inUse)
			return err
		},
	}
	s.register(cmd.Flags())
	showThese(cmd.Flags(), "state-dir", "config")
	cmd.Flags().BoolVar(&caches, "caches", false, "remove the caches that no session uses")
	cmd.Flags().BoolVar(&stages, "stages", false, "remove the stages in which nothing waits, those of projects that are gone, and what of git stayed in sessions of such, or more than 30 days ago")
	cmd.Flags().BoolVar(&all, "all", false, "remove the whole state directory, after a question")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// cleanAll shows what is left, and removes it when a person says so.
func cleanAll(cmd *cobra.Command, c session.Config, remove, yes bool) error {
	dir, parts, running, err := session.Leftovers(c)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if len(parts) == 0 {
		fmt.Fprintf(out, "%s: nothing is left\n", dir)
		return nil
	}
	fmt.Fprintf(out, "%s:\n", dir)
	for _, p := range parts {
		fmt.Fprintf(out, "  %-12s %9s  %s\n", p.Name, sizeText(p.Bytes), p.About)
	}
	if running > 0 {
		fmt.Fprintf(out, "  Servers and sessions that live: %d.\n", running)
	}
	if !remove {
		fmt.Fprintln(out, "Remove: mcp-sandbox clean --caches, --stages or --all. A client's entry: mcp-sandbox setup CLIENT --remove.")
		return nil
	}
	if !yes {
		if ok, err := confirm(cmd, "Remove all of it? Undone changes, snapshots and changes that wait are lost."); err != nil || !ok {
			return err
		}
	}
	if err := session.RemoveState(c); err != nil {
		return err
	}
	fmt.Fprintf(out, "removed: %s\n", dir)
	return nil
}

// sizeText is a size for people.
func sizeText(n int64) string {
	for _, u := range []struct {
		shift int
		name  string
	}{{30, "GiB"}, {20, "MiB"}, {10, "KiB"}} {
		if n >= 1<<u.shift {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(int64(1)<<u.shift), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
