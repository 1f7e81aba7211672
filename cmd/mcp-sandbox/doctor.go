package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mcp-sandbox/confine"
	"mcp-sandbox/directory"
	"mcp-sandbox/library"
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
	// Store says whether the store of --store can keep sessions.
	Store string `json:"store,omitempty"`
	// Warnings are what the settings themselves give away, such as the network.
	Warnings []string `json:"warnings,omitempty"`
}

func newDoctor() *cobra.Command {
	var s settings
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Try each layer of confinement and say what is missing",
		Long:  "Try each layer of confinement for real, and say what is missing and how to get it.\nExit code 1 when a session could not run at --min-confinement,\nor when servers could not share the object storage of --store.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			// What a log would say of the layers is in the report, once.
			if f := cmd.Flags().Lookup("log-level"); !f.Changed {
				s.session.Log = slog.New(slog.DiscardHandler)
			}
			r, err := diagnose(cmd, &s)
			if err != nil {
				return err
			}
			r.tryStore(cmd.Context(), &s)
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
	show(cmd.Flags(), "store", "key-file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// diagnose starts a real session with the given settings: what a layer promises
// is not asked of the kernel's version but tried.
func diagnose(cmd *cobra.Command, s *settings) (doctorReport, error) {
	ctx := cmd.Context()
	r := doctorReport{Version: version(), Kernel: kernelRelease(), Level: "unavailable"}
	s.session.TellsStart = true
	done, err := borrowState(s)
	if err != nil {
		return r, err
	}
	defer done()
	m, err := session.NewManager(s.session, library.Launcher{Gateway: s.gateway})
	if err != nil {
		return r, err
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
	if root := m.Config().Root; root != "" {
		if top := session.GitAbove(root); top != "" {
			r.Layers = append(r.Layers, sandbox.Layer{Name: "git repository", State: sandbox.StateOff,
				Detail: "the workspace is a subdirectory of the repository " + top + ", so git does not work inside: the repository holds what the workspace leaves out", Remedy: "--root " + top})
		}
	}
	// What the running session says of itself goes before what the host lends.
	for _, l := range confine.Diagnose(ctx, sandbox.Policy{
		Workspace: os.TempDir(), UID: -1, GID: -1, Network: m.Config().Network,
		Limits: s.session.Limits, Level: s.session.Level, MinLevel: s.session.MinLevel,
	}) {
		// A session that has started knows better than what the host promises.
		if l.Name == "level" && r.Ok && (l.State != sandbox.StateOn || !strings.HasPrefix(l.Detail, string(r.Level)+",")) {
			continue
		}
		if !seen[l.Name] {
			r.Layers = append(r.Layers, l)
		}
	}
	return r, nil
}

// borrowState gives the trial a state directory for its time where there is none yet, on
// the file system on which it will be: what can be mounted there is part of the answer.
func borrowState(s *settings) (done func(), err error) {
	c, err := s.session.Resolve() // also that the one named is fit
	if err != nil || session.HasState(c.StateDir) {
		return func() {}, err
	}
	at := c.StateDir
	for ; at != ""; at = filepath.Dir(at) {
		if err := unix.Access(at, unix.W_OK|unix.X_OK); err == nil {
			break
		} else if !errors.Is(err, unix.ENOENT) || at == filepath.Dir(at) {
			if s.session.StateDir == "" {
				return func() {}, nil // a server has a temporary one too
			}
			return nil, sandbox.Errorf("permission_denied", err, "the state directory cannot be made; name a writable one with --state-dir")
		}
	}
	dir, err := os.MkdirTemp(at, ".mcp-sandbox-state-")
	if err != nil {
		return nil, sandbox.Errorf("internal", err, "the state directory cannot be made; name a writable one with --state-dir")
	}
	s.session.StateDir = dir
	return func() { _ = os.RemoveAll(dir) }, nil
}

// storeTime bounds the trial of a store.
const storeTime = time.Minute

// tryStore asks the store for real whether it honours conditional writes: without them
// two servers would run one session.
func (r *doctorReport) tryStore(ctx context.Context, s *settings) {
	if s.store.address == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	entries, _, err := openSharedS3(s.store.address)
	if err == nil {
		err = directory.Check(ctx, entries)
	}
	if err != nil {
		r.Ok, r.Store, r.Problem = false, "not reached: "+err.Error(), "the store cannot be reached"
		if errors.Is(err, directory.ErrUnfit) {
			r.Store, r.Problem = "unfit: "+err.Error(), "the store cannot be shared by servers"
		}
		return
	}
	r.Store = "reached; conditional writes, reads after writes and listings hold"
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
	if r.Store != "" {
		fmt.Fprintf(out, "store: %s\n", r.Store)
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
