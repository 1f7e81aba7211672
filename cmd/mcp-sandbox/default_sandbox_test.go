package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// names of a principal's sandboxes, and addresses that are none.
var (
	goodNames = []string{"a", "A", "0", "web-1", "x.y_z", strings.Repeat("n", 64)}
	badNames  = []string{"", ".", "..", "%2e%2e", "-a", "_a", ".a", "a/b", "a%2Fb", "a%20b", "a%00b", "a:b", "%C3%A4", strings.Repeat("n", 65)}
)

// TestDefaultSandbox: a principal's calls that name no sandbox share one, in
// every protocol version, a name in the address leads to another, and neither
// leads to another principal's.
func TestDefaultSandbox(t *testing.T) {
	n := startNetwork(t, nil, "--default-sandbox", "on")
	modern, legacy, second := n.client(annsToken), n.session(annsToken), n.session(annsToken)
	modern.sh("echo one > f")
	at := func(token, path string, withSession bool) *remote {
		if withSession {
			return n.sessionAt(token, path)
		}
		c := n.client(token)
		c.path = path
		return c
	}
	for who, c := range map[string]*remote{"a session": legacy, "a second one": second, "the default by name": at(annsToken, "/mcp/default", false)} {
		if got := c.sh("cat f"); got != "one\n" {
			t.Errorf("%s: %q", who, got)
		}
	}
	running := legacy.exec(map[string]any{"cmd": "sleep 1000", "yield_time_ms": 250})
	if running.SessionID == nil {
		t.Fatalf("%+v", running)
	}
	if list := modern.call("list_processes", nil).text(); !strings.Contains(list, "sleep 1000") {
		t.Errorf("the other's process: %q", list)
	}
	if text := modern.call("session_info", nil).text(); !strings.HasPrefix(text, "sandbox: default\n") {
		t.Errorf("session_info: %q", text)
	}

	// Others.
	for _, c := range []*remote{at(annsToken, "/mcp/other", false), at(annsToken, "/mcp/Default", true), n.client(bobsToken), at(bobsToken, "/mcp/default", true), n.session(bobsToken)} {
		if got := c.sh("ls"); got != "" {
			t.Errorf("%s of %s: %q", c.path, c.token, got)
		}
		c.bad("process_not_found", "kill_process", map[string]any{"session_id": *running.SessionID})
	}
	at(annsToken, "/mcp/other", false).sh("echo two > f")
	if got := at(annsToken, "/mcp/other", true).sh("cat f"); got != "two\n" {
		t.Errorf("a name over two protocols: %q", got)
	}
	var o struct {
		ID string `json:"sandbox_id"`
	}
	if err := json.Unmarshal(modern.call("session_open", nil).Structured, &o); err != nil || o.ID == "" {
		t.Fatal(err)
	}
	for _, c := range []*remote{modern, legacy} {
		if got := c.exec(map[string]any{"sandbox_id": o.ID, "cmd": "cat f; echo three > f"}).Output; strings.Contains(got, "one") {
			t.Errorf("a sandbox of its own: %q", got)
		}
	}
	modern.bad("session_not_found", "exec_command", map[string]any{"sandbox_id": "default", "cmd": "ls"})
	modern.bad("invalid_argument", "exec_command", map[string]any{"sandboxId": o.ID, "cmd": "ls"})

	// The end of an MCP session is not the end of the principal's sandbox.
	second.end()
	if resp, body := second.send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); resp.StatusCode != 404 {
		t.Errorf("after its end: %s %s", resp.Status, body)
	}
	if got := legacy.sh("cat f"); got != "one\n" {
		t.Errorf("after the other's end: %q", got)
	}

	// session_close is, and the next call has a new one.
	if res := legacy.call("session_close", nil); res.IsError {
		t.Error(res.text())
	}
	if got := modern.sh("ls"); got != "" {
		t.Errorf("after session_close: %q", got)
	}
	modern.bad("process_not_found", "write_stdin", map[string]any{"session_id": *running.SessionID})
	if got := at(annsToken, "/mcp/other", false).sh("cat f"); got != "two\n" {
		t.Errorf("another after session_close: %q", got)
	}
	if res := modern.call("session_close", map[string]any{"sandbox_id": o.ID}); res.IsError {
		t.Error(res.text())
	}
}

