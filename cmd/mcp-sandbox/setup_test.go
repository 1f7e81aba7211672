package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestEditJSON: the entry is set, replaced and removed, and nothing else of the text
// changes.
func TestEditJSON(t *testing.T) {
	entry := map[string]any{"command": "x", "args": []string{"serve"}}
	for name, tc := range map[string]struct{ text, want string }{
		"empty":   {"", "{\n  \"servers\": {\n    \"sandbox\": {\n      \"args\": [\n        \"serve\"\n      ],\n      \"command\": \"x\"\n    }\n  }\n}\n"},
		"object":  {"{}", "{\n  \"servers\": {\n    \"sandbox\": {\n      \"args\": [\n        \"serve\"\n      ],\n      \"command\": \"x\"\n    }\n  }\n}"},
		"comment": {"{ // of mine\n\t\"a\": 1, /* b */\n\t\"servers\": {\n\t\t\"other\": {\"command\": \"{,}\"}, // last\n\t},\n}\n", "{ // of mine\n\t\"a\": 1, /* b */\n\t\"servers\": {\n\t\t\"sandbox\": {\n\t\t\t\"args\": [\n\t\t\t\t\"serve\"\n\t\t\t],\n\t\t\t\"command\": \"x\"\n\t\t},\n\t\t\"other\": {\"command\": \"{,}\"}, // last\n\t},\n}\n"},
		"inline":  {`{"servers":{"other":{}},"z":[1,{"b":"\"}"}]}`, "{\"servers\":{\n  \"sandbox\": {\n    \"args\": [\n      \"serve\"\n    ],\n    \"command\": \"x\"\n  },\"other\":{}},\"z\":[1,{\"b\":\"\\\"}\"}]}"},
		"replace": {"{\n  \"servers\": {\n    \"sandbox\": {\"old\": [1, 2]}\n  }\n}\n", "{\n  \"servers\": {\n    \"sandbox\": {\n      \"args\": [\n        \"serve\"\n      ],\n      \"command\": \"x\"\n    }\n  }\n}\n"},
		"BOM":     {"\ufeff{\"servers\": {}}", "\ufeff{\"servers\": {\n  \"sandbox\": {\n    \"args\": [\n      \"serve\"\n    ],\n    \"command\": \"x\"\n  }\n}}"},
	} {
		got, err := editJSON([]byte(tc.text), "servers", "sandbox", entry)
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, tc.want)
			continue
		}
		if again, err := editJSON(got, "servers", "sandbox", entry); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s, again: %v\n%s", name, err, again)
		}
		back, err := editJSON(got, "servers", "sandbox", nil)
		if err != nil || bytes.Contains(back, []byte("sandbox")) || (name == "comment" || name == "inline") && string(back) != tc.text {
			t.Errorf("%s, removed: %v\n%s", name, err, back)
		}
	}
	for _, tc := range []struct{ text, want string }{
		{`{"servers": {"a": 1, "sandbox": 2}}`, `{"servers": {"a": 1}}`},
		{"{\"servers\": {\"a\": 1, // one\n \"sandbox\": 2}}", "{\"servers\": {\"a\": 1 // one\n }}"},
		{`{"servers": {"sandbox": 2, "a": 1}}`, `{"servers": { "a": 1}}`},
		{`{"servers": {"sandbox": 2}}`, `{"servers": {}}`},
		{`{"other": 1}`, `{"other": 1}`},
	} {
		if got, err := editJSON([]byte(tc.text), "servers", "sandbox", nil); err != nil || string(got) != tc.want {
			t.Errorf("%s: %v, %s", tc.text, err, got)
		}
	}
	for _, text := range []string{"x", "[]", `{"servers": []}`, `{"servers": 1}`, `{"servers": {}`, `{"a": 1} x`, `{"servers": {}, "servers": {}}`, `{"servers": {"sandbox": 1, "sandbox": 2}}`, `{"a": tru}`, `{"a" 1}`, `{a: 1}`,
		"{\"a\": \"x\n\"}", strings.Repeat(`{"a":`, 100), `{"a": [1 2]}`} {
		if got, err := editJSON([]byte(text), "servers", "sandbox", entry); err == nil {
			t.Errorf("%s became %s", text, got)
		}
	}
}

