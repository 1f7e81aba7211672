package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mcp-sandbox/sandbox"
)

// topic is one group of flags: a heading of --help, and "mcp-sandbox help NAME".
type topic struct {
	name, title, about string
	flags              []string
}

// topics hold every flag that the settings register, once; a test walks them.
var topics = []topic{
	{"workspace", "Workspace", "Which directory a session works in, who it is there, and what it starts with.",
		[]string{"root", "workspace-alias", "session", "staged", "stage-apply", "from", "manifest", "home", "shell", "env", "git-user", "no-cache", "state-dir", "config"}},
	{"confinement", "Confinement", "What commands and file tools may read and change, and how the kernel holds them to it. docs/security.md says what holds at which level.",
		[]string{"read", "write", "deny-read", "deny-secrets", "protect", "read-only", "read-only-tools", "confine", "min-confinement", "allow-root", "share-signals"}},
	{"network", "Network of commands", "Which hosts commands can reach, and which of their ports can be reached.",
		[]string{"network", "allow-host", "deny-host", "allow-preset", "elicit-hosts", "limit-net-bytes", "limit-net-conns", "expose"}},
	{"limits", "Limits", "Sizes take K, M, G or T (powers of 1024).",
		[]string{"limit-procs", "limit-memory", "limit-cpu", "limit-file-size", "limit-open-files", "limit-tmp", "limit-workspace", "limit-cache", "limits"}},
	{"snapshots", "Snapshots", "What can be undone, and how long it is kept.",
		[]string{"no-baseline", "baseline-limit", "checkpoint-every", "snapshot-store", "snapshot-ignore", "snapshot-keep", "snapshot-keep-age", "snapshot-keep-size"}},
	{"tools", "Tools", "Which tools a client sees, and how long and how much they answer.",
		[]string{"toolset", "encoding", "max-output-tokens", "max-yield-ms", "on-cancel", "structured"}},
	{"server", "Network server", "Serving many clients over streamable HTTP or SSE; docs/http.md.",
		[]string{"transport", "listen", "token-file", "no-auth", "oauth-issuer", "oauth-audience", "oauth-resource", "oauth-claim", "oauth-scope", "tls-cert", "tls-key", "http-host", "http-origin", "default-sandbox", "max-connections", "max-sessions", "max-sessions-per-principal", "max-kept-per-principal", "session-idle", "session-max-age", "store", "key-file", "peer-url", "lease-ttl", "durable"}},
	{"logs", "Logs and records", "What the server tells the operator.",
		[]string{"log-level", "log-format", "audit-log", "audit-strict", "metrics-listen", "otlp-endpoint"}},
}

// oneCommand are the topics of a program that runs one command and ends; clientOnly are
// flags of them that need a client.
var (
	oneCommand = []string{"workspace", "confinement", "network", "limits", "snapshots", "logs"}
	clientOnly = []string{"read-only-tools", "stage-apply", "elicit-hosts", "expose", "checkpoint-every", "metrics-listen", "share-signals"}
)

// showOnly leaves the flags of other topics out of help and completion. They stay
// registered, as the environment and the configuration file may set them; on the
// command's own line they are refused, see checkNeeds.
func showOnly(f *pflag.FlagSet, names ...string) {
	for _, t := range topics {
		for _, name := range t.flags {
			if fl := f.Lookup(name); fl != nil && (!slices.Contains(names, t.name) || slices.Contains(clientOnly, name)) {
				fl.Hidden = true
			}
		}
	}
}

// showThese leaves all flags of the topics but the named ones out, as showOnly does: for
// commands that start no session, on which most of a topic has no effect.
func showThese(f *pflag.FlagSet, names ...string) {
	showOnly(f)
	show(f, names...)
}

// ofStore are the flags of snapshots that hold without a session.
var ofStore = []string{"snapshot-store", "snapshot-ignore", "snapshot-keep", "snapshot-keep-age", "snapshot-keep-size"}

// isTopicFlag tells a flag of the settings from those of one command.
func isTopicFlag(name string) bool {
	return slices.ContainsFunc(topics, func(t topic) bool { return slices.Contains(t.flags, name) })
}

// show has flags of topics that showOnly left out.
func show(f *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f.Lookup(name).Hidden = false
	}
}

