//go:build gen

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Built with -tags gen the program can write its own man pages and completions
// for the packages:
//
//	go run -tags gen ./cmd/mcp-sandbox gen dist/gen
//
// It is a build of its own so that the server does not carry the writer.
func init() { extra = append(extra, newGen) }

func newGen() *cobra.Command {
	return &cobra.Command{
		Use: "gen DIR", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return generate(newRoot(), args[0]) },
	}
}

func generate(root *cobra.Command, dir string) error {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, sub := range []string{"man", "completions"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	var err error
	each(root, func(cmd *cobra.Command) {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		if e := os.WriteFile(filepath.Join(dir, "man", name), []byte(manPage(cmd)), 0o644); e != nil {
			err = e
		}
	})
	if err != nil {
		return err
	}
	completions := filepath.Join(dir, "completions")
	if err := root.GenBashCompletionFileV2(filepath.Join(completions, "mcp-sandbox.bash"), true); err != nil {
		return err
	}
	if err := root.GenZshCompletionFile(filepath.Join(completions, "_mcp-sandbox")); err != nil {
		return err
	}
	return root.GenFishCompletionFile(filepath.Join(completions, "mcp-sandbox.fish"), true)
}

// each visits the commands that have a page of their own.
func each(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		if documented(sub) {
			each(sub, visit)
		}
	}
}

func documented(cmd *cobra.Command) bool {
	return !cmd.Hidden && !cmd.IsAdditionalHelpTopicCommand() && cmd.Name() != "help" && cmd.Name() != "completion"
}

// manPage writes a page in the macros of man(7).
func manPage(cmd *cobra.Command) string {
	var b strings.Builder
	out := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	title := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	out(`.TH "%s" 1 "" "mcp-sandbox" "User Commands"`, strings.ToUpper(roff(title)))
	out(".nh\n.ad l\n.SH NAME\n%s \\- %s", roff(title), roff(lowerFirst(cmd.Short)))
	out(".SH SYNOPSIS\n.B %s", roff(cmd.UseLine()))
	if cmd.HasAvailableSubCommands() && cmd.Runnable() {
		out(".br\n.B %s\n\\fICOMMAND\\fR", roff(cmd.CommandPath()))
	}
	about := cmd.Long
	if about == "" {
		about = cmd.Short + "."
	}
	out(".SH DESCRIPTION")
	for i, paragraph := range strings.Split(about, "\n\n") {
		if i > 0 {
			out(".PP")
		}
		out("%s", roffText(paragraph))
	}
	if cmd.HasAvailableSubCommands() {
		out(".SH COMMANDS")
		for _, sub := range cmd.Commands() {
			if documented(sub) {
				out(".TP\n.B %s\n%s", roff(strings.TrimPrefix(sub.UseLine(), cmd.CommandPath()+" ")), roffText(sub.Short))
			}
		}
	}
	settable := false
	var plain settings
	known := pflag.NewFlagSet("", pflag.ContinueOnError)
	plain.register(known)
	if cmd.HasAvailableFlags() {
		out(".SH OPTIONS")
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			settable = settable || known.Lookup(f.Name) != nil
			value, usage := pflag.UnquoteUsage(f)
			if value == "stringArray" {
				value = "string..." // as flagUsages has it
			}
			names := `\fB` + roff("--"+f.Name) + `\fR`
			if f.Shorthand != "" {
				names = `\fB` + roff("-"+f.Shorthand) + `\fR, ` + names
			}
			if value != "" {
				names += ` \fI` + roff(value) + `\fR`
			}
			switch f.DefValue {
			case "", "[]", "0", "false":
			default:
				if !strings.Contains(usage, "default") {
					usage += " (default " + f.DefValue + ")"
				}
			}
			out(".TP\n%s\n%s", names, roffText(usage))
		})
	}
	if settable {
		out(".SH ENVIRONMENT\n%s", roffText("Each option is also a variable: MCP_SANDBOX_ROOT is --root, MCP_SANDBOX_LIMIT_PROCS is --limit-procs. Lists are written with commas, MCP_SANDBOX_ENV one a line. An option wins over the environment, the environment over the file named by --config. An unknown MCP_SANDBOX_ variable is an error."))
		out(".SH FILES\n.TP\n.I $XDG_STATE_HOME/mcp\\-sandbox\n%s", roffText("The server's own directory, ~/.local/state/mcp-sandbox when the variable is not set; see --state-dir."))
	}
	if cmd.Runnable() {
		out(".SH EXIT STATUS\n.TP\n.B 0\nSuccess.\n.TP\n.B %d\nBad usage or a bad setting.\n.TP\n.B %d\nA failure of the program itself.", exitUsage, exitFailure)
		if cmd.Name() == "exec" {
			out(".TP\n.I n\n%s", roffText("The command's own exit status; 128+n when signal n ended it."))
		}
		if cmd.Name() == "doctor" {
			out(".TP\n.B 1\n%s", roffText("A session could not run at --min-confinement."))
		}
	}
	var related []string
	if cmd.HasParent() {
		related = append(related, strings.ReplaceAll(cmd.Parent().CommandPath(), " ", "-"))
	}
	for _, sub := range cmd.Commands() {
		if documented(sub) {
			related = append(related, title+"-"+sub.Name())
		}
	}
	if len(related) > 0 {
		out(".SH SEE ALSO")
		for i, name := range related {
			comma := ","
			if i == len(related)-1 {
				comma = ""
			}
			out(".BR %s (1)%s", roff(name), comma)
		}
	}
	return b.String()
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' || strings.HasPrefix(s, "A ") {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// roff escapes what the formatter would read as its own (groff_char(7)); '-'
// would be set as a hyphen, which nobody can paste into a shell.
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, `-`, `\-`, `~`, `\(ti`, `^`, `\(ha`, `"`, `\(dq`, "`", `\(ga`).Replace(s)
}

// roffText is roff for running text: no line may look like a macro.
func roffText(s string) string {
	lines := strings.Split(roff(strings.TrimSpace(s)), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
