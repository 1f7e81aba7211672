package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// client speaks MCP to a real server over its stdin and stdout, one line a
// message, and knows nothing of the server's own code.
type client struct {
	t      testing.TB
	cmd    *exec.Cmd
	in     io.WriteCloser
	stderr *bytes.Buffer
	state  string
	temp   string

	writeMu sync.Mutex
	mu      sync.Mutex
	waiting map[string]chan message
	notes   []message
	noteCh  chan message
	junk    []string
	next    atomic.Int64
	closed  chan struct{}
	ended   sync.Once
}

type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// toolResult is a tools/call result.
type toolResult struct {
	Content []struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		Data     string `json:"data"`
		MIMEType string `json:"mimeType"`
	} `json:"content"`
	IsError    bool            `json:"isError"`
	Structured json.RawMessage `json:"structuredContent"`
}

func (r toolResult) text() string {
	var b strings.Builder
	for _, c := range r.Content {
		b.WriteString(c.Text)
	}
	return b.String()
}

// commandOutcome is exec_command's structured result.
type commandOutcome struct {
	Output      string   `json:"output"`
	ExitCode    *int     `json:"exit_code"`
	SessionID   *int     `json:"session_id"`
	Truncated   bool     `json:"truncated"`
	OutputID    string   `json:"output_id"`
	Tokens      int      `json:"original_token_count"`
	TimedOut    bool     `json:"timed_out"`
	Signal      string   `json:"signal"`
	KilledAfter int      `json:"killed_after_ms"`
	Wall        float64  `json:"wall_time_seconds"`
	Command     float64  `json:"command_seconds"`
	Notices     []string `json:"notices"`
}

// startServer runs the binary with its own state and temporary directory, so that
// what it leaves behind can be seen.
func startServer(t testing.TB, args ...string) *client {
	t.Helper()
	c := launchClient(t, filepath.Join(t.TempDir(), "state"), t.TempDir(), args...)
	t.Cleanup(func() {
		c.stop()
		c.assertNothingLeft()
	})
	return c
}

// launchClient starts a server that the caller ends.
func launchClient(t testing.TB, state, temp string, args ...string) *client {
	t.Helper()
	c := &client{
		t: t, stderr: &bytes.Buffer{}, state: state, temp: temp,
		waiting: map[string]chan message{}, noteCh: make(chan message, 1024), closed: make(chan struct{}),
	}
	// The unprivileged id that an owned workspace of a root server belongs to must
	// be able to walk to it.
	openPath(t, c.temp)
	c.cmd = exec.Command(binary, append([]string{"serve", "--state-dir", c.state, "--structured", "on"}, args...)...)
	c.cmd.Env = append(os.Environ(), "TMPDIR="+c.temp)
	c.cmd.Stderr = c.stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in = in
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go c.read(out)
	return c
}

// atLandlock are the arguments of a server at the landlock level, at which root's
// workspaces are refused unless they are asked for.
func atLandlock() []string {
	args := []string{"--confine", "landlock"}
	if os.Geteuid() == 0 {
		args = append(args, "--allow-root")
	}
	return args
}

func openPath(t testing.TB, dir string) {
	t.Helper()
	for d := dir; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *client) read(out io.Reader) {
	defer close(c.closed)
	r := bufio.NewReaderSize(out, 1<<20)
	for {
		text, err := r.ReadBytes('\n')
		if len(text) > 0 {
			var m message
			if json.Unmarshal(text, &m) != nil {
				c.mu.Lock()
				c.junk = append(c.junk, string(text))
				c.mu.Unlock()
			} else if m.Method != "" {
				c.mu.Lock()
				c.notes = append(c.notes, m)
				c.mu.Unlock()
				select {
				case c.noteCh <- m:
				default:
				}
			} else {
				c.mu.Lock()
				ch := c.waiting[string(m.ID)]
				delete(c.waiting, string(m.ID))
				c.mu.Unlock()
				if ch != nil {
					ch <- m
				}
			}
		}
		if err != nil {
			return
		}
	}
}

func (c *client) raw(text string) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	_, _ = io.WriteString(c.in, text)
}

// send writes a request and returns where its answer will come.
func (c *client) send(method string, params any) (id string, answer <-chan message) {
	id = strconv.FormatInt(c.next.Add(1), 10)
	return id, c.sendAs(id, method, params)
}

func (c *client) sendAs(id, method string, params any) <-chan message {
	ch := make(chan message, 1)
	c.mu.Lock()
	c.waiting[id] = ch
	c.mu.Unlock()
	b, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": json.RawMessage(id), "method": method, "params": params})
	if err != nil {
		c.t.Fatal(err)
	}
	c.raw(string(b) + "\n")
	return ch
}

const patience = 90 * time.Second

func (c *client) await(ch <-chan message) message {
	c.t.Helper()
	select {
	case m := <-ch:
		return m
	case <-c.closed:
		c.t.Fatalf("the server ended without an answer; stderr:\n%s", c.stderr)
	case <-time.After(patience):
		c.t.Fatalf("no answer in %v", patience)
	}
	return message{}
}

func (c *client) request(method string, params any) message {
	c.t.Helper()
	_, ch := c.send(method, params)
	return c.await(ch)
}

