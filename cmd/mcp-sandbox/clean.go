package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"mcp-sandbox/session"
)

func newClean() *cobra.Command {
	var s settings
	var caches bool
	cmd := &cobra.Command{
		Use:   "clean --caches",
		Short: "Remove what sessions left to make later ones faster",
		Long:  "Remove the caches of package managers and compilers that sessions left in the\nstate directory, except those of sessions that run. Nothing but time is lost.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			if !caches {
				return badSetting("nothing to clean is named; use --caches")
			}
			removed, inUse, err := session.CleanCaches(s.session)
			fmt.Fprintf(cmd.OutOrStdout(), "%d removed, %d in use\n", removed, inUse)
			return err
		},
	}
	s.register(cmd.Flags())
	showOnly(cmd.Flags(), "workspace")
	cmd.Flags().BoolVar(&caches, "caches", false, "remove the caches that no session uses")
	return cmd
}
