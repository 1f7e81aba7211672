package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// network is a real server on a port of its own.
type network struct {
	t      testing.TB
	cmd    *exec.Cmd
	url    string
	stderr *lockedBuffer
	state  string
	temp   string
	env    []string
	ended  chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const (
	annsToken = "ann:3f0c9a5be1d24c7788aa"
	bobsToken = "bob:9b1de2f7a6c54e0e99bb"
)

// startNetwork runs the binary; n of an earlier one makes it the next server of
// the same state directory. Each MCP session has a sandbox of its own, unless args
// say --default-sandbox on.
func startNetwork(t testing.TB, before *network, args ...string) *network {
	t.Helper()
	n := &network{t: t}
	if before != nil {
		n.state, n.temp = before.state, before.temp
	} else {
		n.state, n.temp = filepath.Join(t.TempDir(), "state"), t.TempDir()
		openPath(t, n.temp)
	}
	tokens := filepath.Join(filepath.Dir(n.state), "tokens")
	if err := os.WriteFile(tokens, []byte(annsToken+"\n"+bobsToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.cmd = exec.Command(binary, append([]string{"serve", "--transport", "http", "--listen", "127.0.0.1:0", "--token-file", tokens, "--state-dir", n.state, "--structured", "on", "--default-sandbox", "off"}, args...)...)
	n.launch()
	return n
}

// launch starts n's command and learns its address.
func (n *network) launch() {
	n.t.Helper()
	n.cmd.Env = append(append(os.Environ(), "TMPDIR="+n.temp), n.env...)
	addr := regexp.MustCompile(`serves \w+ on (?:https?://)?([^\s/]\S*?)(?:/mcp|/sse)?\n`)
	n.stderr, n.ended = launchServer(n.t, n.cmd, "the server", func(log string) bool {
		if m := addr.FindStringSubmatch(log); m != nil {
			n.url = "http://" + m[1]
		}
		return n.url != ""
	})
	n.t.Cleanup(func() { n.stop(); http.DefaultClient.CloseIdleConnections() })
}

// launchServer starts a program that runs until SIGTERM, waits until ready says
// yes to what it has written to stderr, and stops it when the test ends.
func launchServer(t testing.TB, cmd *exec.Cmd, name string, ready func(log string) bool) (stderr *lockedBuffer, ended chan struct{}) {
	t.Helper()
	stderr, ended = &lockedBuffer{}, make(chan struct{})
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { stopServer(t, cmd, name, stderr, ended) })
	waitFor(t, name+" to listen", func() bool {
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", name, stderr)
		default:
		}
		return ready(stderr.String())
	})
	return stderr, ended
}

// stopServer may be called again.
func stopServer(t testing.TB, cmd *exec.Cmd, name string, stderr *lockedBuffer, ended chan struct{}) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(patience):
		t.Errorf("%s did not stop\n%s", name, stderr)
		_ = cmd.Process.Kill()
		<-ended
	}
}

func (n *network) stop() {
	stopServer(n.t, n.cmd, "the server", n.stderr, n.ended)
	waitFor(n.t, "processes of the server to end", func() bool { return len(processesWith(n.temp)) == 0 })
}

// assertEmpty is for when every session was ended for good.
func (n *network) assertEmpty() {
	n.t.Helper()
	if left, _ := os.ReadDir(n.temp); len(left) > 0 {
		n.t.Errorf("left in the temporary directory: %v", left)
	}
	for _, dir := range []string{"sessions", "saved"} {
		left, _ := filepath.Glob(filepath.Join(n.state, dir, "*"))
		left = slices.DeleteFunc(left, func(p string) bool { return strings.HasSuffix(p, ".gone") })
		if len(left) > 0 {
			n.t.Errorf("left in the state directory: %v", left)
		}
	}
}

// remote is one client over the network; session is its MCP session id, "" for
// the protocol without sessions.
type remote struct {
	n       *network
	path    string // "" is /mcp
	token   string
	session string
	next    atomic.Int64
}