// flagValues are the words that a flag takes, for completion.
var flagValues = map[string][]string{
	"confine": {"auto", "namespaces", "namespaces-noproc", "landlock", "seatbelt", "none"}, "min-confinement": {"namespaces", "namespaces-noproc", "landlock"},
	"network": {"none", "loopback", "allow", "host"}, "allow-preset": {"go", "npm", "pypi", "debian", "github", "crates"},
	"home": {"workspace", "private"}, "stage-apply": {"person", "model"}, "limits": {"strict", "best-effort"}, "on-cancel": {"kill", "leave"},
	"toolset": {"core", "files", "process", "snapshot", "session"}, "encoding": {"o200k_base", "cl100k_base"}, "structured": {"auto", "on", "off"},
	"transport": {"stdio", "http", "sse"}, "default-sandbox": {"on", "off"}, "log-level": {"debug", "info", "warn", "error"}, "log-format": {"text", "json"},
}

// completeValues offers the words that flags take, and directories for those that
// take one.
func completeValues(cmd *cobra.Command) {
	for name, words := range flagValues {
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, completeWords(cmd.Flags().Lookup(name), words))
		}
	}
	for _, name := range []string{"root", "state-dir"} {
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.MarkFlagDirname(name)
		}
	}
}

// completeWords offers words; in a list also after a comma.
func completeWords(fl *pflag.Flag, words []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		before := ""
		if _, list := fl.Value.(pflag.SliceValue); list {
			before = typed[:strings.LastIndexByte(typed, ',')+1]
		}
		var out []string
		for _, w := range words {
			if before == "" || !slices.Contains(strings.Split(before, ","), w) {
				out = append(out, before+w)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// renamed are flags by names of before, which stay understood.
var renamed = map[string]string{"allowed-host": "http-host", "allowed-origin": "http-origin"}

func normalName(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	if now, ok := renamed[name]; ok {
		name = now
	}
	return pflag.NormalizedName(name)
}

// groupedFlags are the flags of a command under the headings of their topics, its own
// first.
func groupedFlags(cmd *cobra.Command) string {
	var b strings.Builder
	rest := pflag.NewFlagSet("", pflag.ContinueOnError)
	sets := make([]*pflag.FlagSet, len(topics))
	for i := range sets {
		sets[i] = pflag.NewFlagSet("", pflag.ContinueOnError)
		sets[i].SortFlags = false
	}
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	all.AddFlagSet(cmd.LocalFlags())
	all.AddFlagSet(cmd.InheritedFlags())
	all.VisitAll(func(fl *pflag.Flag) {
		for _, t := range topics {
			if slices.Contains(t.flags, fl.Name) {
				return
			}
		}
		rest.AddFlag(fl)
	})
	for i, t := range topics {
		for _, name := range t.flags {
			if fl := all.Lookup(name); fl != nil {
				sets[i].AddFlag(fl)
			}
		}
	}
	section := func(title string, f *pflag.FlagSet) {
		if f.HasAvailableFlags() {
			fmt.Fprintf(&b, "\n%s:\n%s", title, flagUsages(f))
		}
	}
	section("Flags", rest)
	if !cmd.HasParent() {
		// Alone the program serves, with the flags of that command.
		return strings.TrimRight(b.String(), "\n")
	}
	for i, t := range topics {
		section(t.title, sets[i])
	}
	return strings.TrimRight(b.String(), "\n")
}

// usageTemplate is cobra's, with the flags in groups.
const usageTemplate = `Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}
{{groupedFlags .}}{{if .HasHelpSubCommands}}

Topics:{{range .Commands}}{{if .IsAdditionalHelpTopicCommand}}
  {{rpad .CommandPath .CommandPathPadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableSubCommands}}

"{{.CommandPath}} [command] --help" tells more about a command.{{end}}
`

// addHelp gives the commands grouped help, and errors that name what may have been
// meant.
func addHelp(root *cobra.Command) {
	cobra.AddTemplateFunc("groupedFlags", groupedFlags)
	sayArgs(root)
	root.SetHelpCommand(newHelp(root))
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
			return badFlag(cmd, err)
		}
		if name := unknown.GetSpecifiedName(); takesServerFlags(cmd) && isTopicFlag(name) {
			return badSetting("--%s is a flag of the server; write it after --, as in %s CLIENT --root DIR -- --%s", name, cmd.CommandPath(), name)
		}
		var names []string
		cmd.Flags().VisitAll(func(fl *pflag.Flag) { names = append(names, fl.Name) })
		return badSetting("unknown flag --%s; %s", unknown.GetSpecifiedName(), meant("--", nearest(unknown.GetSpecifiedName(), names), cmd))
	})
}

