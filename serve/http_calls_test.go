package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/tools"
)

func modernCall(id int, tool, args string) (body string, headers []string) {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":"p%d","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`, id, tool, args, id),
		[]string{"Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: " + tool}
}

// TestNotificationsBeforeResult: a call's last notification is on the wire
// before its result, in both eras, also when it was sent right before.
func TestNotificationsBeforeResult(t *testing.T) {
	h, url := startHTTP(t, Options{})
	h.server.MCP().AddTool(mcp.NewTool("note"), func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for i := range 3 {
			err := tools.CallerOf(ctx).Notifier.Notify(mcp.JSONRPCNotification{JSONRPC: mcp.JSONRPC_VERSION, Notification: mcp.Notification{
				Method: "notifications/progress", Params: mcp.NotificationParams{AdditionalFields: map[string]any{"progressToken": req.Params.Meta.ProgressToken, "progress": i}},
			}})
			if err != nil {
				t.Error(err)
			}
		}
		return mcp.NewToolResultText("done"), nil
	})
	id := begin(t, url+"/mcp")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				n := w*1000 + i
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"note","_meta":{"progressToken":"p%d"}}}`, n, n)
				headers := []string{"Mcp-Session-Id: " + id}
				if w%2 == 1 {
					body, headers = modernCall(n, "note", "{}")
				}
				resp, text := post(t, url+"/mcp", body, headers...)
				if resp.Header.Get("Content-Type") != "text/event-stream" {
					t.Fatalf("%s %v %s", resp.Status, resp.Header, text)
				}
				events := strings.Split(strings.TrimSpace(text), "\n\n")
				if len(events) != 4 {
					t.Fatalf("%d events: %s", len(events), text)
				}
				for k, e := range events {
					want := fmt.Sprintf(`"progressToken":"p%d"`, n)
					if k == 3 {
						want = fmt.Sprintf(`"id":%d`, n)
					}
					if !strings.HasPrefix(e, "event: message\ndata: {") || !strings.Contains(e, want) {
						t.Fatalf("event %d of call %d: %s", k, n, e)
					}
				}
			}
		})
	}
	wg.Wait()
}

// waiter is a tool that waits until it is cancelled or released.
func waiter(h *HTTP) (entered chan string, release chan bool) {
	entered, release = make(chan string, 16), make(chan bool)
	h.server.MCP().AddTool(mcp.NewTool("wait", mcp.WithString("who")), func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		who := req.GetString("who", "")
		entered <- who
		select {
		case <-ctx.Done():
			entered <- who + " cancelled"
			return nil, ctx.Err()
		case <-release:
			return mcp.NewToolResultText("released " + who), nil
		}
	})
	return entered, release
}

func expect(t *testing.T, ch <-chan string, want string) {
	t.Helper()
	select {
	case got := <-ch:
		if got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%q did not come", want)
	}
}

// TestCancelsDoNotCross is AC-51 and a fault of the library: in the protocol
// without sessions one client's cancel ended another's call with the same id.
// There the cancel is the closed request; with a session a cancel reaches that
// session's call alone, and a broken connection is none.
func TestCancelsDoNotCross(t *testing.T) {
	h, url := startHTTP(t, Options{})
	entered, release := waiter(h)
	url += "/mcp"
	answers := make(chan string, 4)
	call := func(who string) {
		body, headers := modernCall(1, "wait", `{"who":"`+who+`"}`)
		go func() { _, text := post(t, url, body, headers...); answers <- text }()
		expect(t, entered, who)
	}
	call("ann")
	cancel := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	if resp, body := post(t, url, cancel, "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: notifications/cancelled", "Authorization: Bearer "+bobToken); resp.StatusCode != 202 {
		t.Errorf("a modern cancel: %s %s", resp.Status, body)
	}
	release <- true
	if text := <-answers; !strings.Contains(text, "released ann") {
		t.Errorf("ann's call: %s", text)
	}

	// The closed request.
	body, headers := modernCall(2, "wait", `{"who":"gone"}`)
	ctx, hangUp := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	for _, hd := range append(headers, "Content-Type: application/json", "Authorization: Bearer "+annToken) {
		name, value, _ := strings.Cut(hd, ": ")
		r.Header.Set(name, value)
	}
	go func() { _, _ = http.DefaultClient.Do(r) }()
	expect(t, entered, "gone")
	hangUp()
	expect(t, entered, "gone cancelled")

	// With sessions: two clients, both with a call of id 5.
	a, b := begin(t, url), begin(t, url)
	for who, id := range map[string]string{"a": a, "b": b} {
		go func() {
			_, text := post(t, url, `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"wait","arguments":{"who":"`+who+`"}}}`, "Mcp-Session-Id: "+id)
			answers <- text
		}()
		expect(t, entered, who)
	}
	post(t, url, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}`, "Mcp-Session-Id: "+b)
	expect(t, entered, "b cancelled")
	<-answers
	release <- true
	if text := <-answers; !strings.Contains(text, "released a") {
		t.Errorf("a's call: %s", text)
	}

	// A broken connection ends no call of a session; its DELETE does.
	ctx, hangUp = context.WithCancel(t.Context())
	r, _ = http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"wait","arguments":{"who":"c"}}}`))
	for _, hd := range []string{"Content-Type: application/json", "Authorization: Bearer " + annToken, "Mcp-Session-Id: " + a} {
		name, value, _ := strings.Cut(hd, ": ")
		r.Header.Set(name, value)
	}
	go func() { _, _ = http.DefaultClient.Do(r) }()
	expect(t, entered, "c")
	hangUp()
	select {
	case got := <-entered:
		t.Fatalf("%q after a broken connection", got)
	case <-time.After(100 * time.Millisecond):
	}
	r, _ = http.NewRequest(http.MethodDelete, url, nil)
	if resp, _ := send(t, r, "Mcp-Session-Id: "+a, "Authorization: Bearer "+annToken); resp.StatusCode != 200 {
		t.Errorf("DELETE: %s", resp.Status)
	}
	expect(t, entered, "c cancelled")
}

