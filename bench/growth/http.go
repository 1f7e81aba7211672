package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"mcp-sandbox/bench/internal/proctree"
	"mcp-sandbox/bench/internal/stdio"
)

// network is a server that is asked over streamable HTTP.
type network struct {
	cmd  *exec.Cmd
	url  string
	said *stdio.Tail
}

func (l *lab) network(ctx context.Context, most int) (*network, error) {
	n := &network{said: &stdio.Tail{}}
	n.cmd = l.command("serve", "--transport", "http", "--listen", "127.0.0.1:0", "--no-auth", "--structured", "on",
		"--state-dir", filepath.Join(l.dir, "state"), "--default-sandbox", "off",
		"--max-sessions", fmt.Sprint(most), "--max-sessions-per-principal", fmt.Sprint(most), "--max-kept-per-principal", fmt.Sprint(most))
	n.cmd.Stderr = n.said
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	listens := regexp.MustCompile(`serves http on (?:http://)?([^\s/]+)`)
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if m := listens.FindStringSubmatch(n.said.String()); m != nil {
			n.url = "http://" + m[1] + "/mcp"
			return n, nil
		}
	}
	n.close()
	return nil, fmt.Errorf("the server does not listen: %s", n.said.LastLine())
}

func (n *network) close() {
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(time.Minute, func() { _ = n.cmd.Process.Kill() })
	_ = n.cmd.Wait()
	kill.Stop()
}

// session begins one and gives its id.
func (n *network) session(ctx context.Context) (string, error) {
	resp, _, err := n.post(ctx, "", map[string]any{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": map[string]any{
		"protocolVersion": "2025-11-25", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "bench", "version": "1"},
	}})
	if err != nil {
		return "", err
	}
	id := resp.Header.Get("Mcp-Session-Id")
	if id == "" {
		return "", errors.New("no session id")
	}
	_, _, err = n.post(ctx, id, map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"})
	return id, err
}

func (n *network) run(ctx context.Context, id, line string) error {
	_, body, err := n.post(ctx, id, map[string]any{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": map[string]any{
		"name": "exec_command", "arguments": map[string]any{"cmd": line},
	}})
	if err == nil && !bytes.Contains(body, []byte(`"exit_code":0`)) {
		err = fmt.Errorf("the command did not exit with 0: %s", stdio.FirstLine(string(body)))
	}
	return err
}

// errTooFast says that the server takes no more sessions at this moment.
var errTooFast = errors.New("429 Too Many Requests")

func (n *network) post(ctx context.Context, id string, message any) (*http.Response, []byte, error) {
	body, err := json.Marshal(message)
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if id != "" {
		req.Header.Set("Mcp-Session-Id", id)
		req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusTooManyRequests {
		return resp, answer, errTooFast
	}
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, stdio.FirstLine(string(answer)))
	}
	return resp, answer, err
}

func sessions(ctx context.Context, l *lab, sizes []int, columns []column) error {
	n, err := l.network(ctx, sizes[len(sizes)-1]+3)
	if err != nil {
		return err
	}
	defer n.close()
	pid := n.cmd.Process.Pid
	alone := proctree.PSS(proctree.Tree(pid))
	var ids []string
	begin := func() error {
		id, err := n.session(ctx)
		if err == nil {
			err = n.run(ctx, id, "true")
		}
		if err == nil {
			ids = append(ids, id)
		}
		return err
	}
	for _, size := range sizes {
		// The last three of each size are the ones measured.
		for len(ids) < size-3 {
			switch err := begin(); {
			case err == errTooFast:
				time.Sleep(time.Second) // Retry-After
			case err != nil:
				return fmt.Errorf("session %d: %w", len(ids), err)
			}
		}
		time.Sleep(time.Second) // so that none of those is refused
		first, err := median3(begin)
		if err != nil {
			return fmt.Errorf("session %d: %w", len(ids), err)
		}
		next, err := median3(func() error { return n.run(ctx, ids[0], "true") })
		if err != nil {
			return err
		}
		memory := float64(proctree.PSS(proctree.Tree(pid))-alone) / float64(len(ids)) / (1 << 20)
		add(columns, first, next, memory, idle(pid))
	}
	return nil
}