func (n *network) client(token string) *remote {
	_, token, _ = strings.Cut(token, ":")
	return &remote{n: n, token: token}
}

func (n *network) session(token string) *remote {
	n.t.Helper()
	return n.sessionAt(token, "")
}

func (n *network) sessionAt(token, path string) *remote {
	n.t.Helper()
	return n.sessionWith(token, path, "{}")
}

func (n *network) sessionWith(token, path, capabilities string) *remote {
	n.t.Helper()
	r := n.client(token)
	r.path = path
	resp, body := r.send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":`+capabilities+`,"clientInfo":{"name":"test","version":"1"}}}`)
	if r.session = resp.Header.Get("Mcp-Session-Id"); r.session == "" {
		n.t.Fatalf("initialize: %s %s", resp.Status, body)
	}
	return r
}

func (r *remote) request(ctx context.Context, method, body string, headers ...string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, method, r.n.url+cmp.Or(r.path, "/mcp"), strings.NewReader(body))
	if err != nil {
		r.n.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if r.session != "" {
		req.Header.Set("Mcp-Session-Id", r.session)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	return req
}

func (r *remote) send(method, body string, headers ...string) (*http.Response, string) {
	r.n.t.Helper()
	resp, err := http.DefaultClient.Do(r.request(context.Background(), method, body, headers...))
	if err != nil {
		r.n.t.Fatalf("%v\n%s", err, r.n.stderr)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.n.t.Fatalf("%v\n%s", err, r.n.stderr)
	}
	return resp, string(b)
}

// message is a tools/call of this client's era.
func (r *remote) message(name string, args map[string]any) (id int64, body string, headers []string) {
	id = r.next.Add(1)
	params := map[string]any{"name": name, "arguments": args}
	if r.session == "" {
		params["_meta"] = map[string]any{
			"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientInfo": map[string]any{"name": "test", "version": "1"},
			"io.modelcontextprotocol/clientCapabilities": map[string]any{},
		}
		headers = []string{"Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: " + name}
	}
	b, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
	if err != nil {
		r.n.t.Fatal(err)
	}
	return id, string(b), headers
}

func (r *remote) call(name string, args map[string]any) toolResult {
	r.n.t.Helper()
	id, body, headers := r.message(name, args)
	resp, text := r.send(http.MethodPost, body, headers...)
	var m message
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.Error != nil || string(m.ID) != strconv.FormatInt(id, 10) {
		r.n.t.Fatalf("%s: %s %s\n%s", name, resp.Status, text, r.n.stderr)
	}
	var res toolResult
	if err := json.Unmarshal(m.Result, &res); err != nil {
		r.n.t.Fatal(err)
	}
	if res.IsError && strings.HasPrefix(res.text(), "confinement_unavailable") {
		unconfinable(r.n.t.(*testing.T), res.text())
	}
	return res
}

func (r *remote) exec(args map[string]any) commandOutcome {
	r.n.t.Helper()
	res := r.call("exec_command", args)
	if res.IsError {
		r.n.t.Fatalf("%v: %s", args, res.text())
	}
	return outcome(r.n.t, res)
}

func (r *remote) sh(cmd string) string {
	r.n.t.Helper()
	o := r.exec(map[string]any{"cmd": cmd})
	if o.ExitCode == nil || *o.ExitCode != 0 {
		r.n.t.Fatalf("%s: %+v", cmd, o)
	}
	return o.Output
}

func (r *remote) bad(code, name string, args map[string]any) {
	r.n.t.Helper()
	if res := r.call(name, args); !res.IsError || !strings.HasPrefix(res.text(), code+": ") {
		r.n.t.Errorf("%s(%v): want %s, got %q", name, args, code, res.text())
	}
}

func (r *remote) end() {
	r.n.t.Helper()
	if resp, body := r.send(http.MethodDelete, ""); resp.StatusCode != 200 {
		r.n.t.Errorf("DELETE: %s %s", resp.Status, body)
	}
}
