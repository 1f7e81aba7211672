// Package stdio is an MCP client over the pipes of a server it starts, the same
// for all servers that are measured.
package stdio

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Client speaks MCP over the pipes of a server it started. It is the same for
// all servers, so its own cost is in every number alike.
type Client struct {
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	stderr   Tail
	received atomic.Int64
	ready    time.Duration

	mu      sync.Mutex
	next    int64
	waiting map[int64]chan json.RawMessage
	ended   chan struct{} // closed when the server's output ended
}

var errServerEnded = errors.New("the server ended")

// Dial starts the server and initializes the session.
func Dial(ctx context.Context, cmd *exec.Cmd) (*Client, error) {
	c := &Client{cmd: cmd, waiting: map[int64]chan json.RawMessage{}, ended: make(chan struct{})}
	cmd.Stderr = &c.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A grandchild may hold the stderr pipe after the server is gone.
	cmd.WaitDelay = time.Second
	var err error
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go c.read(out)
	_, err = c.request(ctx, "initialize", map[string]any{
		"protocolVersion": "2025-06-18",
		"capabilities":    map[string]any{},
		"clientInfo":      map[string]any{"name": "bench", "version": "1"},
	})
	c.ready = time.Since(start)
	if err == nil {
		err = c.send(map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"})
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("initialize: %w %s", err, c.stderr.LastLine())
	}
	return c, nil
}

func (c *Client) read(out io.Reader) {
	defer close(c.ended)
	r := bufio.NewReaderSize(out, 1<<16)
	for {
		line, err := r.ReadBytes('\n')
		c.received.Add(int64(len(line)))
		var head struct {
			ID     *int64  `json:"id"`
			Method *string `json:"method"`
		}
		if json.Unmarshal(line, &head) == nil && head.ID != nil && head.Method == nil {
			c.mu.Lock()
			waiter := c.waiting[*head.ID]
			delete(c.waiting, *head.ID)
			c.mu.Unlock()
			if waiter != nil {
				waiter <- line
			}
		}
		if err != nil {
			return
		}
	}
}

func (c *Client) send(message any) error {
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err = c.stdin.Write(append(line, '\n'))
	return err
}

func (c *Client) request(ctx context.Context, method string, params any) (json.RawMessage, error) {
	reply := make(chan json.RawMessage, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.waiting[id] = reply
	c.mu.Unlock()
	if err := c.send(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params}); err != nil {
		return nil, err
	}
	var line json.RawMessage
	select {
	case line = <-reply:
	case <-c.ended:
		return nil, errServerEnded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var body struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(line, &body); err != nil {
		return nil, err
	}
	if body.Error != nil {
		return nil, errors.New(FirstLine(body.Error.Message))
	}
	return body.Result, nil
}

// Result is the part of a tools/call result that the adapters look at.
type Result struct {
	Content []struct {
		Text string `json:"text"`
	} `json:"content"`
	Structured json.RawMessage `json:"structuredContent"`
	IsError    bool            `json:"isError"`
}

// Text joins the texts of the content.
func (r Result) Text() string {
	var parts []string
	for _, c := range r.Content {
		parts = append(parts, c.Text)
	}
	return strings.Join(parts, "\n")
}

// Call runs a tool; a result that is an error becomes one.
func (c *Client) Call(ctx context.Context, tool string, arguments map[string]any) (Result, error) {
	raw, err := c.request(ctx, "tools/call", map[string]any{"name": tool, "arguments": arguments})
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", tool, err)
	}
	var r Result
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("%s: %w", tool, err)
	}
	if r.IsError {
		return r, fmt.Errorf("%s: %s", tool, FirstLine(r.Text()))
	}
	return r, nil
}

// Tools is the result of tools/list.
func (c *Client) Tools(ctx context.Context) (json.RawMessage, error) {
	return c.request(ctx, "tools/list", map[string]any{})
}

// Ready is the time from exec to the reply to initialize.
func (c *Client) Ready() time.Duration { return c.ready }

// PIDs is the server's process.
func (c *Client) PIDs() []int { return []int{c.cmd.Process.Pid} }

// Received counts the bytes of the server's messages.
func (c *Client) Received() int64 { return c.received.Load() }

// Close ends the server as a client does, by closing its input, and kills it
// when it is still there after five seconds.
func (c *Client) Close() {
	_ = c.stdin.Close()
	select {
	case <-c.ended:
	case <-time.After(5 * time.Second):
	}
	kill := time.AfterFunc(2*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer kill.Stop()
	_ = c.cmd.Wait()
}

// Tail keeps the last part of what a program said on stderr.
type Tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - 4096; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// String is what is kept.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// LastLine is the last line that was said.
func (t *Tail) LastLine() string {
	lines := strings.Split(strings.TrimSpace(t.String()), "\n")
	return lines[len(lines)-1]
}

// FirstLine is the first line of s, cut at 200 bytes.
func FirstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return s
}
