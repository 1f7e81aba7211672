package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func repoFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func repoJSON(t *testing.T, name string, v any) {
	t.Helper()
	if err := json.Unmarshal(repoFile(t, name), v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

type launch struct {
	Command string            `json:"command"`
	Args    []string          `json:"args"`
	Env     map[string]string `json:"env"`
}

// TestManifestsAgree: one version number everywhere, and every launch is one
// that this program takes.
func TestManifestsAgree(t *testing.T) {
	type plugin struct {
		Name, Version string
		MCPServers    map[string]launch `json:"mcpServers"`
	}
	var registry registryServer
	var bundle struct {
		Name, Version string
		Server        struct {
			MCPConfig launch `json:"mcp_config"`
		}
	}
	var claude, gemini plugin
	var market struct {
		Plugins []struct{ Name, Version, Source string }
	}
	repoJSON(t, "server.json", &registry)
	repoJSON(t, "packaging/mcpb/manifest.json", &bundle)
	repoJSON(t, ".claude-plugin/plugin.json", &claude)
	repoJSON(t, ".claude-plugin/marketplace.json", &market)
	repoJSON(t, "gemini-extension.json", &gemini)
	if len(market.Plugins) != 1 || market.Plugins[0].Name != claude.Name {
		t.Fatalf("the marketplace lists %+v", market.Plugins)
	}
	versions := map[string]string{
		"packaging/mcpb/manifest.json": bundle.Version, ".claude-plugin/plugin.json": claude.Version,
		".claude-plugin/marketplace.json": market.Plugins[0].Version, "gemini-extension.json": gemini.Version,
	}
	if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(registry.Version) {
		t.Errorf("server.json has the version %q", registry.Version)
	}
	for file, v := range versions {
		if v != registry.Version {
			t.Errorf("%s has the version %q, server.json %q", file, v, registry.Version)
		}
	}
	launches := []launch{bundle.Server.MCPConfig}
	for _, p := range []plugin{claude, gemini} {
		one, ok := p.MCPServers["sandbox"]
		if !ok || len(p.MCPServers) != 1 || one.Command != "mcp-sandbox" {
			t.Errorf("%s starts %+v", p.Name, p.MCPServers)
		}
		launches = append(launches, one)
	}
	for _, p := range registry.Packages {
		l := launch{Command: "mcp-sandbox", Env: map[string]string{}}
		for _, a := range p.PackageArguments {
			if a.Name != "" {
				l.Args = append(l.Args, a.Name)
			}
			l.Args = append(l.Args, a.Value)
		}
		for _, e := range p.EnvironmentVariables {
			l.Env[e.Name] = ""
		}
		launches = append(launches, l)
	}
	for _, l := range launches {
		flags := settingsFlags()
		if len(l.Args) == 0 || l.Args[0] != "serve" {
			t.Errorf("%+v does not serve", l)
			continue
		}
		if err := flags.Parse(l.Args[1:]); err != nil || flags.NArg() > 0 {
			t.Errorf("%v is not taken: %v", l.Args, err)
		}
		for name := range l.Env {
			if flag := flagOf(flags, name); flag == nil {
				t.Errorf("there is no setting %s", name)
			}
		}
	}
}

func flagOf(f *pflag.FlagSet, variable string) *pflag.Flag {
	key, ours := strings.CutPrefix(variable, envPrefix)
	if !ours {
		return nil
	}
	return f.Lookup(strings.ReplaceAll(strings.ToLower(key), "_", "-"))
}

type registryServer struct {
	Schema      string `json:"$schema"`
	Name        string
	Title       string
	Description string
	Version     string
	Packages    []struct {
		RegistryType     string
		Identifier       string
		Version          string
		FileSha256       string
		RuntimeHint      string
		Transport        struct{ Type string }
		RuntimeArguments []struct {
			Type, Name, Value string
			Variables         map[string]any
		}
		PackageArguments     []struct{ Type, Name, Value, ValueHint string }
		EnvironmentVariables []struct{ Name, Format string }
	}
}

// TestRegistryManifest holds server.json to the registry's schema of
// 2025-12-11 and the rules its publisher adds.
func TestRegistryManifest(t *testing.T) {
	var s registryServer
	repoJSON(t, "server.json", &s)
	if s.Schema != "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json" {
		t.Errorf("schema %q", s.Schema)
	}
	if !regexp.MustCompile(`^io\.github\.[a-zA-Z0-9-]+/[a-zA-Z0-9._-]+$`).MatchString(s.Name) {
		t.Errorf("name %q", s.Name)
	}
	if n := len(s.Description); n == 0 || n > 100 {
		t.Errorf("the description has %d characters, 1 to 100 are taken", n)
	}
	if len(s.Packages) == 0 {
		t.Error("no packages")
	}
	for _, p := range s.Packages {
		switch p.RegistryType {
		case "oci":
			// The version of an image is its tag, and nowhere else.
			if p.Version != "" || !strings.HasSuffix(p.Identifier, ":"+s.Version) {
				t.Errorf("image %q of version %q", p.Identifier, s.Version)
			}
		case "mcpb":
			if len(p.FileSha256) != 64 || !strings.HasPrefix(p.Identifier, "https://") {
				t.Errorf("bundle %q with sum %q", p.Identifier, p.FileSha256)
			}
		default:
			t.Errorf("registry %q", p.RegistryType)
		}
		if p.Transport.Type != "stdio" || len(p.RuntimeArguments) > 0 && p.RuntimeHint == "" {
			t.Errorf("%+v", p)
		}
		for _, a := range p.RuntimeArguments {
			for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(a.Value, -1) {
				if _, ok := a.Variables[m[1]]; !ok {
					t.Errorf("%s names the variable %s, which it does not have", a.Value, m[1])
				}
			}
		}
		for _, a := range p.PackageArguments {
			if a.Type == "named" && a.Name == "" || a.Type == "positional" && a.Value == "" && a.ValueHint == "" || !slices.Contains([]string{"named", "positional"}, a.Type) {
				t.Errorf("argument %+v", a)
			}
		}
		for _, e := range p.EnvironmentVariables {
			if e.Format != "" && !slices.Contains([]string{"string", "number", "boolean", "filepath"}, e.Format) {
				t.Errorf("variable %+v", e)
			}
		}
	}
}

// TestManifestsFilled: after packaging/fill no placeholder is left in anything
// that is published, and what is no account is refused.
func TestManifestsFilled(t *testing.T) {
	to := filepath.Join(t.TempDir(), "new", "server.json")
	fill := func(owner string) ([]byte, error) {
		return exec.Command("../../packaging/fill", owner, to).CombinedOutput()
	}
	for _, bad := range []string{"", "OWNER", "-a", "a-", "a/b", "a&b", "a b", "a\nb"} {
		if out, err := fill(bad); err == nil || len(out) == 0 {
			t.Errorf("%q was taken: %s", bad, out)
		}
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("a file was written for what was refused")
	}
	if out, err := fill("octo-cat"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	filled, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	var s registryServer
	if err := json.Unmarshal(filled, &s); err != nil {
		t.Fatal(err)
	}
	if s.Name != "io.github.octo-cat/mcp-sandbox" || !strings.HasPrefix(s.Packages[0].Identifier, "ghcr.io/octo-cat/mcp-sandbox:") {
		t.Errorf("filled: %q %+v", s.Name, s.Packages)
	}
	published := map[string][]byte{"server.json, filled": filled}
	for _, name := range []string{
		"packaging/mcpb/manifest.json", ".claude-plugin/plugin.json", ".claude-plugin/marketplace.json", "gemini-extension.json",
		"packaging/nfpm.yaml", "packaging/docker/Dockerfile", "packaging/docker/compose.yaml", "packaging/docker/compose.namespaces.yaml",
		"packaging/systemd/mcp-sandbox.service", "packaging/systemd/mcp-sandbox.socket", "README.md",
	} {
		published[name] = repoFile(t, name)
	}
	for name, text := range published {
		if m := regexp.MustCompile(`\b(OWNER|TODO|FIXME|CHANGEME|YOUR_\w+)\b|example\.(com|org)/`).Find(text); m != nil {
			t.Errorf("%s holds the placeholder %s", name, m)
		}
	}
}

// TestPackagesHoldTheSame: deb and rpm have the same files whether GoReleaser
// or nfpm alone makes them, and every file that is not generated exists.
func TestPackagesHoldTheSame(t *testing.T) {
	section := func(name, from, to string) []string {
		_, rest, ok := strings.Cut(string(repoFile(t, name)), from)
		if to != "" {
			rest, _, _ = strings.Cut(rest, to)
		}
		if !ok {
			t.Fatalf("%s has no %q", name, from)
		}
		var lines []string
		for line := range strings.Lines(rest) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		return lines
	}
	releaser := section(".goreleaser.yaml", "    contents:\n", "\nsboms:")
	// The program itself GoReleaser adds by itself.
	alone := section("packaging/nfpm.yaml", "      mode: 0755\n", "")
	if !slices.Equal(releaser, alone) {
		t.Errorf("the contents differ:\n%q\n%q", releaser, alone)
	}
	for _, line := range releaser {
		src, ok := strings.CutPrefix(line, "- src: ")
		if ok && !strings.HasPrefix(src, "dist-gen/") {
			repoFile(t, src)
		}
	}
}

// snippet is what `mcp-sandbox config` prints for a client.
func snippet(t *testing.T, client string, args ...string) string {
	t.Helper()
	i := slices.IndexFunc(clientFormats(), func(f clientFormat) bool { return f.name == client })
	if i < 0 {
		t.Fatalf("there is no client %q", client)
	}
	var b bytes.Buffer
	clientFormats()[i].write(&b, clientEntry{command: "mcp-sandbox", args: args})
	return b.String()
}

// TestInstallLinks decodes every link that installs the server and compares
// what is in it with what `mcp-sandbox config` prints for that client.
func TestInstallLinks(t *testing.T) {
	found := map[string]bool{}
	for _, file := range []string{"README.md", "docs/clients.md"} {
		for _, link := range regexp.MustCompile(`\((https://[^)\s]*(?:mcp/install|install-mcp)\?[^)\s]*)\)`).FindAllStringSubmatch(string(repoFile(t, file)), -1) {
			u, err := url.Parse(link[1])
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			client, key := "vscode", "servers"
			text := []byte(q.Get("config"))
			switch {
			case u.Host == "insiders.vscode.dev":
			case strings.HasSuffix(u.Host, "cursor.com"):
				client, key = "cursor", "mcpServers"
				if text, err = base64.StdEncoding.DecodeString(q.Get("config")); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			default:
				t.Errorf("%s: a link to %s", file, u.Host)
			}
			var want map[string]map[string]any
			if err := json.Unmarshal([]byte(snippet(t, client, "serve", "--root", "${workspaceFolder}")), &want); err != nil {
				t.Fatal(err)
			}
			var got any
			if err := json.Unmarshal(text, &got); err != nil {
				t.Errorf("%s: %s: %v", file, text, err)
			}
			if name := q.Get("name"); !reflect.DeepEqual(got, want[key][name]) {
				t.Errorf("%s: %s installs %v as %q, config %s prints %v", file, u.Host, got, name, client, want)
			}
			found[client+q.Get("quality")] = true
		}
	}
	for _, client := range []string{"vscode", "vscodeinsiders", "cursor"} {
		if !found[client] {
			t.Errorf("no link installs the server in %s", client)
		}
	}
}

// TestClientsDoc keeps the snippets of docs/clients.md what the program prints,
// and every client in it. MCP_SANDBOX_TEST_UPDATE=1 writes them.
func TestClientsDoc(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "clients.md")
	text := string(repoFile(t, "docs/clients.md"))
	seen := map[string]bool{}
	// A mark, and the fence below it if there is one already.
	mark := regexp.MustCompile("(?m)^<!-- config: ([a-z-]+) -->\n(?:```[a-z]*\n(?s:.*?)\n```\n)?")
	want := mark.ReplaceAllStringFunc(text, func(m string) string {
		client := mark.FindStringSubmatch(m)[1]
		seen[client] = true
		language := map[string]string{"claude-code": "sh", "codex": "toml", "goose": "yaml"}[client]
		if language == "" {
			language = "json"
		}
		return "<!-- config: " + client + " -->\n```" + language + "\n" + snippet(t, client, "serve", "--root", "/home/you/project") + "```\n"
	})
	for _, f := range clientFormats() {
		if !seen[f.name] {
			t.Errorf("docs/clients.md does not have %s", f.name)
		}
	}
	// The same for a server that runs elsewhere, for every client that takes one.
	const begin, end = "<!-- config --http: written by TestClientsDoc -->\n", "<!-- end -->\n"
	head, rest, ok := strings.Cut(want, begin)
	_, tail, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatal("docs/clients.md has no place for the snippets of --http")
	}
	var b strings.Builder
	for _, f := range clientFormats() {
		if !f.remote {
			continue
		}
		language := map[string]string{"claude-code": "sh", "codex": "toml", "goose": "yaml"}[f.name]
		if language == "" {
			language = "json"
		}
		out, err := exec.Command(binary, "config", f.name, "--http", "https://sandbox.example.com/mcp", "--header", "Authorization: Bearer TOKEN").Output()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s, in %s:\n\n```%s\n%s```\n\n", f.name, f.file, language, out)
	}
	checkDoc(t, path, head+begin+b.String()+end+tail)
}
