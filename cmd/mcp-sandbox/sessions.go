package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mcp-sandbox/session"
)

func newSessions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List, end and delete kept sessions, and copy their files",
		Long:  "Named sessions (serve --session NAME) and those of a network server keep their\nworkspace and state when the server ends, and the next server resumes them.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSessionsList(), newSessionsEnd(), newSessionsDelete(), newSessionsGet(), newSessionsPut())
	return cmd
}

func newSessionsList() *cobra.Command {
	var s settings
	var asJSON bool
	var principal string
	cmd := &cobra.Command{
		Use: "list", Short: "List kept sessions, with the principal of those that run", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			if err := s.openStore(); err != nil {
				return err
			}
			all, err := session.SavedSessions(s.session)
			if err != nil {
				return err
			}
			owners, err := liveOwners(&s)
			if err != nil {
				return err
			}
			shown := all[:0]
			for _, one := range all {
				one.Principal = owners[one.Name]
				if principal != "" && session.KeptBy(principal, one.Name) {
					one.Principal = principal
				}
				if principal == "" || one.Principal == principal {
					shown = append(shown, one)
				}
			}
			all = shown
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
				if one.StagedFiles > 0 {
					state += fmt.Sprintf(", %s (%s) to review since %s", counted(int64(one.StagedFiles), "file"), counted(one.StagedBytes, "byte"), one.StagedSince.UTC().Format(time.RFC3339))
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", one.Name, one.Principal, one.Workspace, state)
			}
			return w.Flush()
		},
	}
	s.register(cmd.Flags())
	showThese(cmd.Flags(), "state-dir", "config", "store", "key-file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&principal, "principal", "", "only those of this principal of a network server")
	return cmd
}

// liveOwners says, by name, whose sessions run at this machine's servers.
func liveOwners(s *settings) (map[string]string, error) {
	owners := map[string]string{}
	_, err := askServers(stateDirOf(s), http.MethodGet, "/sessions", nil, func(answer json.RawMessage) error {
		var live []session.LiveSession
		if err := json.Unmarshal(answer, &live); err != nil {
			return err
		}
		for _, one := range live {
			owners[one.Name] = one.Principal
		}
		return nil
	})
	return owners, err
}

func stateDirOf(s *settings) string {
	if s.session.StateDir == "" {
		return session.DefaultStateDir()
	}
	return s.session.StateDir
}

func newSessionsEnd() *cobra.Command {
	var s settings
	var principal string
	cmd := &cobra.Command{
		Use: "end --principal NAME", Short: "End the running sessions of a principal, with what runs in them", Args: cobra.NoArgs,
		Long: "End the sessions of a principal at the network servers of this machine that have\nthe state directory. Files are kept, and the principal's next call resumes them:\nto keep it out, remove its token first.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			if principal == "" {
				return badSetting("no principal is named; write --principal NAME, as in the token file")
			}
			ended := 0
			asked, err := askServers(stateDirOf(&s), http.MethodPost, "/end", url.Values{"principal": {principal}}, func(answer json.RawMessage) error {
				var n struct{ Ended int }
				err := json.Unmarshal(answer, &n)
				ended += n.Ended
				return err
			})
			if err != nil {
				return err
			}
			if asked == 0 {
				return badSetting("no network server of this state directory runs on this machine; name its directory with --state-dir")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d sessions ended\n", ended)
			return nil
		},
	}
	s.register(cmd.Flags())
	showThese(cmd.Flags(), "state-dir", "config")
	cmd.Flags().StringVar(&principal, "principal", "", "whose sessions, as the token file names it")
	return cmd
}

func newSessionsDelete() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a named session: its state, its snapshots, and its workspace if it was not a directory of yours", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			if err := s.openStore(); err != nil {
				return err
			}
			return session.DeleteSaved(s.session, args[0])
		},
	}
	s.register(cmd.Flags())
	showThese(cmd.Flags(), "state-dir", "config", "snapshot-store", "store", "key-file")
	return cmd
}
