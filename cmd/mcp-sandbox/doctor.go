package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"mcp-sandbox/confine"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// doctorReport is what --json prints.
type doctorReport struct {
	Version string          `json:"version"`
	Kernel  string          `json:"kernel"`
	Level   sandbox.Level   `json:"level"`
	Ok      bool            `json:"ok"`
	Problem string          `json:"problem,omitempty"`
	Layers  []sandbox.Layer `json:"layers"`
	// Warnings are what the settings themselves give away, such as the network.
	Warnings []string `json:"warnings,omitempty"`
}

func newDoctor() *cobra.Command {
	var s settings
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Try each layer of confinement and say what is missing",
		Long:  "Try each layer of confinement for real, and say what is missing and how to get it.\nExit code 1 when a session could not run at --min-confinement.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			// What a log would say of the layers is in the report, once.
			if f := cmd.Flags().Lookup("log-level"); !f.Changed {
				s.session.Log = slog.New(slog.DiscardHandler)
			}
			r := diagnose(cmd, &s)
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				if err := enc.Encode(r); err != nil {
					return err
				}
			} else {
				r.print(cmd)
			}
			if !r.Ok {
				return exitStatus(1)
			}
			return nil
		},
	}
	s.register(cmd.Flags())
	showOnly(cmd.Flags(), oneCommand...)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// diagnose starts a real session with the given settings: what a layer promises
// is not asked of the kernel's version but tried.
func diagnose(cmd *cobra.Command, s *settings) doctorReport {
	ctx := cmd.Context()
	r := doctorReport{Version: version(), Kernel: kernelRelease(), Level: "unavailable"}
	m, err := session.NewManager(s.session, launcher{gateway: s.gateway})
	if err != nil {
		r.Problem = describe(err)
		return r
	}
	defer m.Close()
	sess, err := m.Get(ctx, "doctor")
	if err != nil {
		r.Problem = describe(err)
	} else {
		report := sess.Sandbox().Report()
		r.Level, r.Ok = report.Level, true
		r.Layers, r.Warnings = report.Layers, report.Warnings
	}
	seen := map[string]bool{}
	for _, l := range r.Layers {
		seen[l.Name] = true
	}
	// What the running session says of itself goes before what the host lends.
	for _, l := range confine.Diagnose(ctx, sandbox.Policy{
		Workspace: os.TempDir(), UID: -1, GID: -1, Network: m.Config().Network,
		Limits: s.session.Limits, Level: s.session.Level, MinLevel: s.session.MinLevel,
	}) {
		// A session that has started knows better than a trial that could not.
		if l.Name == "level" && r.Ok && l.State != sandbox.StateOn {
			continue
		}
		if !seen[l.Name] {
			r.Layers = append(r.Layers, l)
		}
	}
	return r
}

func (r doctorReport) print(cmd *cobra.Command) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "mcp-sandbox %s on kernel %s\n", r.Version, r.Kernel)
	fmt.Fprintf(out, "confinement level: %s\n", r.Level)
	for _, l := range r.Layers {
		fmt.Fprintf(out, "  %-22s %-12s %s\n", l.Name, l.State, l.Detail)
		if l.Remedy != "" {
			fmt.Fprintf(out, "  %-22s %-12s -> %s\n", "", "", l.Remedy)
		}
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(out, "warning: %s\n", w)
	}
	if r.Problem != "" {
		fmt.Fprintf(out, "problem: %s\n", r.Problem)
	}
	if r.Ok {
		fmt.Fprintln(out, "a session can run")
	} else {
		fmt.Fprintln(out, "no session can run with these settings")
	}
}
