package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// clientEntry is this server as a client is told of it: a program, or an address with
// headers.
type clientEntry struct {
	command string
	args    []string
	url     string
	headers map[string]string
}

// clientFormat is how one client writes down a server.
type clientFormat struct {
	name string
	file string // for people
	// place is the file that setup writes, below a home and the directory of settings.
	place func(home, config string) string
	// write prints the snippet.
	write func(w io.Writer, e clientEntry)
	// edit sets the server in the text of the file, and removes it without an entry.
	edit func(text []byte, e *clientEntry) ([]byte, error)
	// remote says that it takes a server by its address.
	remote bool
	// rules is the file of a project with rules for the agent, "" for none.
	rules string
	// next is what to do once it is written.
	next string
}

// jsonClient is one whose settings are JSON: the server is a member of the object key,
// with local or remote added to it.
func jsonClient(f clientFormat, key, address string, local, remote map[string]any) clientFormat {
	entry := func(e clientEntry) map[string]any {
		out := map[string]any{"command": e.command, "args": e.args}
		extra := local
		if e.url != "" {
			out, extra = map[string]any{address: e.url}, remote
			if len(e.headers) > 0 {
				out["headers"] = e.headers
			}
		}
		maps.Copy(out, extra)
		return out
	}
	f.remote = address != ""
	if f.write == nil {
		f.write = func(w io.Writer, e clientEntry) {
			fmt.Fprintln(w, indented(map[string]any{key: map[string]any{serverName: entry(e)}}, "", "  "))
		}
	}
	f.edit = func(text []byte, e *clientEntry) ([]byte, error) {
		if e == nil {
			return editJSON(text, key, serverName, nil)
		}
		return editJSON(text, key, serverName, entry(*e))
	}
	if f.next == "" {
		f.next = "Restart it, or reload its MCP servers."
	}
	return f
}

// serverName is this server's in the settings of clients.
const serverName = "sandbox"

func clientFormats() []clientFormat {
	at := func(parts ...string) func(home, config string) string {
		return func(home, config string) string {
			if parts[0] == "CONFIG" {
				return filepath.Join(append([]string{config}, parts[1:]...)...)
			}
			return filepath.Join(append([]string{home}, parts...)...)
		}
	}
	return []clientFormat{
		jsonClient(clientFormat{name: "claude-desktop", file: "claude_desktop_config.json (Settings > Developer > Edit Config)",
			place: at("CONFIG", "Claude", "claude_desktop_config.json")}, "mcpServers", "", nil, nil),
		jsonClient(clientFormat{name: "claude-code", file: "a shell", place: at(".claude.json"), rules: "CLAUDE.md",
			next: "Check with: claude mcp list", write: writeClaudeCode},
			"mcpServers", "url", map[string]any{"type": "stdio"}, map[string]any{"type": "http"}),
		jsonClient(clientFormat{name: "cursor", file: "~/.cursor/mcp.json or .cursor/mcp.json", place: at(".cursor", "mcp.json"), rules: ".cursor/rules/mcp-sandbox.mdc"},
			"mcpServers", "url", nil, nil),
		jsonClient(clientFormat{name: "vscode", file: ".vscode/mcp.json", place: at("CONFIG", "Code", "User", "mcp.json"), rules: ".github/copilot-instructions.md"},
			"servers", "url", map[string]any{"type": "stdio"}, map[string]any{"type": "http"}),
		jsonClient(clientFormat{name: "windsurf", file: "~/.codeium/windsurf/mcp_config.json", place: at(".codeium", "windsurf", "mcp_config.json")},
			"mcpServers", "serverUrl", nil, nil),
		jsonClient(clientFormat{name: "zed", file: "settings.json", place: func(home, _ string) string { return filepath.Join(home, ".config", "zed", "settings.json") }, rules: "AGENTS.md"},
			"context_servers", "url", nil, nil),
		jsonClient(clientFormat{name: "cline", file: "cline_mcp_settings.json",
			place: at("CONFIG", "Code", "User", "globalStorage", "saoudrizwan.claude-dev", "settings", "cline_mcp_settings.json"), rules: ".clinerules/mcp-sandbox.md"},
			"mcpServers", "url", map[string]any{"disabled": false, "timeout": 60}, map[string]any{"disabled": false, "timeout": 60, "type": "streamableHttp"}),
		jsonClient(clientFormat{name: "gemini", file: "~/.gemini/settings.json", place: at(".gemini", "settings.json"), rules: "GEMINI.md", next: "Check with: gemini mcp list"},
			"mcpServers", "httpUrl", map[string]any{"timeout": 60000}, map[string]any{"timeout": 60000}),
		{name: "codex", file: "~/.codex/config.toml", place: codexFile, rules: "AGENTS.md", remote: true, next: "Check with: codex mcp list",
			write: func(w io.Writer, e clientEntry) { io.WriteString(w, codexTable(e)) },
			edit: func(text []byte, e *clientEntry) ([]byte, error) {
				entry := ""
				if e != nil {
					entry = codexTable(*e)
				}
				out, err := editTOML(string(text), entry)
				return []byte(out), err
			}},
		{name: "goose", file: "~/.config/goose/config.yaml", place: func(home, _ string) string { return filepath.Join(home, ".config", "goose", "config.yaml") }, rules: ".goosehints", remote: true,
			next:  "Start a new session.",
			write: func(w io.Writer, e clientEntry) { io.WriteString(w, "extensions:\n"+gooseExtension(e)) },
			edit: func(text []byte, e *clientEntry) ([]byte, error) {
				entry := ""
				if e != nil {
					entry = gooseExtension(*e)
				}
				out, err := editYAML(string(text), entry)
				return []byte(out), err
			}},
		jsonClient(clientFormat{name: "lmstudio", file: "~/.lmstudio/mcp.json", place: at(".lmstudio", "mcp.json")}, "mcpServers", "url", nil, nil),
	}
}