// TestSandboxNames: what may stand behind /mcp/, and that it makes nothing else.
func TestSandboxNames(t *testing.T) {
	n := startNetwork(t, nil, "--default-sandbox", "on", "--max-sessions-per-principal", "2")
	for _, name := range goodNames {
		c := n.client(annsToken)
		c.path = "/mcp/" + name
		// More than the quota at once: a quiet one of the same principal makes room
		// and comes back.
		c.sh("echo " + name + " > f")
	}
	for _, name := range goodNames {
		c := n.client(annsToken)
		c.path = "/mcp/" + name
		if got := c.sh("cat f"); got != name+"\n" {
			t.Errorf("%s: %q", name, got)
		}
		if res := c.call("session_close", nil); res.IsError {
			t.Error(res.text())
		}
	}
	for _, name := range badNames {
		c := n.client(annsToken)
		c.path = "/mcp/" + name
		_, body, headers := c.message("session_info", nil)
		if resp, text := c.send(http.MethodPost, body, headers...); resp.StatusCode != 404 {
			t.Errorf("%q: %s %s", name, resp.Status, text)
		}
	}
	n.stop()
	n.assertEmpty()
}

// TestKeptSandboxesAreBounded: in every protocol and by every way to a new one.
func TestKeptSandboxesAreBounded(t *testing.T) {
	n := startNetwork(t, nil, "--default-sandbox", "on", "--max-kept-per-principal", "2")
	at := func(path string) *remote {
		c := n.client(annsToken)
		c.path = path
		return c
	}
	at("/mcp").sh("echo one > f")
	at("/mcp/two").sh("echo two > f")
	for _, call := range []func() toolResult{
		func() toolResult { return at("/mcp/three").call("exec_command", map[string]any{"cmd": "true"}) },
		func() toolResult { return n.sessionAt(annsToken, "/mcp/four").call("ls", nil) },
		func() toolResult { return at("/mcp").call("session_open", nil) },
	} {
		if res := call(); !res.IsError || !strings.HasPrefix(res.text(), "limit_reached: you keep 2 sandboxes") || !strings.Contains(res.text(), "session_close") {
			t.Errorf("%q", res.text())
		}
	}
	if got := at("/mcp/two").sh("cat f"); got != "two\n" {
		t.Errorf("its own: %q", got)
	}
	if res := at("/mcp/two").call("session_close", nil); res.IsError {
		t.Error(res.text())
	}
	at("/mcp/three").sh("true")
	for _, path := range []string{"/mcp", "/mcp/three"} {
		if res := at(path).call("session_close", nil); res.IsError {
			t.Error(res.text())
		}
	}
	n.stop()
	n.assertEmpty()
}

// TestDefaultSandboxComesBack: after a restart the same address leads to the same
// files, a deleted MCP session stays unknown, and names are not guessed from ids.
func TestDefaultSandboxComesBack(t *testing.T) {
	n := startNetwork(t, nil, "--default-sandbox", "on")
	kept, gone := n.session(annsToken), n.sessionAt(annsToken, "/mcp/web")
	kept.sh("echo one > f")
	gone.sh("echo two > f")
	gone.end()
	n.stop()
	n = startNetwork(t, n, "--default-sandbox", "on")
	kept.n, gone.n = n, n
	if got := kept.sh("cat f"); got != "one\n" {
		t.Errorf("the same session: %q", got)
	}
	if resp, body := gone.send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); resp.StatusCode != 404 {
		t.Errorf("a deleted session: %s %s", resp.Status, body)
	}
	web := n.client(annsToken)
	web.path = "/mcp/web"
	if got := web.sh("cat f"); got != "two\n" {
		t.Errorf("its sandbox: %q", got)
	}
	for _, c := range []*remote{kept, web} {
		if res := c.call("session_close", nil); res.IsError {
			t.Error(res.text())
		}
	}
	n.stop()
	n.assertEmpty()
}

