package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// sseClient is one client of the transport of protocol 2024-11-05.
type sseClient struct {
	r           *remote
	path, query string // where messages go
	lines       *bufio.Scanner
	next        int
	hangUp      context.CancelFunc
}

// stream opens a stream and begins an MCP session on it.
func (n *network) stream(token, path string) *sseClient {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n.t.Cleanup(cancel)
	s := &sseClient{r: n.client(token), hangUp: cancel, next: 1}
	req := s.r.request(ctx, http.MethodGet, "")
	req.URL.Path = path
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { resp.Body.Close() })
	s.lines = bufio.NewScanner(resp.Body)
	s.lines.Buffer(nil, 1<<20)
	s.path, s.query, _ = strings.Cut(s.event(), "?")
	s.say(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`)
	s.event()
	s.say(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return s
}

// event is the data of the next one.
func (s *sseClient) event() string {
	s.r.n.t.Helper()
	for s.lines.Scan() {
		if data, ok := strings.CutPrefix(s.lines.Text(), "data: "); ok {
			return strings.TrimSpace(data)
		}
	}
	s.r.n.t.Fatalf("the stream ended: %v\n%s", s.lines.Err(), s.r.n.stderr)
	return ""
}

func (s *sseClient) say(body string) {
	s.r.n.t.Helper()
	req := s.r.request(context.Background(), http.MethodPost, body)
	req.URL.Path, req.URL.RawQuery = s.path, s.query
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 202 {
		s.r.n.t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
}

// exec gives a command's output.
func (s *sseClient) exec(cmd string) string {
	s.r.n.t.Helper()
	s.next++
	args, _ := json.Marshal(map[string]any{"cmd": cmd})
	s.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"exec_command","arguments":%s}}`, s.next, args))
	var m message
	if err := json.Unmarshal([]byte(s.event()), &m); err != nil {
		s.r.n.t.Fatal(err)
	}
	var res toolResult
	if err := json.Unmarshal(m.Result, &res); err != nil || res.IsError {
		s.r.n.t.Fatalf("%s: %v %s", cmd, err, m.Result)
	}
	return outcome(s.r.n.t, res).Output
}

// TestSSEDiscover: a client that asks before it begins is not sent to a protocol
// whose calls this transport refuses.
func TestSSEDiscover(t *testing.T) {
	n := startNetwork(t, nil, "--transport", "sse")
	s := n.stream(annsToken, "/sse")
	s.say(`{"jsonrpc":"2.0","id":7,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`)
	got := s.event()
	if !strings.Contains(got, `"2025-11-25"`) || strings.Contains(got, `"2026-07-28"`) {
		t.Errorf("%s", got)
	}
	s.hangUp()
	n.stop()
}

// TestSSECancelledIsNotAnswered: as on the other transports.
func TestSSECancelledIsNotAnswered(t *testing.T) {
	n := startNetwork(t, nil, "--transport", "sse")
	s := n.stream(annsToken, "/sse")
	for _, id := range []string{`70`, `"seventy"`, `"\u0041b"`} {
		s.say(`{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":"touch started; sleep 1000"}}}`)
		waitFor(t, "the command", func() bool { return strings.Contains(s.exec("ls"), "started") })
		s.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `}}`)
		// exec takes the next event: it would be the answer.
		waitFor(t, "the end of the command", func() bool {
			s.exec("rm -f started")
			return s.exec("grep -la '[s]leep.1000' /proc/[0-9]*/cmdline 2>/dev/null; true") == ""
		})
	}
	// An id that was cancelled too late is answered when it is used again.
	s.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":70}}`)
	s.say(`{"jsonrpc":"2.0","id":70,"method":"ping"}`)
	if got := s.event(); !strings.Contains(got, `"id":70`) {
		t.Errorf("%s", got)
	}
	s.hangUp()
	n.stop()
}