// TestSSEEnds: a stream's end is the end of its calls and of its id.
func TestSSEEnds(t *testing.T) {
	h, url := startHTTP(t, Options{Transport: "sse"})
	entered, _ := waiter(h)
	ctx, hangUp := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, url+"/sse", nil)
	r.Header.Set("Authorization", "Bearer "+annToken)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("every page may read the stream")
	}
	lines := bufio.NewScanner(resp.Body)
	next := func() string {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return strings.TrimSpace(data)
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return ""
	}
	endpoint := next()
	if !strings.HasPrefix(endpoint, "/message?sessionId=") {
		t.Fatalf("endpoint %q", endpoint)
	}
	for _, c := range []struct {
		what, path, header string
		want               int
	}{
		{"another principal", endpoint, "Authorization: Bearer " + bobToken, 404},
		{"no token", endpoint, "Authorization: ", 401},
		{"an invented id", "/message?sessionId=1", "X-Nothing: 1", 404},
		{"no id", "/message", "X-Nothing: 1", 404},
		{"text", endpoint, "Content-Type: text/plain", 415},
		{"a foreign page", endpoint, "Origin: https://evil.example", 403},
	} {
		if resp, _ := post(t, url+c.path, initialize, c.header); resp.StatusCode != c.want {
			t.Errorf("%s: %s", c.what, resp.Status)
		}
	}
	if resp, _ := post(t, url+endpoint, initialize); resp.StatusCode != 202 {
		t.Fatal(resp.Status)
	}
	if got := next(); !strings.Contains(got, "protocolVersion") {
		t.Fatal(got)
	}
	post(t, url+endpoint, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"wait","arguments":{"who":"x"}}}`)
	expect(t, entered, "x")
	hangUp()
	expect(t, entered, "x cancelled")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if resp, _ := post(t, url+endpoint, initialize); resp.StatusCode == 404 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the id after its stream: %s", resp.Status)
		}
	}
}

// TestHeldConnections: connections that only wait give way to new ones, and a
// call at work keeps its own.
func TestHeldConnections(t *testing.T) {
	h, url := startHTTP(t, Options{MaxConns: 8})
	entered, release := waiter(h)
	id := begin(t, url+"/mcp")
	answer := make(chan string, 1)
	go func() {
		_, text := post(t, url+"/mcp", `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"wait","arguments":{"who":"a"}}}`, "Mcp-Session-Id: "+id)
		answer <- text
	}()
	expect(t, entered, "a")
	for range 40 {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
	}
	if resp, _ := post(t, url+"/mcp", `{"jsonrpc":"2.0","id":7,"method":"ping"}`, "Mcp-Session-Id: "+id); resp.StatusCode != 200 {
		t.Errorf("beside the slow ones: %s", resp.Status)
	}
	release <- true
	if text := <-answer; !strings.Contains(text, "released a") {
		t.Error(text)
	}
	h.conns.mu.Lock()
	defer h.conns.mu.Unlock()
	if n := len(h.conns.conns); n > 8 {
		t.Errorf("%d connections", n)
	}
}

// TestTooManyCalls: one principal's requests at once are bounded, another's are
// not touched.
func TestTooManyCalls(t *testing.T) {
	h, url := startHTTP(t, Options{MaxCalls: 2})
	entered, release := waiter(h)
	id := begin(t, url+"/mcp")
	answers := make(chan string, 2)
	for i := range 2 {
		go func() {
			_, text := post(t, url+"/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"wait","arguments":{"who":"a"}}}`, i), "Mcp-Session-Id: "+id)
			answers <- text
		}()
		expect(t, entered, "a")
	}
	if resp, _ := post(t, url+"/mcp", initialize); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the third: %s", resp.Status)
	}
	begin(t, url+"/mcp", "Authorization: Bearer "+bobToken)
	for range 2 {
		release <- true
		<-answers
	}
	begin(t, url+"/mcp")
}

// TestTooManyNew: sessions begun without end are refused soon, another
// principal's are not, and with time they are taken again.
func TestTooManyNew(t *testing.T) {
	h, url := startHTTP(t, Options{MaxNew: 16})
	later := time.Duration(0)
	now := h.signer.now()
	h.signer.now = func() time.Time { return now.Add(later) }
	for range 16 {
		begin(t, url+"/mcp")
	}
	if resp, _ := post(t, url+"/mcp", initialize); resp.StatusCode != 429 {
		t.Errorf("the seventeenth: %s", resp.Status)
	}
	begin(t, url+"/mcp", "Authorization: Bearer "+bobToken)
	later = time.Second
	begin(t, url+"/mcp")
	begin(t, url+"/mcp")
	if resp, _ := post(t, url+"/mcp", initialize); resp.StatusCode != 429 {
		t.Errorf("after a second: %s", resp.Status)
	}
}
