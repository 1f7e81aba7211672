package library_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mcp-sandbox/library"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/serve"
	"mcp-sandbox/session"
	"mcp-sandbox/tools"
)

// open is a server with its own state and temporary directory.
func open(t *testing.T, o library.Options) *library.Server {
	t.Helper()
	temp := t.TempDir()
	for d := temp; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o.Session.StateDir, o.Session.TempDir = filepath.Join(t.TempDir(), "state"), temp
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		o.Session.Level, o.Session.AllowRoot = sandbox.LevelLandlock, os.Geteuid() == 0
	}
	s, err := library.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(temp); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	return s
}

func TestServeStdio(t *testing.T) {
	s := open(t, library.Options{})
	in, client := io.Pipe()
	answers, out := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- s.ServeStdio(t.Context(), in, out)
		out.Close()
	}()
	lines := bufio.NewScanner(answers)
	lines.Buffer(nil, 1<<20)
	ask := func(id, method, params string) string {
		t.Helper()
		if _, err := io.WriteString(client, `{"jsonrpc":"2.0","id":`+id+`,"method":"`+method+`","params":`+params+"}\n"); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
		return lines.Text()
	}
	ask("1", "initialize", `{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}`)
	if got := ask("2", "tools/call", `{"name":"exec_command","arguments":{"cmd":"echo in the sandbox"}}`); !strings.Contains(got, "in the sandbox") {
		t.Error(got)
	}
	client.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestHandler(t *testing.T) {
	s := open(t, library.Options{Tools: tools.Options{Remote: true, DefaultSandbox: true}})
	h, err := s.Handler(serve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(h)
	defer web.Close()
	req, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": map[string]any{
		"protocolVersion": "2025-06-18", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "test", "version": "1"}}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := web.Client().Post(web.URL+"/mcp", "application/json", bytes.NewReader(req))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Mcp-Session-Id") == "" {
		t.Error(resp.Status)
	}
}

// TestKeys: one key has one workspace, another has another, and a deleted one is new.
func TestKeys(t *testing.T) {
	s := open(t, library.Options{})
	get := func(key string) *session.Session {
		t.Helper()
		one, err := s.Session(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return one
	}
	a, b := get("a"), get("b")
	if a.Root() == b.Root() || get("a") != a {
		t.Error("keys and sessions do not go together")
	}
	if err := s.Manager().Delete(session.Key("", "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(a.Root()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	for _, o := range []library.Options{
		{Session: session.Config{Root: "/"}},
		{Session: session.Config{Network: "none", Home: "elsewhere"}},
		{Network: &library.Rules{Allow: []string{"not a host"}}},
		{Tools: tools.Options{Structured: "perhaps"}},
	} {
		o.Session.StateDir = t.TempDir()
		if s, err := library.New(context.Background(), o); sandbox.CodeOf(err) != "invalid_argument" || s != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestFromOutside builds a program of another module, with replace, and runs it.
func TestFromOutside(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LONG") == "" {
		t.Skip("it builds the whole once more; make test-long does")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	dir := t.TempDir()
	// Replacements are those of the module that is built.
	mod := strings.NewReplacer("module mcp-sandbox", "module outside", "=> ./", "=> "+root+"/").Replace(read("go.mod")) +
		"\nrequire mcp-sandbox v0.0.0\nreplace mcp-sandbox => " + root + "\n"
	for name, text := range map[string]string{"go.mod": mod, "go.sum": read("go.sum"), "main.go": read("examples/library/main.go")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-race=false", "-buildvcs=false", "-mod=mod", "-o", "outside", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOFLAGS=", "GOPROXY=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		return // its network needs namespaces
	}
	run := exec.Command(filepath.Join(dir, "outside"))
	run.Env = append(os.Environ(), "XDG_STATE_HOME="+t.TempDir())
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No such file") {
		t.Errorf("%v\n%s", err, out)
	}
}
