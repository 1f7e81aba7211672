package main

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestLargeReplies: a client that asks for megabytes many times and reads none of them
// has four of them made, whatever the tool, and holds up nobody else.
func TestLargeReplies(t *testing.T) {
	n := startNetwork(t, nil, "--default-sandbox", "on")
	ann, bob := n.client(annsToken), n.client(bobsToken)
	for _, r := range []*remote{ann, bob} {
		r.sh("head -c 6291456 /dev/zero > big; head -c 6291456 /dev/zero | tr '\\0' x > text")
	}
	const raw = `"io.modelcontextprotocol/clientCapabilities":{"experimental":{"mcp-sandbox/raw":{}}}`
	ask := func(ctx context.Context, r *remote, name string, args map[string]any) (*http.Response, error) {
		_, body, headers := r.message(name, args)
		if uri, _ := args["uri"].(string); uri != "" {
			body = strings.Replace(strings.Replace(body, `"tools/call"`, `"resources/read"`, 1), `"params":{`, `"params":{"uri":"`+uri+`",`, 1)
			headers[1], headers[2] = "Mcp-Method: resources/read", "Mcp-Name: "+uri
		}
		body = strings.Replace(body, `"io.modelcontextprotocol/clientCapabilities":{}`, raw, 1)
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				_ = conn.(*net.TCPConn).SetReadBuffer(4096)
			}
			return conn, err
		}}}
		return c.Do(r.request(ctx, http.MethodPost, body, headers...))
	}
	for _, c := range []struct {
		name string
		args map[string]any
	}{
		{"raw_read", map[string]any{"path": "big"}},
		{"raw_export", map[string]any{}},
		{"raw_exec", map[string]any{"cmd": "head -c 1000000 /dev/zero"}},
		{"read_file", map[string]any{"path": "big", "encoding": "base64", "limit": 6 << 20}},
		{"resources/read", map[string]any{"uri": "file:///text"}},
	} {
		var open []*http.Response
		for range 4 {
			resp, err := ask(t.Context(), ann, c.name, c.args)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatal(c.name, resp, err)
			}
			open = append(open, resp)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if resp, err := ask(ctx, ann, c.name, c.args); err == nil {
			t.Errorf("%s: a fifth answer has begun", c.name)
			resp.Body.Close()
		}
		cancel()
		if resp, err := ask(t.Context(), bob, c.name, c.args); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: another principal waits: %v", c.name, err)
		} else {
			resp.Body.Close()
		}
		ann.sh("true") // small ones go on
		for _, resp := range open {
			resp.Body.Close()
		}
		if resp, err := ask(t.Context(), ann, c.name, c.args); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: after the others had ended: %v", c.name, err)
		} else {
			resp.Body.Close()
		}
	}
}