// FuzzEditJSON: what is edited differs in nothing but the entry, and comes back.
func FuzzEditJSON(f *testing.F) {
	for _, s := range []string{"", "{}", `{"servers":{"a":{}}}`, "{ // c\n\"servers\": {\"sandbox\": 1,},}", `{"x":[{"y":"}"}],"servers":{}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := editJSON([]byte(text), "servers", "sandbox", map[string]any{"a": "b"})
		if err != nil {
			return
		}
		if _, err := editJSON(got, "servers", "sandbox", nil); err != nil {
			t.Fatalf("%q became %q, which cannot be undone: %v", text, got, err)
		}
	})
}

// TestEditText: the same for Codex's TOML and Goose's YAML.
func TestEditText(t *testing.T) {
	const table, extension = "[mcp_servers.sandbox]\ncommand = \"x\"\n", "  sandbox:\n    cmd: x\n"
	for text, want := range map[string]string{
		"":                table,
		"model = \"m\"\n": "model = \"m\"\n\n" + table,
		"[a]\nb = 1\n[mcp_servers.sandbox]\ncommand = \"old\"\n\n[mcp_servers.sandbox.env]\nA = \"1\"\n\n[c]\nd = 2\n": "[a]\nb = 1\n[c]\nd = 2\n\n" + table,
		"[mcp_servers.other]\ncommand = \"y\"\n": "[mcp_servers.other]\ncommand = \"y\"\n\n" + table,
	} {
		if got, err := editTOML(text, table); err != nil || got != want {
			t.Errorf("%q became %q, %v", text, got, err)
		}
		if got, err := editTOML(want, ""); err != nil || strings.Contains(got, "sandbox") {
			t.Errorf("%q, removed: %q, %v", want, got, err)
		}
	}
	for _, text := range []string{"mcp_servers = { sandbox = {} }\n", "[mcp_servers]\nsandbox = { command = \"x\" }\n", "[mcp_servers]\nsandbox.command = \"x\"\n", "a = [\n", "x = \"\"\"\n[mcp_servers.sandbox]\n\"\"\"\n"} {
		if got, err := editTOML(text, table); err == nil {
			t.Errorf("%q became %q", text, got)
		}
	}
	for text, want := range map[string]string{
		"":                             "extensions:\n" + extension,
		"a: 1\nextensions: {}\nb: 2\n": "a: 1\nextensions:\n" + extension + "b: 2\n",
		"extensions:\n    dev:\n        enabled: true\n    sandbox:\n        cmd: old\n    z:\n        a: 1\nb: 2\n": "extensions:\n    sandbox:\n      cmd: x\n    dev:\n        enabled: true\n    z:\n        a: 1\nb: 2\n",
	} {
		if got, err := editYAML(text, extension); err != nil || got != want {
			t.Errorf("%q became %q, %v", text, got, err)
		}
		if got, err := editYAML(want, ""); err != nil || strings.Contains(got, "sandbox") {
			t.Errorf("%q, removed: %q, %v", want, got, err)
		}
	}
	if got, err := editYAML("extensions: {a: {}}\n", extension); err == nil {
		t.Errorf("became %q", got)
	}
}

// setupRun runs setup with a home of its own.
func setupRun(t *testing.T, home, answer string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"setup"}, args...)...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "XDG_") || strings.HasPrefix(kv, "CODEX_HOME=") }), "HOME="+home)
	cmd.Stdin = strings.NewReader(answer)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestEditTextKeeps: what is the user's stays, also right below the entry.
func TestEditTextKeeps(t *testing.T) {
	const table = "[mcp_servers.sandbox]\ncommand = \"x\"\n"
	const toml = table + "\n# the model of the team\n[profiles]\na = 1\n"
	for _, entry := range []string{"", table} {
		if got, err := editTOML(toml, entry); err != nil || !strings.Contains(got, "# the model of the team\n[profiles]\na = 1\n") {
			t.Errorf("%q: %v\n%s", entry, err, got)
		}
	}
	const below = "other:\n  sandbox:\n    mine: true\n"
	const yaml = "extensions: # of goose\n  sandbox:\n    cmd: x\n" + below
	if got, err := editYAML(yaml, ""); err != nil || got != "extensions: {} # of goose\n"+below {
		t.Errorf("%v\n%s", err, got)
	}
	if got, err := editYAML("extensions: {} # none\n"+below, "  sandbox:\n    cmd: x\n"); err != nil || got != "extensions: # none\n  sandbox:\n    cmd: x\n"+below {
		t.Errorf("%v\n%s", err, got)
	}
	for _, text := range []string{"extensions:\n", "extensions:", "extensions: # none\n" + below, "extensions:\n  a:\n    b: 1", below} {
		if got, err := editYAML(text, ""); err != nil || got != text {
			t.Errorf("nothing to remove in %q, which became %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "a = 1", "[mcp_servers]\n\n", "[mcp_servers.a]\nb = 1\n\n\n# c"} {
		if got, err := editTOML(text, ""); err != nil || got != text {
			t.Errorf("nothing to remove in %q, which became %q, %v", text, got, err)
		}
	}
	if got, err := editYAML("extensions:\n- a\n", "  sandbox:\n    cmd: x\n"); err == nil {
		t.Errorf("a list became\n%s", got)
	}
}

// TestSetup: for each client the settings are written and taken out again, other
// settings stay, and what was written starts a server.
func TestSetup(t *testing.T) {
	root := t.TempDir()
	openPath(t, root)
	for _, f := range clientFormats() {
		t.Run(f.name, func(t *testing.T) {
			home := t.TempDir()
			file := f.place(home, settingsDir(home))
			if rel, err := filepath.Rel(home, file); err != nil || strings.HasPrefix(rel, "..") {
				t.Skip("the settings lie elsewhere on this machine")
			}
			was := map[string]string{"codex": "model = \"m\"\n", "goose": "GOOSE_MODEL: m\nextensions:\n  developer:\n    enabled: true\n"}[f.name]
			if was == "" {
				was = "{\n  \"theme\": \"dark\"\n}\n"
			}
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			put(t, file, was)
			if out, err := setupRun(t, home, "", f.name, "--root", root); err == nil || !strings.Contains(out, "use --yes") {
				t.Fatalf("without anybody to ask: %v, %s", err, out)
			}
			if text, _ := os.ReadFile(file); string(text) != was {
				t.Fatalf("it was written without asking: %s", text)
			}
			out, err := setupRun(t, home, "", f.name, "--root", root, "--yes")
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			text, err := os.ReadFile(file)
			if err != nil || !bytes.Contains(text, []byte(root)) || !bytes.Contains(text, []byte("serve")) {
				t.Fatalf("%v: %s", err, text)
			}
			backups, _ := filepath.Glob(file + ".before-mcp-sandbox-*")
			if len(backups) != 1 {
				t.Fatalf("%q", backups)
			}
			if text, _ := os.ReadFile(backups[0]); string(text) != was {
				t.Errorf("the copy is %s", text)
			}
			if out, err := setupRun(t, home, "", f.name, "--root", root); err != nil || !strings.Contains(out, "nothing to change") {
				t.Errorf("again: %v, %s", err, out)
			}
			if f.remote {
				if out, err := setupRun(t, home, "", f.name, "--http", "http://127.0.0.1:8765/mcp", "--header", "Authorization: Bearer abc", "--yes"); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				if text, _ := os.ReadFile(file); !bytes.Contains(text, []byte("127.0.0.1:8765/mcp")) || !bytes.Contains(text, []byte("Bearer abc")) || bytes.Contains(text, []byte(root)) {
					t.Errorf("%s", text)
				}
			} else if out, err := setupRun(t, home, "", f.name, "--http", "http://127.0.0.1:8765/mcp", "--yes"); err == nil {
				t.Errorf("an address: %s", out)
			}
			if out, err := setupRun(t, home, "", f.name, "--remove", "--yes"); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if text, _ := os.ReadFile(file); bytes.Contains(text, []byte("sandbox")) || !bytes.Contains(text, []byte(strings.Fields(was)[1])) {
				t.Errorf("removed: %s", text)
			}
		})
	}
	for _, tc := range [][]string{{"cursor", "--root", "/"}, {"cursor", "--root", root + "/missing"}, {"nobody"}, {}, {"cursor", "--http", "x"}, {"cursor", "--header", "A: b"}, {"lmstudio", "--root", root, "--rules"}, {"cursor", "--rules"}} {
		if out, err := setupRun(t, t.TempDir(), "", append(tc, "--yes")...); err == nil || exitCode(err) != 2 && !strings.Contains(out, "not_found") {
			t.Errorf("%q: %v, %s", tc, err, out)
		}
	}
}

func exitCode(err error) int {
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return 0
}

// TestSetupStarts: the entry that setup writes starts the server that it names.
func TestSetupStarts(t *testing.T) {
	home, root := t.TempDir(), t.TempDir()
	openPath(t, root)
	if out, err := setupRun(t, home, "", "cursor", "--root", root, "--yes"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(home, ".cursor/mcp.json"))
	if err != nil {
		t.Fatal(err)
	}
	var settings struct {
		MCPServers map[string]struct {
			Command string
			Args    []string
		}
	}
	if err := json.Unmarshal(text, &settings); err != nil {
		t.Fatal(err)
	}
	s := settings.MCPServers["sandbox"]
	cmd := exec.Command(s.Command, s.Args...)
	cmd.Stdin = strings.NewReader(hello("2025-06-18") + "\n")
	out, err := cmd.Output()
	if line, _ := bufio.NewReader(bytes.NewReader(out)).ReadString('\n'); err != nil || !strings.Contains(line, `"serverInfo"`) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestSetupRules: rules for the agent stand in their file after what was there, once,
// and go again.
func TestSetupRules(t *testing.T) {
	for client, file := range map[string]string{"claude-code": "CLAUDE.md", "codex": "AGENTS.md", "gemini": "GEMINI.md", "cursor": ".cursor/rules/mcp-sandbox.mdc", "cline": ".clinerules/mcp-sandbox.md"} {
		home, root := t.TempDir(), t.TempDir()
		name := filepath.Join(root, file)
		was := ""
		if strings.HasSuffix(file, "S.md") || strings.HasSuffix(file, "E.md") {
			was = "# Mine\n\nRules.\n"
			put(t, name, was)
		}
		for range 2 {
			if out, err := setupRun(t, home, "", client, "--root", root, "--rules", "--yes"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		text, _ := os.ReadFile(name)
		if !strings.HasPrefix(string(text), was) || strings.Count(string(text), "exec_command") != 1 {
			t.Errorf("%s: %s", client, text)
		}
		if out, err := setupRun(t, home, "", client, "--root", root, "--remove", "--yes"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if text, _ := os.ReadFile(name); string(text) != was {
			t.Errorf("%s, removed: %s", client, text)
		}
	}
}

// TestSetupFlags: flags of serve after -- stand in the entry, and what serve would
// refuse is refused.
func TestSetupFlags(t *testing.T) {
	home, root := t.TempDir(), t.TempDir()
	out, err := setupRun(t, home, "", "cursor", "--root", root, "--print", "--", "--deny-secrets", "--network", "none")
	if err != nil || !regexp.MustCompile(`(?s)"--root",\s+"`+root+`",\s+"--deny-secrets",\s+"--network",\s+"none"`).MatchString(out) {
		t.Errorf("%v: %s", err, out)
	}
	for _, tc := range []struct{ flags, want string }{
		{"--rot x", "unknown flag: --rot"},
		{"--root /tmp", "name the workspace with --root before --"},
		{"--transport http", "--http"},
		{"x", `"x" is not one`},
		{"--read data", "is relative"},
		{"--read /nope", "does not exist"},
		{"--allow-host x", "--network allow"},
		{"--listen 127.0.0.1:0", "without --transport http"},
		{"--staged --read-only", "leave one of the two out"},
	} {
		out, err := setupRun(t, home, "", append([]string{"cursor", "--root", root, "--yes", "--"}, strings.Fields(tc.flags)...)...)
		if err == nil || !strings.Contains(out, tc.want) || strings.Contains(out, "written") {
			t.Errorf("%s: %v: %s", tc.flags, err, out)
		}
	}
}

// TestSetupDocker: the entry starts the image as the user who owns the project, who
// is not root.
func TestSetupDocker(t *testing.T) {
	home, root := t.TempDir(), t.TempDir()
	out, err := setupRun(t, home, "", "claude-code", "--root", root, "--docker", "mcp-sandbox", "--print", "--", "--network", "none")
	if os.Getuid() == 0 {
		if err == nil || !strings.Contains(out, "run setup as that user") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	want := fmt.Sprintf("docker run --rm -i --user %d:%d --cap-drop ALL --security-opt no-new-privileges -v %s:/work mcp-sandbox serve --root /work --network none\n", os.Getuid(), os.Getgid(), root)
	if err != nil || !strings.HasSuffix(out, want) {
		t.Errorf("%v: %s, want %s", err, out, want)
	}
	if out, err := setupRun(t, home, "", "cursor", "--docker", "mcp-sandbox", "--print"); err == nil || !strings.Contains(out, "name it with --root") {
		t.Errorf("without a directory: %v: %s", err, out)
	}
}

// TestSetupRemoves: what setup made goes, with the directories that it made, and what
// is the user's stays, with a copy of what was changed.
func TestSetupRemoves(t *testing.T) {
	const mdc, claude, cursor, goose, codex = "project/.cursor/rules/mcp-sandbox.mdc", "project/CLAUDE.md", ".cursor/mcp.json", ".config/goose/config.yaml", ".codex/config.toml"
	for name, tc := range map[string]struct {
		client, file string
		was          string // of the file, "" for none
		empty        bool   // it was there and empty
		link         bool   // the file is a link
		after        string // what the user adds
		want         string // "" when the file goes
		keeps        bool   // the emptied file stays
	}{
		"rules of setup alone":        {client: "cursor", file: mdc},
		"rules, text after them":      {client: "cursor", file: mdc, after: "\nMine.\n", want: rulesFront + "\nMine.\n"},
		"rules in a file with a head": {client: "cursor", file: mdc, was: "---\nalwaysApply: false\n---\nMine.\n", want: "---\nalwaysApply: false\n---\nMine.\n"},
		"rules, a plain file alone":   {client: "claude-code", file: claude},
		"rules, a file with text":     {client: "claude-code", file: claude, was: "Mine.\n", want: "Mine.\n"},
		"rules, text after, no head":  {client: "claude-code", file: claude, after: "\nMine.\n", want: "\nMine.\n"},
		"rules in an empty file":      {client: "claude-code", file: claude, empty: true, keeps: true},
		"settings of setup alone":     {client: "cursor", file: cursor},
		"settings that were {}":       {client: "cursor", file: cursor, was: "{}\n", want: "{\n  \"mcpServers\": {\n  }\n}\n"},
		"settings by a link":          {client: "cursor", file: cursor, was: "{}\n", link: true, want: "{\n  \"mcpServers\": {\n  }\n}\n"},
		"settings of a link to none":  {client: "cursor", file: cursor, empty: true, link: true, want: "{\n  \"mcpServers\": {\n  }\n}\n"},
		"settings with CRLF":          {client: "cursor", file: cursor, was: "{\r\n    \"mcpServers\": {\r\n        \"a\": {}\r\n    }\r\n}\r\n", want: "{\r\n    \"mcpServers\": {\r\n        \"a\": {}\r\n    }\r\n}\r\n"},
		"settings with a BOM":         {client: "cursor", file: cursor, was: "\ufeff{\"mcpServers\": {\"a\": {}}}\n", want: "\ufeff{\"mcpServers\": {\"a\": {}}}\n"},
		"an entry of before, inline":  {client: "cursor", file: cursor, was: `{"mcpServers":{"sandbox":{"command":"x"},"a":{}}}`, want: `{"mcpServers":{"a":{}}}`},
		"extensions with CRLF":        {client: "goose", file: goose, was: "a: 1\r\nextensions:\r\n    b:\r\n        c: 1\r\n", want: "a: 1\r\nextensions:\r\n    b:\r\n        c: 1\r\n"},
		"TOML with a BOM":             {client: "codex", file: codex, was: "\ufeffmodel = \"m\"\n", want: "\ufeffmodel = \"m\"\n"},
		"TOML with CRLF":              {client: "codex", file: codex, was: "model = \"m\"\r\n", want: "model = \"m\"\r\n"},
		"extensions without any":      {client: "goose", file: goose, was: "extensions:\n", want: "extensions: {}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			file, real := filepath.Join(home, tc.file), filepath.Join(home, tc.file)
			if f := clientFormats()[slices.IndexFunc(clientFormats(), func(f clientFormat) bool { return f.name == tc.client })]; !strings.HasPrefix(tc.file, "project/") && f.place(home, settingsDir(home)) != file {
				t.Skip("the settings lie elsewhere on this system")
			}
			if err := os.MkdirAll(filepath.Join(home, "project"), 0o755); err != nil {
				t.Fatal(err)
			}
			if tc.was != "" || tc.empty {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if tc.link {
					real = filepath.Join(home, "dotfile")
					if err := os.Symlink(real, file); err != nil {
						t.Fatal(err)
					}
				}
				put(t, real, tc.was)
			}
			run := func(more ...string) {
				cmd := exec.Command(binary, append([]string{"setup", tc.client, "--root", "project", "--yes"}, more...)...)
				cmd.Dir, cmd.Env = home, append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "XDG_") || strings.HasPrefix(kv, "CODEX_HOME=") }), "HOME="+home)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			run("--rules")
			set, err := os.ReadFile(real)
			if err != nil || !bytes.Contains(set, []byte("sandbox")) {
				t.Fatalf("%v: %s", err, set)
			}
			if ends := strings.Count(string(set), "\n"); strings.Contains(tc.was, "\r\n") && strings.Count(string(set), "\r\n") != ends {
				t.Errorf("line ends of two kinds: %q", set)
			}
			set = append(set, tc.after...)
			put(t, real, string(set))
			run("--remove")
			got, err := os.ReadFile(real)
			if goes := tc.want == "" && !tc.keeps; string(got) != tc.want || goes != os.IsNotExist(err) {
				t.Fatalf("%v, %q instead of %q", err, got, tc.want)
			} else if goes {
				if entries, _ := os.ReadDir(filepath.Join(home, "project")); len(entries) > 0 {
					t.Errorf("left in the project: %v", entries)
				}
				return
			}
			copies, _ := filepath.Glob(real + backupMark + "*")
			if !slices.ContainsFunc(copies, func(name string) bool { b, _ := os.ReadFile(name); return bytes.Equal(b, set) }) {
				t.Errorf("no copy of what was changed: %q", copies)
			}
			if tc.link {
				if to, err := os.Readlink(file); err != nil || to != real {
					t.Errorf("the link: %q, %v", to, err)
				}
			}
		})
	}
}

// TestSetupLeaves: settings that cannot be written as they are stay, and are told.
func TestSetupLeaves(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(file string) error
		want string
	}{
		"a link to none": {func(file string) error { return os.Symlink("none", file) }, "is a link to a file that is not there; make"},
		"a FIFO":         {func(file string) error { return syscall.Mkfifo(file, 0o600) }, "cannot be read; check"},
		"a directory":    {func(file string) error { return os.Mkdir(file, 0o700) }, "cannot be read; check"},
		"read-only":      {func(file string) error { return os.WriteFile(file, []byte("{}"), 0o400) }, "is read-only, so it was left as it is; make"},
		"an array":       {func(file string) error { return os.WriteFile(file, []byte("[]"), 0o600) }, "it is not a JSON object; add"},
		"a null":         {func(file string) error { return os.WriteFile(file, []byte(`{"mcpServers": null}`), 0o600) }, "in it is not an object; add"},
	} {
		if name == "read-only" && os.Geteuid() == 0 {
			continue // nothing is, to root
		}
		home := t.TempDir()
		if err := errors.Join(os.Mkdir(filepath.Join(home, ".cursor"), 0o700), tc.make(filepath.Join(home, ".cursor", "mcp.json"))); err != nil {
			t.Fatal(err)
		}
		before := modesBelow(t, home)
		out, err := setupRun(t, home, "", "cursor", "--yes")
		if err == nil || !strings.Contains(out, tc.want) {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if after := modesBelow(t, home); !slices.Equal(before, after) {
			t.Errorf("%s: there was %v, and is %v", name, before, after)
		}
	}
}

func modesBelow(t *testing.T, dir string) (out []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		out = append(out, path+" "+d.Type().String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}
