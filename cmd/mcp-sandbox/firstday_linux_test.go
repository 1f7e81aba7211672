package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFirstDay is the day of somebody who has a clone, a project and nothing else:
// install, three clients, a command, a session over stdio and one over HTTP, a mistake
// undone, a change reviewed, and everything removed again. Nothing is left in the home.
func TestFirstDay(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("a staged workspace needs namespaces")
	}
	needPrograms(t, "bash", "make", "curl", "openssl", "python3")
	w := newDocWorld(t, nil)
	bin := filepath.Join(w.home, ".local", "bin", "mcp-sandbox")
	if err := os.RemoveAll(filepath.Join(w.home, ".local")); err != nil {
		t.Fatal(err)
	}
	before := treeOf(t, w.home)

	// The compiler of the tests has built the program already.
	compiler := filepath.Join(w.dir, "go")
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1 $2\" = 'build -trimpath' ] || exit 1\nwhile [ \"$1\" != -o ]; do shift; done\n[ \"$3\" = ./cmd/mcp-sandbox ] && cp %q \"$2\"\n", binary)
	if err := os.WriteFile(compiler, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	install := exec.Command("make", "-s", "-C", "../..", "install", "GO="+compiler)
	install.Env = w.env
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatal(err)
	}

	day := func(lines ...string) {
		t.Helper()
		var commands []docCommand
		for i, line := range lines {
			commands = append(commands, docCommand{page: "the first day", line: i + 1, text: line})
		}
		typeDocs(t, w, "", commands)
	}
	day(
		"mcp-sandbox setup cursor --root ~/project -- --deny-secrets",
		"mcp-sandbox setup claude-code --root ~/project --rules",
		"mcp-sandbox setup codex --root ~/project",
		"grep -q deny-secrets ~/.cursor/mcp.json && grep -q project ~/.claude.json && grep -q project ~/.codex/config.toml && grep -q exec_command ~/project/CLAUDE.md",
		`test "$(mcp-sandbox exec --root ~/project -- 'echo hi > f; cat f')" = hi`,
	)
	playDocs(t, w, []docCommand{
		{page: "the first day", text: "mcp-sandbox serve --root ~/project --deny-secrets"},
		{page: "the first day", text: `exec_command {"cmd": "cat f"}`, shown: []string{"Process exited with code 0", "Wall time: ... seconds", "Output:", "hi"}},
		{page: "the first day", text: `read_file {"path": ".env"}`, shown: []string{"...", "...denied...", "..."}},
	})
	day(
		`(umask 077; echo "alice:$(openssl rand -hex 32)" > tokens)`,
		"mcp-sandbox serve --transport http --listen 127.0.0.1:8765 --token-file tokens",
		`curl -fsS -H "Authorization: Bearer $(sed s/^alice:// tokens)" -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' `+
			`-d '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"day","version":"1"}}}' http://127.0.0.1:8765/mcp | grep -q serverInfo`,
		`test "$(curl -s -o /dev/null -w '%{http_code}' -d '{}' http://127.0.0.1:8765/mcp)" = 401`,
	)
	day(
		"mcp-sandbox exec --root ~/project -- 'rm -rf *'",
		"test ! -e ~/project/README.md",
		"mcp-sandbox snapshots restore --root ~/project latest",
		"test -e ~/project/README.md",
		"mcp-sandbox exec --root ~/project --staged -- 'echo staged > f'",
		"grep -q hi ~/project/f",
		"mcp-sandbox review --root ~/project --apply f",
		"grep -q staged ~/project/f",
		"mcp-sandbox setup cursor --remove",
		"mcp-sandbox setup claude-code --remove --root ~/project",
		"mcp-sandbox setup codex --remove",
		"mcp-sandbox clean --all",
		"rm ~/.local/bin/mcp-sandbox ~/project/f ~/tokens ~/server.log",
	)
	// What make install and the state directory of a first program make of a home.
	for _, empty := range []string{".local/bin", ".local/state", ".local"} {
		_ = os.Remove(filepath.Join(w.home, empty))
	}
	if after := treeOf(t, w.home); !slices.Equal(before, after) {
		t.Errorf("the home held\n%s\nand holds\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if left, _ := os.ReadDir(filepath.Join(w.dir, "tmp")); len(left) > 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}

// treeOf lists what is below dir.
func treeOf(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		out = append(out, strings.TrimPrefix(path, dir))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}