// TestDefaultSandboxParallel: calls of a principal's clients run side by side in
// one sandbox, also those that come first at the same moment, and a cancel or an
// end reaches its own client's call alone.
func TestDefaultSandboxParallel(t *testing.T) {
	n := startNetwork(t, nil, "--default-sandbox", "on")
	const many = 8
	roots := make(chan string, many)
	for i := range many {
		c := n.client(annsToken)
		if i%2 == 0 {
			c = n.session(annsToken)
		}
		go func() { roots <- c.exec(map[string]any{"cmd": "pwd"}).Output }()
	}
	first := <-roots
	for range many - 1 {
		if got := <-roots; got != first {
			t.Errorf("two sandboxes: %q and %q", first, got)
		}
	}
	a, b := n.session(annsToken), n.session(annsToken)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answered := make(chan string, 1)
	_, body, _ := a.message("exec_command", map[string]any{"cmd": "touch began; while [ ! -e go ]; do sleep 0.05; done; echo went", "yield_time_ms": 30000})
	go func() {
		resp, err := http.DefaultClient.Do(a.request(ctx, http.MethodPost, body))
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		var m message
		_ = json.NewDecoder(resp.Body).Decode(&m)
		answered <- string(m.Result)
	}()
	waitFor(t, "the command to begin", func() bool { return strings.Contains(b.call("ls", nil).text(), "began") })
	b.send(http.MethodPost, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	b.end()
	n.client(annsToken).sh("touch go")
	if got := <-answered; !strings.Contains(got, "went") {
		t.Errorf("the other's call: %s", got)
	}
}

// TestDefaultSandboxOff is the strict rule: a call that names nothing is refused
// where there is no session, and a name in the address still names one.
func TestDefaultSandboxOff(t *testing.T) {
	n := startNetwork(t, nil, "--default-sandbox", "off")
	c := n.client(annsToken)
	c.bad("invalid_argument", "exec_command", map[string]any{"cmd": "ls"})
	c.bad("invalid_argument", "session_close", nil)
	a, b := n.session(annsToken), n.session(annsToken)
	a.sh("echo a > f")
	if got := b.sh("ls"); got != "" {
		t.Errorf("another session: %q", got)
	}
	c.path = "/mcp/web"
	c.sh("echo web > f")
	if got := n.sessionAt(annsToken, "/mcp/web").sh("cat f"); got != "web\n" {
		t.Errorf("a name: %q", got)
	}
}

// TestDefaultSandboxOverSSE: the oldest transport has the principal's sandbox
// too, and names behind /sse/, and a stream's end leaves it.
func TestDefaultSandboxOverSSE(t *testing.T) {
	n := startNetwork(t, nil, "--transport", "sse", "--default-sandbox", "on")
	for _, tc := range []struct{ path, cmd, want string }{
		{"/sse", "echo one > f", ""},
		{"/sse", "cat f", "one"},
		{"/sse/default", "cat f", "one"},
		{"/sse/web", "ls; echo two > f", ""},
		{"/sse/web", "cat f", "two"},
	} {
		s := n.stream(annsToken, tc.path)
		if got := s.exec(tc.cmd); strings.TrimSpace(got) != tc.want {
			t.Errorf("%s: %s: %q, want %q", tc.path, tc.cmd, got, tc.want)
		}
		s.hangUp()
	}
	if got := n.stream(bobsToken, "/sse").exec("ls"); got != "" {
		t.Errorf("bob sees %q", got)
	}
	r := n.client(annsToken)
	for _, path := range []string{"/sse/", "/sse/..", "/sse/a b", "/message/web"} {
		req := r.request(t.Context(), http.MethodGet, "")
		req.URL.Path = path
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
