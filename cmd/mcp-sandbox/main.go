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
	err := rootFor(os.Args[1:]).ExecuteContext(ctx)
	stop()
	var status exitStatus
	switch {
	case err == nil:
	case errors.As(err, &status):
		os.Exit(int(status))
	default:
		fmt.Fprintln(operator(os.Stderr), "mcp-sandbox:", describe(err))
		if sandbox.CodeOf(err) == "invalid_argument" {
			os.Exit(exitUsage)
		}
		os.Exit(exitFailure)
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

// commands make the subcommands, by name.
var commands = []struct {
	name string
	make func() *cobra.Command
}{
	{"serve", newServe}, {"exec", newExec}, {"doctor", newDoctor}, {"setup", newSetup}, {"config", newConfigPrinter},
	{"sessions", newSessions}, {"snapshots", newSnapshots}, {"review", newReview}, {"clean", newClean}, {"version", newVersion},
}

// rootFor is the program for one command line. Where its first word is a command,
// the others are left out: registering all their flags and writing their help took a
// quarter of a start.
func rootFor(args []string) *cobra.Command {
	if len(args) > 0 {
		for _, c := range commands {
			if c.name == args[0] {
				root := bareRoot()
				root.AddCommand(c.make())
				addHelp(root)
				return root
			}
		}
	}
	return newRoot()
}

// newRoot is the program with all its commands. Without one it serves.
func newRoot() *cobra.Command {
	root := bareRoot()
	for _, c := range commands {
		root.AddCommand(c.make())
	}
	for _, add := range extra {
		root.AddCommand(add())
	}
	serve, _, _ := root.Find([]string{"serve"})
	root.RunE = serve.RunE
	root.Flags().SetNormalizeFunc(normalName)
	root.Flags().AddFlagSet(serve.Flags())
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		// The library answers an unknown shell with the help and success.
		c.Args, c.RunE = noCommand(""), func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	addHelp(root)
	addTopics(root, serve.Flags())
	return root
}

func bareRoot() *cobra.Command {
	root := &cobra.Command{
		Use:     "mcp-sandbox",
		Short:   "A kernel-confined shell for language models, over MCP",
		Long:    "mcp-sandbox gives an MCP client a workspace directory, a confined shell with\nlong-lived processes and terminals, and file tools. Without a command it serves\nMCP on stdio, with the flags of serve.",
		Args:    noCommand(""),
		Version: version(),
		Example: `  mcp-sandbox exec --root . -- go test ./...   one confined command in this directory
  mcp-sandbox setup claude-code --root .       add it to a client
  mcp-sandbox doctor                           what this machine can confine`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(operator(os.Stdout))
	root.SetErr(operator(os.Stderr))
	root.Flags().BoolP("version", "v", false, "print the version")
	root.SetVersionTemplate("mcp-sandbox {{.Version}}\n")
	return root
}
