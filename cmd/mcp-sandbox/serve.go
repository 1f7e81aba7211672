package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mcp-sandbox/library"
)

func newServe() *cobra.Command {
	s := settings{serving: true, records: true}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve MCP on stdio (the default) or the network",
		Args:  noCommand("serve takes no words; name the workspace with --root %s"),
		Example: `  mcp-sandbox serve --root ~/project
  mcp-sandbox serve --root ~/project --network allow --allow-preset npm,github --deny-secrets
  mcp-sandbox serve --transport http --listen 127.0.0.1:8080 --token-file tokens`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			spareProcessor()
			if s.remote() {
				defer insist(cmd.Context(), suspendPatience)()
				return serveHTTP(cmd.Context(), &s)
			}
			defer insist(cmd.Context(), endPatience)()
			return serveStdio(cmd.Context(), &s, os.Stdin, os.Stdout)
		},
	}
	s.register(cmd.Flags())
	completeValues(cmd)
	return cmd
}

// endPatience is how long a server that was told to end waits for the work in
// hand. Nothing of a session outlives it: the kernel ends every init with the
// server, and what is on disk is whole at any moment.
const endPatience = 1700 * time.Millisecond

// suspendPatience is that of a network server, which saves the sessions of all its
// clients for the server that comes after it.
const suspendPatience = 20 * time.Second

// insist ends the process when it is still there patience after ctx, whatever it
// is doing. The function it returns calls that off.
func insist(ctx context.Context, patience time.Duration) func() {
	over := make(chan struct{})
	go func() {
		select {
		case <-over:
			return
		case <-ctx.Done():
		}
		select {
		case <-over:
		case <-time.After(patience):
			fmt.Fprintln(os.Stderr, "mcp-sandbox: told to end, some work has not stopped in time and is left unfinished")
			os.Exit(exitFailure)
		}
	}()
	return func() { close(over) }
}

func serveStdio(ctx context.Context, s *settings, in *os.File, out *os.File) error {
	if err := s.checkLimits(); err != nil {
		return err
	}
	if isTerminal(in) {
		fmt.Fprintln(os.Stderr, "mcp-sandbox is an MCP server: a client starts it and speaks JSON-RPC on stdin.\nTo add it to a client: mcp-sandbox config claude-desktop (or claude-code, cursor, vscode, ...).\nTo try it without one: mcp-sandbox exec -- 'id; ls'\nWaiting for a client; Ctrl-D ends.")
	}
	box, err := library.New(ctx, library.Options{Session: s.session, Tools: s.tools, Gateway: s.gateway})
	if err != nil {
		return err
	}
	stopMetrics, err := s.observe.serveMetrics(s.tools.Metrics, box.Manager(), s.session.Log, gatewaySeries(s.gateway)...)
	if err != nil {
		return errors.Join(err, box.Close())
	}
	ctx, stop := s.reloadOnSIGHUP(ctx)
	defer stop()
	err = box.ServeStdio(ctx, in, protocolOutput(out))
	return errors.Join(ignoreGone(err), stopMetrics(), box.Close())
}

// protocolOutput keeps stdout for the protocol alone: a stray print of this program or
// of a library would break the client's parser, so it lands on stderr.
func protocolOutput(out *os.File) io.Writer {
	fd, err := unix.FcntlInt(out.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return out
	}
	own := os.NewFile(uintptr(fd), "protocol output")
	_ = unix.Dup2(int(os.Stderr.Fd()), int(out.Fd()))
	return own
}

// ignoreGone: a client that left without reading has ended the session the way
// clients do; the server has not failed.
func ignoreGone(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), ioctlGetTermios)
	return err == nil
}