// addTopics has "help NAME" tell about a group of flags.
func addTopics(root *cobra.Command, serve *pflag.FlagSet) {
	for _, t := range topics {
		f := pflag.NewFlagSet(t.name, pflag.ContinueOnError)
		f.SortFlags = false
		for _, name := range t.flags {
			f.AddFlag(serve.Lookup(name))
		}
		if slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == t.name }) {
			continue // the command of that name tells it
		}
		root.AddCommand(&cobra.Command{
			Use: t.name, Short: t.title, Long: t.about + "\n\n" + strings.TrimRight(flagUsages(f), "\n"),
		})
	}
}

// flagUsages names what flags take for people: the library names its types. Three dots
// stand for a flag that may be given several times.
func flagUsages(f *pflag.FlagSet) string {
	return regexp.MustCompile(`(?m)^( +(?:-\w, )?--\S+) stringArray`).ReplaceAllString(f.FlagUsages(), "$1 string...  ")
}

// noCommand refuses words where none are taken. hint says where they may belong.
func noCommand(hint string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		if hint != "" {
			return badSetting("unexpected word %q; %s", args[0], fmt.Sprintf(hint, args[0]))
		}
		if !cmd.HasParent() && strings.ContainsAny(args[0], "/.~") {
			return badSetting("unknown command %q; name a workspace with --root %s", args[0], args[0])
		}
		var names []string
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				names = append(names, c.Name())
			}
		}
		return badSetting("unknown command %q; %s", args[0], meant("", nearest(args[0], names), cmd))
	}
}

// meant is the next step after a word that cmd does not know; name is what it may
// stand for, or "".
func meant(prefix, name string, cmd *cobra.Command) string {
	if name == "" {
		return "see " + cmd.CommandPath() + " --help"
	}
	return fmt.Sprintf("did you mean %s%s? See %s --help", prefix, name, cmd.CommandPath())
}

// badFlag words an error of the flag library.
func badFlag(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	var unknown *pflag.NotExistError
	switch {
	case errors.As(err, &invalid):
		return badSetting("--%s is %q; %s", invalid.GetFlag().Name, invalid.GetValue(), formOf(invalid.GetFlag(), err))
	case errors.As(err, &unknown):
		return badSetting("unknown flag -%s; see %s --help", unknown.GetSpecifiedName(), cmd.CommandPath())
	}
	return badSetting("%v; see %s --help", err, cmd.CommandPath())
}

// formOf is howToWrite for an error of the set of fl.
func formOf(fl *pflag.Flag, err error) string {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		err = invalid.Unwrap()
	}
	return howToWrite(fl, err)
}

// howToWrite is the form of a flag's values. cause is for flags with a form of their
// own, whose Set says it.
func howToWrite(fl *pflag.Flag, cause error) string {
	switch fl.Value.Type() {
	case "bool":
		return "write true or false"
	case "int":
		return "write a whole number"
	case "float64":
		return "write a number such as 1.5"
	case "duration":
		return "write a time such as 30s, 5m or 72h"
	}
	return cause.Error()
}

// sayArgs words the errors of the library about the words after a command, for cmd and
// all below it.
func sayArgs(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		sayArgs(c)
	}
	check := cmd.Args
	if check == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		switch {
		case err == nil || sandbox.CodeOf(err) != "":
			return err
		case len(args) > 0 && cmd.HasSubCommands():
			return noCommand("")(cmd, args)
		case check(cmd, append(slices.Clone(args), "x", "y")) != nil && check(cmd, append(slices.Clone(args), "x")) != nil:
			return badSetting("unexpected word %q; write %s", args[len(args)-1], cmd.UseLine())
		}
		return badSetting("a word is missing after %q; write %s", cmd.CommandPath(), cmd.UseLine())
	}
}

// newHelp tells about a command or a topic.
func newHelp(root *cobra.Command) *cobra.Command {
	names := func() (names []string) {
		for _, c := range root.Commands() {
			if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
				names = append(names, c.Name())
			}
		}
		return names
	}
	return &cobra.Command{
		Use: "help [COMMAND or TOPIC]", Short: "Help about a command or a topic",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return names(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return badSetting("there is no command or topic %q; %s", strings.Join(args, " "), meant("", nearest(args[0], names()), root))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// nearest is the name that word most likely stands for, "" when none is close.
func nearest(word string, names []string) string {
	best, least := "", len(word)/3+1
	for _, n := range names {
		d := edits(word, n)
		if strings.HasPrefix(n, word) && len(word) > 2 {
			d = min(d, 1)
		}
		if d <= least && (best == "" || d < least) {
			best, least = n, d
		}
	}
	return best
}

// edits is the number of letters to insert, delete or replace between two words.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, above+1, diagonal+cost)
			diagonal = above
		}
	}
	return row[len(b)]
}