func (c *client) initialize(version string) message {
	c.t.Helper()
	return c.initializeWith(version, map[string]any{})
}

// initializeRaw asks for the raw tools.
func (c *client) initializeRaw() message {
	c.t.Helper()
	return c.initializeWith("2025-06-18", map[string]any{"experimental": map[string]any{"mcp-sandbox/raw": map[string]any{}}})
}

func (c *client) initializeWith(version string, capabilities map[string]any) message {
	c.t.Helper()
	m := c.request("initialize", map[string]any{
		"protocolVersion": version, "capabilities": capabilities,
		"clientInfo": map[string]any{"name": "test", "version": "1"},
	})
	c.raw(`{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n")
	return m
}

func (c *client) call(name string, args any) toolResult {
	c.t.Helper()
	_, ch := c.sendCall(name, args)
	return c.result(c.await(ch))
}

func (c *client) sendCall(name string, args any) (string, <-chan message) {
	return c.send("tools/call", map[string]any{"name": name, "arguments": args})
}

func (c *client) result(m message) toolResult {
	c.t.Helper()
	if m.Error != nil {
		c.t.Fatalf("protocol error %d: %s", m.Error.Code, m.Error.Message)
	}
	var r toolResult
	if err := json.Unmarshal(m.Result, &r); err != nil {
		c.t.Fatalf("result %s: %v", m.Result, err)
	}
	return r
}

// ok calls a tool that must succeed.
func (c *client) ok(name string, args any) toolResult {
	c.t.Helper()
	r := c.call(name, args)
	if r.IsError {
		if strings.HasPrefix(r.text(), "confinement_unavailable") {
			unconfinable(c.t.(*testing.T), r.text())
		}
		c.t.Fatalf("%s(%v): %s\nstderr:\n%s", name, args, r.text(), c.stderr)
	}
	return r
}

// bad calls a tool that must fail with the code.
func (c *client) bad(code, name string, args any) string {
	c.t.Helper()
	r := c.call(name, args)
	if !r.IsError || !strings.HasPrefix(r.text(), code+": ") {
		c.t.Fatalf("%s(%v): want %s, got isError=%v %q", name, args, code, r.IsError, r.text())
	}
	return r.text()
}

func (c *client) exec(args map[string]any) commandOutcome {
	c.t.Helper()
	return outcome(c.t, c.ok("exec_command", args))
}

func outcome(t testing.TB, r toolResult) commandOutcome {
	t.Helper()
	var o commandOutcome
	if err := json.Unmarshal(r.Structured, &o); err != nil {
		t.Fatalf("structured %q: %v", r.Structured, err)
	}
	return o
}

// sh runs a command that must end with code 0 and gives its output.
func (c *client) sh(cmd string) string {
	c.t.Helper()
	o := c.exec(map[string]any{"cmd": cmd})
	if o.ExitCode == nil || *o.ExitCode != 0 {
		c.t.Fatalf("%s: exit %v, output %q", cmd, o.ExitCode, o.Output)
	}
	return o.Output
}

// stop closes stdin and waits for the server to end by itself.
func (c *client) stop() {
	c.t.Helper()
	c.ended.Do(func() {
		_ = c.in.Close()
		select {
		case <-c.closed:
		case <-time.After(patience):
			c.t.Errorf("the server did not end after EOF")
			_ = c.cmd.Process.Kill()
		}
		<-c.closed
		err := c.cmd.Wait()
		if err != nil && !c.t.Failed() && !strings.Contains(err.Error(), "killed") {
			c.t.Errorf("server: %v\nstderr:\n%s", err, c.stderr)
		}
	})
}

// assertNothingLeft looks for what a server could leave: processes of its
// session, its temporary workspace, state records, and stray output.
func (c *client) assertNothingLeft() {
	c.t.Helper()
	c.mu.Lock()
	junk := slices.Clone(c.junk)
	c.mu.Unlock()
	if len(junk) > 0 {
		c.t.Errorf("stdout carried what is no protocol message: %q", junk)
	}
	if left, _ := os.ReadDir(c.temp); len(left) > 0 {
		c.t.Errorf("left in the temporary directory: %v", left)
	}
	// A server that work cannot be stopped in leaves its records to the next one.
	if left, _ := filepath.Glob(filepath.Join(c.state, "sessions", "*")); len(left) > 0 && !strings.Contains(c.stderr.String(), "told to end") {
		c.t.Errorf("left in the state directory: %v", left)
	}
	waitFor(c.t, "processes of the server to end", func() bool { return len(processesWith(c.temp)) == 0 })
}

// processesWith lists processes whose environment or working directory names the
// mark: the server's TMPDIR is unique to one test.
func processesWith(mark string) []string {
	var out []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if d == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		env, _ := os.ReadFile(d + "/environ")
		cwd, _ := os.Readlink(d + "/cwd")
		if bytes.Contains(env, []byte(mark)) || strings.HasPrefix(cwd, mark) {
			if stat, err := os.ReadFile(d + "/stat"); err == nil && !bytes.Contains(stat, []byte(") Z ")) {
				out = append(out, d)
			}
		}
	}
	return out
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (c *client) signal(sig syscall.Signal) { _ = c.cmd.Process.Signal(sig) }