// settingsDir is where desktop programs of a home keep their settings.
func settingsDir(home string) string {
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support")
	}
	if dir := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(home, ".config")
}

func codexFile(home, _ string) string {
	if dir := os.Getenv("CODEX_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "config.toml")
	}
	return filepath.Join(home, ".codex", "config.toml")
}

func writeClaudeCode(w io.Writer, e clientEntry) {
	line := append([]string{"claude mcp add", serverName, "--", shellWord(e.command)}, shellWords(e.args)...)
	if e.url != "" {
		line = []string{"claude mcp add --transport http", serverName, shellWord(e.url)}
		for _, name := range slices.Sorted(maps.Keys(e.headers)) {
			line = append(line, "--header", shellWord(name+": "+e.headers[name]))
		}
	}
	fmt.Fprintln(w, strings.Join(line, " "))
}

func codexTable(e clientEntry) string {
	if e.url == "" {
		return fmt.Sprintf("[mcp_servers.%s]\ncommand = %s\nargs = %s\n", serverName, jsonText(e.command), jsonText(e.args))
	}
	out := fmt.Sprintf("[mcp_servers.%s]\nurl = %s\n", serverName, jsonText(e.url))
	var headers []string
	for _, name := range slices.Sorted(maps.Keys(e.headers)) {
		headers = append(headers, jsonText(name)+" = "+jsonText(e.headers[name]))
	}
	if len(headers) > 0 {
		out += "http_headers = { " + strings.Join(headers, ", ") + " }\n"
	}
	return out
}

// gooseExtension is YAML, of which JSON strings and lists are a part.
func gooseExtension(e clientEntry) string {
	if e.url == "" {
		return fmt.Sprintf("  %s:\n    type: stdio\n    enabled: true\n    cmd: %s\n    args: %s\n    timeout: 300\n", serverName, jsonText(e.command), jsonText(e.args))
	}
	out := fmt.Sprintf("  %s:\n    type: streamable_http\n    enabled: true\n    uri: %s\n", serverName, jsonText(e.url))
	if len(e.headers) > 0 {
		out += "    headers: " + jsonText(e.headers) + "\n"
	}
	return out + "    timeout: 300\n"
}

func jsonText(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// typedWord is shellWord for a line that a person reads before typing it: what would
// steer the terminal is spelled as bash and zsh take it.
func typedWord(s string) string {
	if !strings.ContainsFunc(s, sandbox.Steers) && utf8.ValidString(s) {
		return shellWord(s)
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'' || c == '\\':
			b.WriteString("\\" + string(c))
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, "\\x%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	return "$'" + b.String() + "'"
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

// rootOf is a workspace in full, as a client starts the server anywhere. Those that
// serve refuses are refused.
func rootOf(root string) (string, error) {
	if strings.Contains(root, "${") {
		return root, nil // a variable that the client fills in
	}
	real, err := session.CheckRoot(root, session.DefaultStateDir())
	if err != nil {
		return "", err
	}
	if abs, err := filepath.Abs(root); err == nil {
		return abs, nil // as it was written, as projects hold that path
	}
	return real, nil
}
