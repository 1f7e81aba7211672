package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHTTPClientsAreApart is AC-48 and AC-62: each client has a session of its
// own, and what belongs to one is unknown to all others.
func TestHTTPClientsAreApart(t *testing.T) {
	n := startNetwork(t, nil)
	a, a2, b := n.session(annsToken), n.session(annsToken), n.session(bobsToken)
	a.sh("echo secret > f; for i in $(seq 20000); do echo line $i; done")
	long := a.exec(map[string]any{"cmd": "seq 100000"})
	if long.OutputID == "" {
		t.Fatalf("%+v", long.Notices)
	}
	running := a.exec(map[string]any{"cmd": "sleep 1000", "yield_time_ms": 250})
	if running.SessionID == nil {
		t.Fatalf("%+v", running)
	}
	var snap struct {
		ID string `json:"snapshot_id"`
	}
	if err := json.Unmarshal(a.call("snapshot_create", nil).Structured, &snap); err != nil || snap.ID == "" {
		t.Fatal(err)
	}
	root := strings.TrimSpace(a.sh("pwd"))
	for who, other := range map[string]*remote{"a second client of ann": a2, "bob": b} {
		if out := other.sh("ls; cat " + root + "/f 2>/dev/null; ls " + root + " 2>/dev/null; true"); out != "" {
			t.Errorf("%s sees %q", who, out)
		}
		other.bad("path_outside_workspace", "read_file", map[string]any{"path": root + "/f"})
		other.bad("process_not_found", "write_stdin", map[string]any{"session_id": *running.SessionID})
		other.bad("process_not_found", "kill_process", map[string]any{"session_id": *running.SessionID})
		other.bad("process_not_found", "read_screen", map[string]any{"session_id": *running.SessionID})
		other.bad("not_found", "read_output", map[string]any{"output_id": long.OutputID})
		other.bad("snapshot_not_found", "snapshot_restore", map[string]any{"snapshot_id": snap.ID})
		if list := other.call("snapshot_list", nil).text(); strings.Contains(list, snap.ID) {
			t.Errorf("%s lists ann's snapshot", who)
		}
		if list := other.call("list_processes", nil).text(); strings.Contains(list, "sleep 1000") {
			t.Errorf("%s lists ann's process", who)
		}
	}
	if out := a.sh("cat f"); out != "secret\n" {
		t.Errorf("ann's file holds %q", out)
	}
	for _, c := range []*remote{a, a2, b} {
		c.end()
	}
	n.stop()
	n.assertEmpty()
	for _, secret := range []string{a.token, b.token, a.session, b.session} {
		if strings.Contains(n.stderr.String(), secret) {
			t.Error("the log carries a token or a session id")
		}
	}
}

// TestHTTPRepliesDoNotCross is the second half of AC-48: many clients with the
// same request ids, and no reply reaches another.
func TestHTTPRepliesDoNotCross(t *testing.T) {
	n := startNetwork(t, nil, "--max-sessions", "16")
	clients, calls := 8, 125
	if testing.Short() {
		calls = 20
	}
	var wg sync.WaitGroup
	for i := range clients {
		c := n.session([]string{annsToken, bobsToken}[i%2])
		for j := range 2 {
			wg.Go(func() {
				for k := range calls / 2 {
					want := fmt.Sprintf("%d-%d-%d\n", i, j, k)
					if got := c.exec(map[string]any{"cmd": "echo " + strings.TrimSpace(want)}).Output; got != want {
						t.Errorf("%q, want %q", got, want)
					}
				}
			})
		}
	}
	wg.Wait()
}

