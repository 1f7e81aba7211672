package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// target is where requests go.
type target struct {
	address string // HOST:PORT
	token   string // of the principal that attacks
}

func (t target) url() string { return "http://" + t.address + "/mcp" }

// client is one MCP client with connections of its own, as a program on its own
// would have. All clients use the same request ids on purpose: a reply that
// went to the wrong one must not be told by its id.
type client struct {
	url, token string
	http       *http.Client
	session    string
	next       int64
	endListen  context.CancelFunc
}

const protocol = "2025-11-25"

func newClient(t target, token string) *client {
	return &client{url: t.url(), token: token, endListen: func() {}, http: &http.Client{
		Timeout:   2 * time.Minute,
		Transport: &http.Transport{MaxIdleConnsPerHost: 1, DisableCompression: true},
	}}
}

// send makes one request and gives its status and body.
func (c *client) send(ctx context.Context, method, body string) (*http.Response, []byte, error) {
	req, err := c.request(ctx, method, body)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}

func (c *client) request(ctx context.Context, method, body string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
		req.Header.Set("Mcp-Protocol-Version", protocol)
	}
	return req, nil
}

const helloBody = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"` + protocol +
	`","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`

func (c *client) open(ctx context.Context) error {
	resp, body, err := c.send(ctx, http.MethodPost, helloBody)
	if err != nil {
		return err
	}
	if c.session = resp.Header.Get("Mcp-Session-Id"); resp.StatusCode != http.StatusOK || c.session == "" {
		return fmt.Errorf("initialize: %s %s", resp.Status, short(body))
	}
	resp, body, err = c.send(ctx, http.MethodPost, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	if err == nil && resp.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("initialized: %s %s", resp.Status, short(body))
	}
	return err
}

// listen opens the stream on which a server may speak first, as clients do, and
// drops what comes until endListen.
func (c *client) listen() error {
	ctx, cancel := context.WithCancel(context.Background())
	req, err := c.request(ctx, http.MethodGet, "")
	if err != nil {
		cancel()
		return err
	}
	apart := *c.http
	apart.Timeout = 0
	resp, err := apart.Do(req)
	if err != nil {
		cancel()
		return err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		cancel()
		return fmt.Errorf("listening: %s", resp.Status)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
	}()
	c.endListen = func() { cancel(); <-ended }
	return nil
}

// sh runs a command to its end and gives its output.
func (c *client) sh(ctx context.Context, command string) (string, error) {
	c.next++
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": c.next, "method": "tools/call", "params": map[string]any{
		"name": "exec_command", "arguments": map[string]any{"cmd": command, "yield_time_ms": 45000}}})
	if err != nil {
		return "", err
	}
	resp, reply, err := c.send(ctx, http.MethodPost, string(body))
	if err != nil {
		return "", err
	}
	var m struct {
		ID     json.RawMessage `json:"id"`
		Result *struct {
			Content []struct {
				Text string `json:"text"`
			} `json:"content"`
			Structured struct {
				Output   string `json:"output"`
				ExitCode *int   `json:"exit_code"`
			} `json:"structuredContent"`
			IsError bool `json:"isError"`
		} `json:"result"`
	}
	if err := json.Unmarshal(reply, &m); err != nil || resp.StatusCode != http.StatusOK || m.Result == nil {
		return "", fmt.Errorf("exec_command: %s %s", resp.Status, short(reply))
	}
	if string(m.ID) != strconv.FormatInt(c.next, 10) {
		return "", wrongReply(fmt.Sprintf("reply to request %s, want %d", m.ID, c.next))
	}
	if m.Result.IsError && len(m.Result.Content) > 0 {
		return "", fmt.Errorf("exec_command: %s", short([]byte(m.Result.Content[0].Text)))
	}
	if code := m.Result.Structured.ExitCode; code == nil || *code != 0 {
		return "", fmt.Errorf("exec_command: the command did not exit with 0: %s", short(reply))
	}
	return m.Result.Structured.Output, nil
}

// close deletes the session and ends the connections.
func (c *client) close(ctx context.Context) error {
	c.endListen()
	defer c.http.CloseIdleConnections()
	if c.session == "" {
		return nil
	}
	resp, body, err := c.send(ctx, http.MethodDelete, "")
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("DELETE: %s %s", resp.Status, short(body))
	}
	return err
}

// wrongReply is an answer that belongs to something else.
type wrongReply string

func (w wrongReply) Error() string { return string(w) }

func short(b []byte) string {
	b = bytes.TrimSpace(b)
	if len(b) > 200 {
		b = append(b[:200:200], "..."...)
	}
	return string(b)
}
