// Command mcp-sandbox is a Model Context Protocol server that gives a language
// model a kernel-confined shell. Run without arguments it serves MCP on stdio;
// "mcp-sandbox exec -- CMD" runs one confined command without a client.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"mcp-sandbox/confine"
	"mcp-sandbox/sandbox"
)

// Exit codes of the program itself, chosen so that a command's code is not mistaken for
// one: 2 is bad usage, 125 a failure before or around the command (as with
// docker run and timeout(1)).
const (
	exitUsage   = 2
	exitFailure = 125
)

func main() {
	// The sandbox's init is this same binary, started again: it must leave here
	// before anything of the server is set up.
	confine.MaybeRunChild()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := newRoot().ExecuteContext(ctx)
	stop()
	var status exitStatus
	switch {
	case err == nil:
	case errors.As(err, &status):
		os.Exit(int(status))
	default:
		fmt.Fprintln(operator(os.Stderr), "mcp-sandbox:", describe(err))
		if code := sandbox.CodeOf(err); code != "" && code != "invalid_argument" {
			os.Exit(exitFailure)
		}
		os.Exit(exitUsage)
	}
}

// exitStatus carries a command's own exit code out through cobra.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// describe adds the cause for the operator; the model never sees this text.
func describe(err error) string {
	text := err.Error()
	var coded *sandbox.Error
	if errors.As(err, &coded) {
		text = coded.Code() + ": " + text
		if cause := coded.Unwrap(); cause != nil {
			text += " (" + cause.Error() + ")"
		}
	}
	return text
}

// extra are the commands of special builds, see gen.go; a released program has
// none.
var extra []func() *cobra.Command

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:     "mcp-sandbox",
		Short:   "A kernel-confined shell for language models, over MCP",
		Long:    "mcp-sandbox gives an MCP client a workspace directory, a confined shell with\nlong-lived processes and terminals, and file tools. Without a command it serves\nMCP on stdio, with the flags of serve.",
		Args:    noCommand(""),
		Version: version(),
		Example: `  mcp-sandbox exec --root . -- go test ./...   one confined command in this directory
  mcp-sandbox config claude-code --root .      the entry for a client's configuration
  mcp-sandbox doctor                           what this machine can confine`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(operator(os.Stdout))
	root.SetErr(operator(os.Stderr))
	serve := newServe()
	root.RunE = serve.RunE
	root.Flags().SetNormalizeFunc(normalName)
	root.Flags().AddFlagSet(serve.Flags())
	root.Flags().BoolP("version", "v", false, "print the version")
	root.SetVersionTemplate("mcp-sandbox {{.Version}}\n")
	root.AddCommand(serve, newExec(), newDoctor(), newConfigPrinter(), newSessions(), newSnapshots(), newClean(), newVersion())
	for _, add := range extra {
		root.AddCommand(add())
	}
	addHelp(root, serve.Flags())
	return root
}