// TestHTTPHandles is AC-50: the protocol without sessions names its sandbox, and
// what is not named, wrongly named or another's is never replaced by another.
func TestHTTPHandles(t *testing.T) {
	n := startNetwork(t, nil)
	a, b := n.client(annsToken), n.client(bobsToken)
	open := func(c *remote) string {
		var o struct {
			ID string `json:"sandbox_id"`
		}
		if err := json.Unmarshal(c.call("session_open", nil).Structured, &o); err != nil || len(o.ID) != 32 {
			t.Fatalf("%v %q", err, o.ID)
		}
		return o.ID
	}
	one, two, bobs := open(a), open(a), open(b)
	a.exec(map[string]any{"sandbox_id": one, "cmd": "echo one > f"})
	if got := a.exec(map[string]any{"sandbox_id": two, "cmd": "ls"}).Output; got != "" {
		t.Errorf("the second sandbox holds %q", got)
	}
	if got := a.exec(map[string]any{"sandbox_id": one, "cmd": "cat f"}).Output; got != "one\n" {
		t.Errorf("the first holds %q", got)
	}
	a.bad("invalid_argument", "ls", nil)
	a.bad("invalid_argument", "ls", map[string]any{"sandbox_id": 5})
	for _, wrong := range []string{"", bobs, one[:31], one + "0", strings.ToUpper(one) + " ", "mcp:x", "*"} {
		a.bad("session_not_found", "ls", map[string]any{"sandbox_id": wrong})
	}
	b.bad("session_not_found", "session_close", map[string]any{"sandbox_id": one})
	if got := a.exec(map[string]any{"sandbox_id": one, "cmd": "cat f"}).Output; got != "one\n" {
		t.Errorf("after bob's try: %q", got)
	}
	// AC-64: headers and body must agree.
	_, body, headers := a.message("ls", map[string]any{"sandbox_id": one})
	for i, wrong := range []string{"Mcp-Method: ping", "Mcp-Name: rm"} {
		h := slices.Clone(headers)
		h[i+1] = wrong
		if resp, text := a.send(http.MethodPost, body, h...); resp.StatusCode != 400 || !strings.Contains(text, "-32020") {
			t.Errorf("%s: %s %s", wrong, resp.Status, text)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if resp, _ := a.send(method, "", "Mcp-Protocol-Version: 2026-07-28"); resp.StatusCode != 405 {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
	// A client with an MCP session may use a sandbox of its principal by name.
	s := n.session(annsToken)
	if got := s.exec(map[string]any{"sandbox_id": one, "cmd": "cat f"}).Output; got != "one\n" {
		t.Errorf("by name: %q", got)
	}
	if got := s.sh("ls"); got != "" {
		t.Errorf("its own holds %q", got)
	}
	s.end()
	for c, ids := range map[*remote][]string{a: {one, two}, b: {bobs}} {
		for _, id := range ids {
			if res := c.call("session_close", map[string]any{"sandbox_id": id}); res.IsError {
				t.Error(res.text())
			}
			c.bad("session_not_found", "ls", map[string]any{"sandbox_id": id})
		}
	}
	n.stop()
	n.assertEmpty()
}

// TestHTTPSessionsSurviveTheServer: a stop and a kill both lose no file, and the
// client goes on with the id it has. What was deleted stays gone.
func TestHTTPSessionsSurviveTheServer(t *testing.T) {
	n := startNetwork(t, nil)
	c, quiet, gone := n.session(annsToken), n.session(annsToken), n.session(annsToken)
	c.sh("echo one > f")
	gone.sh("true")
	gone.end()
	stream, err := http.DefaultClient.Do(c.request(context.Background(), http.MethodGet, ""))
	if err != nil || stream.StatusCode != 200 {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	// A call that waits and a background child must not hold the stop.
	_, body, headers := c.message("exec_command", map[string]any{"cmd": "sleep 1000 & sleep 1000", "yield_time_ms": 45000})
	waiting := make(chan string, 1)
	go func() {
		resp, err := http.DefaultClient.Do(c.request(context.Background(), http.MethodPost, body, headers...))
		if err != nil {
			waiting <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		waiting <- string(b)
	}()
	waitFor(t, "the command to run", func() bool { return strings.Contains(c.call("list_processes", nil).text(), "sleep 1000") })
	began := time.Now()
	n.stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	<-waiting

	n2 := startNetwork(t, n)
	move := func(to *network, cs ...*remote) {
		for _, c := range cs {
			c.n = to
		}
	}
	move(n2, c, quiet, gone)
	if got := c.sh("cat f; echo two >> f"); got != "one\n" {
		t.Errorf("after the restart: %q", got)
	}
	if got := quiet.sh("ls"); got != "" {
		t.Errorf("a session that had made no call: %q", got)
	}
	if resp, _ := gone.send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); resp.StatusCode != 404 {
		t.Errorf("a deleted session after the restart: %s", resp.Status)
	}

	_ = n2.cmd.Process.Kill()
	<-n2.ended
	n3 := startNetwork(t, n2)
	move(n3, c, quiet)
	if got := c.sh("cat f"); got != "one\ntwo\n" {
		t.Errorf("after the kill: %q", got)
	}
	c.end()
	quiet.end()
	n3.stop()
	n3.assertEmpty()
}

// TestHTTPAgesAndQuotas: idle sessions are parked, never during a call; quotas
// are each principal's own.
func TestHTTPAgesAndQuotas(t *testing.T) {
	n := startNetwork(t, nil, "--session-idle", "300ms", "--max-sessions-per-principal", "2", "--max-sessions", "3")
	a := n.session(annsToken)
	a.sh("echo kept > f")
	parked := func() bool {
		names, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, p := range names {
			if env, err := os.ReadFile(p); err == nil && bytes.Contains(env, []byte("HOME="+n.temp)) {
				return false
			}
		}
		return true
	}
	if o := a.exec(map[string]any{"cmd": "sleep 1; echo done", "yield_time_ms": 20000}); o.Output != "done\n" {
		t.Errorf("a call longer than the idle time: %+v", o)
	}
	waitFor(t, "the idle session to be parked", parked)
	if got := a.sh("cat f"); got != "kept\n" {
		t.Errorf("resumed: %q", got)
	}
	hold := func(c *remote) {
		if o := c.exec(map[string]any{"cmd": "sleep 1000", "yield_time_ms": 250}); o.SessionID == nil {
			t.Fatalf("%+v", o)
		}
	}
	hold(a)
	a2, a3, b := n.session(annsToken), n.session(annsToken), n.session(bobsToken)
	hold(a2)
	a3.bad("limit_reached", "ls", nil)
	if got := b.sh("echo mine"); got != "mine\n" {
		t.Error(got)
	}
	for _, c := range []*remote{a, a2, a3, b} {
		c.end()
	}
	n.stop()
	n.assertEmpty()
}

// TestHTTPAbruptEnd is AC-49 and AC-51: a client that breaks off in the middle
// touches nobody else, and closing a request of the protocol without sessions
// kills its command.
func TestHTTPAbruptEnd(t *testing.T) {
	n := startNetwork(t, nil)
	b := n.session(bobsToken)
	done := make(chan string, 1)
	go func() { done <- b.exec(map[string]any{"cmd": "sleep 1; echo unhurt", "yield_time_ms": 20000}).Output }()
	a := n.client(annsToken)
	var o struct {
		ID string `json:"sandbox_id"`
	}
	if err := json.Unmarshal(a.call("session_open", nil).Structured, &o); err != nil {
		t.Fatal(err)
	}
	_, body, headers := a.message("exec_command", map[string]any{"sandbox_id": o.ID, "cmd": "touch begun; sleep 1000", "yield_time_ms": 45000})
	ctx, hangUp := context.WithCancel(t.Context())
	go func() { _, _ = http.DefaultClient.Do(a.request(ctx, http.MethodPost, body, headers...)) }()
	processes := func() string { return a.call("list_processes", map[string]any{"sandbox_id": o.ID}).text() }
	waitFor(t, "the command to run", func() bool { return strings.Contains(processes(), "running") })
	hangUp()
	waitFor(t, "the command to be killed", func() bool { return !strings.Contains(processes(), "running") })
	if got := <-done; got != "unhurt\n" {
		t.Errorf("bob's call: %q", got)
	}
}

// TestHTTPRefusesToServe is AC-57 and the settings that would open a door.
func TestHTTPRefusesToServe(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	inside := filepath.Join(dir, "root", "tokens")
	two := filepath.Join(t.TempDir(), "two")
	if err := os.Mkdir(filepath.Join(dir, "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{open, inside} {
		if err := os.WriteFile(f, []byte(annsToken+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Chmod(inside, 0o600)
	if err := os.WriteFile(two, []byte(annsToken+"\n"+bobsToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, args := range map[string][]string{
		"all addresses without a token":    {"--listen", "0.0.0.0:0"},
		"all by IPv6":                      {"--listen", "[::]:0"},
		"all by an empty host":             {"--listen", ":0"},
		"another address":                  {"--listen", "192.0.2.1:0"},
		"a name":                           {"--listen", "example.com:0"},
		"no auth beyond loopback":          {"--listen", "0.0.0.0:0", "--no-auth"},
		"no auth over sse":                 {"--transport", "sse", "--no-auth"},
		"no port":                          {"--listen", "127.0.0.1"},
		"a token file open to others":      {"--token-file", open},
		"a token file that is not there":   {"--token-file", filepath.Join(dir, "none")},
		"a token file in the workspace":    {"--token-file", inside, "--root", filepath.Dir(inside)},
		"one directory for two principals": {"--token-file", two, "--root", dir},
		"a host with a scheme":             {"--http-host", "http://x"},
		"every origin":                     {"--http-origin", "*"},
		"a named session":                  {"--session", "x"},
		"no sessions":                      {"--max-sessions", "0"},
		"half a default sandbox":           {"--default-sandbox", "maybe"},
		"a transport that does not exist":  {"--transport", "websocket"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		out, err := exec.CommandContext(ctx, binary, append([]string{"serve", "--transport", "http", "--listen", "127.0.0.1:0", "--state-dir", filepath.Join(dir, "state")}, args...)...).CombinedOutput()
		late := ctx.Err() != nil
		cancel()
		if err == nil || late || len(bytes.TrimSpace(out)) == 0 {
			t.Errorf("%s: %v %s", what, err, out)
		}
	}
}

// TestHTTPOwnToken: without a token file the server makes one that only its
// owner can read, and commands cannot.
func TestHTTPOwnToken(t *testing.T) {
	n := startNetwork(t, nil)
	n.stop()
	_ = os.Remove(filepath.Join(filepath.Dir(n.state), "tokens"))
	cmd := exec.Command(binary, "serve", "--transport", "http", "--listen", "127.0.0.1:0", "--state-dir", n.state, "--structured", "on")
	n2 := &network{t: t, cmd: cmd, state: n.state, temp: n.temp}
	n2.launch()
	file := filepath.Join(n.state, "http-token")
	fi, err := os.Stat(file)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", fi, err)
	}
	text, _ := os.ReadFile(file)
	token := strings.TrimSpace(string(text))
	if strings.Contains(n2.stderr.String(), token[len("local:"):]) {
		t.Error("the log carries the token")
	}
	if resp, _ := n2.client("x:").send(http.MethodPost, "{}"); resp.StatusCode != 401 {
		t.Errorf("without a token: %s", resp.Status)
	}
	c := n2.session(token)
	if out := c.sh("cat " + file + " 2>/dev/null; ls " + n.state + " 2>/dev/null; true"); out != "" {
		t.Errorf("a command reads %q", out)
	}
	c.end()
}

// TestHTTPSlowloris: connections that never finish their header are closed, and
// others are served meanwhile.
func TestHTTPSlowloris(t *testing.T) {
	n := startNetwork(t, nil, "--max-connections", "64")
	c := n.session(annsToken)
	c.sh("true")
	conns := make([]net.Conn, 200)
	for i := range conns {
		conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ")
		conns[i] = conn
	}
	for range 20 {
		c.sh("true")
	}
	// The first of them gave way to the others long before its time-out.
	_ = conns[0].SetReadDeadline(time.Now().Add(patience))
	if _, err := bufio.NewReader(conns[0]).ReadByte(); err == nil || os.IsTimeout(err) {
		t.Errorf("the oldest is still open: %v", err)
	}
	c.end()
}

// TestSSEOverTheNetwork: the old transport runs a command, and a broken stream
// leaves nothing.
func TestSSEOverTheNetwork(t *testing.T) {
	n := startNetwork(t, nil, "--transport", "sse")
	s := n.stream(annsToken, "/sse")
	if got := s.exec("sleep 1000 & echo over sse"); !strings.Contains(got, "over sse") {
		t.Error(got)
	}
	s.hangUp()
	waitFor(t, "the sandbox to end", func() bool {
		left, _ := filepath.Glob(filepath.Join(n.state, "sessions", "*"))
		return len(left) == 0
	})
	n.stop()
	n.assertEmpty()
}
