package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mcp-sandbox/session"
)

func newSessions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List and delete named sessions",
		Long:  "Named sessions (serve --session NAME) keep their workspace and state when the\nserver ends, and the next server of that name resumes them.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSessionsList(), newSessionsDelete())
	return cmd
}

func newSessionsList() *cobra.Command {
	var s settings
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List named sessions", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			all, err := session.SavedSessions(s.session)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				enc := json.NewEncoder(out)
				enc.SetIndent("", "  ")
				return enc.Encode(all)
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			for _, one := range all {
				state := "saved " + one.Saved.UTC().Format(time.RFC3339)
				switch {
				case one.InUse:
					state = "in use"
				case one.Problem != "":
					state = one.Problem
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", one.Name, one.Workspace, state)
			}
			return w.Flush()
		},
	}
	s.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newSessionsDelete() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a named session: its state, its snapshots, and its workspace if it was not a folder of yours", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			return session.DeleteSaved(s.session, args[0])
		},
	}
	s.register(cmd.Flags())
	return cmd
}
