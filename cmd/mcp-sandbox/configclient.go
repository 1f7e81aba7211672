package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// clientFormat is how one client writes down a stdio server.
type clientFormat struct {
	name  string
	file  string
	write func(w io.Writer, command string, args []string)
}

func clientFormats() []clientFormat {
	return []clientFormat{
		{"claude-desktop", "claude_desktop_config.json (Settings > Developer > Edit Config)", underKey("mcpServers", nil)},
		{"claude-code", "a shell", func(w io.Writer, command string, args []string) {
			fmt.Fprintln(w, strings.Join(append([]string{"claude mcp add sandbox --", shellWord(command)}, shellWords(args)...), " "))
		}},
		{"cursor", "~/.cursor/mcp.json or .cursor/mcp.json", underKey("mcpServers", nil)},
		{"vscode", ".vscode/mcp.json", underKey("servers", map[string]any{"type": "stdio"})},
		{"windsurf", "~/.codeium/windsurf/mcp_config.json", underKey("mcpServers", nil)},
		{"zed", "settings.json", underKey("context_servers", nil)},
		{"cline", "cline_mcp_settings.json", underKey("mcpServers", map[string]any{"disabled": false, "timeout": 60})},
		{"gemini", "~/.gemini/settings.json", underKey("mcpServers", map[string]any{"timeout": 60000})},
		{"codex", "~/.codex/config.toml", func(w io.Writer, command string, args []string) {
			fmt.Fprintf(w, "[mcp_servers.sandbox]\ncommand = %s\nargs = %s\n", jsonText(command), jsonText(args))
		}},
		{"goose", "~/.config/goose/config.yaml", func(w io.Writer, command string, args []string) {
			// JSON strings and lists are valid YAML.
			fmt.Fprintf(w, "extensions:\n  sandbox:\n    type: stdio\n    enabled: true\n    cmd: %s\n    args: %s\n    timeout: 300\n", jsonText(command), jsonText(args))
		}},
		{"lmstudio", "~/.lmstudio/mcp.json", underKey("mcpServers", nil)},
	}
}

func underKey(key string, extra map[string]any) func(io.Writer, string, []string) {
	return func(w io.Writer, command string, args []string) {
		server := map[string]any{"command": command, "args": args}
		for k, v := range extra {
			server[k] = v
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		_ = enc.Encode(map[string]any{key: map[string]any{"sandbox": server}})
	}
}

func jsonText(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func shellWord(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n'\"\\$`&|;<>()*?[]#~!{}") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func shellWords(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = shellWord(w)
	}
	return out
}

func newConfigPrinter() *cobra.Command {
	var names []string
	for _, f := range clientFormats() {
		names = append(names, f.name)
	}
	var root string
	cmd := &cobra.Command{
		Use:       "config CLIENT",
		Short:     "Print how to add this server to a client",
		Long:      "Print the snippet that adds this server to a client: " + strings.Join(names, ", ") + ".",
		ValidArgs: names,
		Args:      cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			i := slices.Index(names, args[0])
			if i < 0 {
				return badSetting("there is no client %q, use one of %s", args[0], strings.Join(names, ", "))
			}
			exe, err := os.Executable()
			if err != nil {
				exe = "mcp-sandbox"
			}
			serve := []string{"serve"}
			if root != "" {
				serve = append(serve, "--root", root)
			}
			f := clientFormats()[i]
			fmt.Fprintf(cmd.ErrOrStderr(), "For %s:\n", f.file)
			f.write(cmd.OutOrStdout(), exe, serve)
			return nil
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "workspace directory to put in the snippet")
	return cmd
}
