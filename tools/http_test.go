package tools

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

// noLauncher is for tests in which no sandbox may be started.
type noLauncher struct{ t *testing.T }

func (l noLauncher) Start(context.Context, session.Confinement) (session.Sandbox, error) {
	l.t.Error("a sandbox was started")
	return nil, errors.New("no sandbox")
}

// tokens of the principals of startHTTP.
const (
	annToken = "ann-0123456789abcdef"
	bobToken = "bob-0123456789abcdef"
)

// startHTTP serves in this process; what is tested is the transport, so tools
// are added by the test and no sandbox starts.
func startHTTP(t *testing.T, o HTTPOptions) (*HTTP, string) {
	t.Helper()
	m, err := session.NewManager(session.Config{StateDir: filepath.Join(t.TempDir(), "state"), NameOf: session.KeptName, MaxAge: time.Hour}, noLauncher{t})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	s, err := New(m, Options{Remote: true})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tokens")
	writeTokens(t, file, "ann:"+annToken+"\nbob:"+bobToken+"\n")
	if o.Principals, err = LoadPrincipals(file, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	h, err := NewHTTP(s, o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return h, "http://" + l.Addr().String()
}

func writeTokens(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// post sends a message as a client would; headers are "Name: value".
func post(t *testing.T, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Authorization", "Bearer "+annToken)
	return send(t, r, headers...)
}

func send(t *testing.T, r *http.Request, headers ...string) (*http.Response, string) {
	t.Helper()
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		switch {
		case name == "Host":
			r.Host = value
		case value == "":
			r.Header.Del(name)
		default:
			r.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`

func begin(t *testing.T, url string, headers ...string) (id string) {
	t.Helper()
	resp, body := post(t, url, initialize, headers...)
	if id = resp.Header.Get("Mcp-Session-Id"); resp.StatusCode != 200 || id == "" {
		t.Fatalf("initialize: %s %s", resp.Status, body)
	}
	return id
}

// TestGate is AC-58, AC-59 and AC-60: who comes from the wrong place, for the
// wrong name or without a token is refused, on every endpoint, before the body.
func TestGate(t *testing.T) {
	_, url := startHTTP(t, HTTPOptions{AllowedHosts: []string{"box.example"}, AllowedOrigins: []string{"https://good.example"}})
	port := url[strings.LastIndexByte(url, ':')+1:]
	for _, c := range []struct {
		what   string
		want   int
		header string
	}{
		{"as it should be", 200, "X-Nothing: 1"},
		{"a rebound name", 403, "Host: evil.test"},
		{"a rebound name with the port", 403, "Host: evil.test:" + port},
		{"a name that begins well", 403, "Host: localhost.evil"},
		{"a name that ends well", 403, "Host: evil-localhost"},
		{"another address", 403, "Host: 10.0.0.1"},
		{"all addresses", 403, "Host: 0.0.0.0:" + port},
		{"a user part", 403, "Host: localhost@evil.test"},
		{"loopback by IPv6", 200, "Host: [::1]:" + port},
		{"loopback mapped", 200, "Host: [::ffff:127.0.0.1]:" + port},
		{"loopback by name", 200, "Host: LOCALHOST:" + port},
		{"an allowed name", 200, "Host: box.example:1"},
		{"below an allowed name", 403, "Host: a.box.example"},
		{"a foreign page", 403, "Origin: https://evil.example"},
		{"a page that hides its origin", 403, "Origin: null"},
		{"an allowed page", 200, "Origin: https://good.example"},
		{"an allowed page's other scheme", 403, "Origin: http://good.example"},
		{"another program's page on this machine", 403, "Origin: http://127.0.0.1:1"},
		{"no token", 401, "Authorization: "},
		{"a wrong token", 401, "Authorization: Bearer ann-0123456789abcdeF"},
		{"half a token", 401, "Authorization: Bearer ann-0123456789"},
		{"another scheme", 401, "Authorization: Basic " + annToken},
		{"no scheme", 401, "Authorization: " + annToken},
		{"a form", 415, "Content-Type: application/x-www-form-urlencoded"},
		{"text", 415, "Content-Type: text/plain"},
		{"no type", 415, "Content-Type: "},
		{"compressed", 415, "Content-Encoding: gzip"},
		{"JSON with a charset", 200, "Content-Type: application/json; charset=utf-8"},
	} {
		resp, body := post(t, url+"/mcp", initialize, c.header)
		if resp.StatusCode != c.want {
			t.Errorf("%s: %s, want %d: %s", c.what, resp.Status, c.want, body)
		}
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got == "*" || got != "" && got != "https://good.example" {
			t.Errorf("%s: pages of %q may read the answer", c.what, got)
		}
		if c.want == 401 && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s: no challenge", c.what)
		}
		if strings.Contains(body, annToken) {
			t.Errorf("%s: the answer carries the token", c.what)
		}
	}
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics", "/mcp", "/sse", "/message"} {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS", "HEAD"} {
			for _, h := range []string{"Host: evil.test", "Origin: https://evil.example"} {
				r, _ := http.NewRequest(method, url+path, nil)
				r.Header.Set("Authorization", "Bearer "+annToken)
				if resp, _ := send(t, r, h); resp.StatusCode != http.StatusForbidden {
					t.Errorf("%s %s with %s: %s", method, path, h, resp.Status)
				}
			}
		}
	}
	// Tokens in addresses end up in logs.
	r, _ := http.NewRequest(http.MethodPost, url+"/mcp?access_token="+annToken+"&token="+annToken, strings.NewReader(initialize))
	r.Header.Set("Content-Type", "application/json")
	if resp, _ := send(t, r); resp.StatusCode != 401 {
		t.Errorf("a token in the address: %s", resp.Status)
	}
	r, _ = http.NewRequest(http.MethodOptions, url+"/mcp", nil)
	if resp, _ := send(t, r, "Origin: https://good.example", "Access-Control-Request-Method: POST"); resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Origin") != "https://good.example" {
		t.Errorf("the preflight of an allowed page: %s %v", resp.Status, resp.Header)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		r, _ := http.NewRequest(http.MethodGet, url+path, nil)
		if resp, _ := send(t, r); resp.StatusCode != 200 {
			t.Errorf("%s without a token: %s", path, resp.Status)
		}
	}
}

// TestMessages is AC-63: what is too long, too deep, spelled differently or no
// message at all is refused with a reason, and the server goes on.
func TestMessages(t *testing.T) {
	_, url := startHTTP(t, HTTPOptions{})
	url += "/mcp"
	deep := func(n int) string { return strings.Repeat(`[`, n) + strings.Repeat(`]`, n) }
	for _, c := range []struct {
		what, body string
		want       int
	}{
		{"a key in capitals", `{"jsonrpc":"2.0","id":1,"Method":"ping"}`, 400},
		{"the method twice, by case", `{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":"tools/list"}`, 400},
		{"a batch", `[` + initialize + `]`, 400},
		{"no JSON", `initialize`, 400},
		{"nothing", ``, 400},
		{"two messages", initialize + initialize, 400},
		{"an id that is null", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, 400},
		{"another version", `{"jsonrpc":"1.0","id":1,"method":"ping"}`, 400},
		{"deep", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"x":` + deep(10_000) + `}}`, 400},
		{"deep in a string", strings.Replace(initialize, `"name":"t"`, `"name":"`+strings.Repeat(`[{\"`, 500)+`"`, 1), 200},
		{"17 MiB", `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"` + strings.Repeat("a", 17<<20) + `"}}`, 413},
	} {
		resp, body := post(t, url, c.body)
		if resp.StatusCode != c.want {
			t.Errorf("%s: %s, want %d: %.200s", c.what, resp.Status, c.want, body)
		}
		var e struct {
			Error struct{ Message string }
		}
		if err := json.Unmarshal([]byte(body), &e); c.want >= 400 && (err != nil || e.Error.Message == "") {
			t.Errorf("%s: no JSON-RPC error: %s", c.what, body)
		}
	}
	// Endless and of no stated length.
	r, _ := http.NewRequest(http.MethodPost, url, io.LimitReader(zeros{}, 1<<30))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+annToken)
	resp, err := http.DefaultClient.Do(r)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("an endless body: %s", resp.Status)
		}
	}
	begin(t, url)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestSessionIDs is AC-48, AC-50 and AC-62: only an id that the server gave to
// this principal leads anywhere, also on a GET, and not after its end.
func TestSessionIDs(t *testing.T) {
	h, url := startHTTP(t, HTTPOptions{})
	url += "/mcp"
	ping := `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	id := begin(t, url)
	if resp, body := post(t, url, ping, "Mcp-Session-Id: "+id); resp.StatusCode != 200 {
		t.Fatalf("ping: %s %s", resp.Status, body)
	}
	changed := []byte(id)
	changed[20] ^= 1
	other := newMint([]byte("another server"), 0).make("ann", "")
	old := newMint(nil, 0)
	old.key, old.now = h.mint.key, func() time.Time { return time.Now().Add(-2 * time.Hour) }
	for what, c := range map[string]struct {
		id   string
		want int
	}{
		"none":                  {"", 400},
		"invented":              {"mcp-session-0b5c3b5e-7b6e-4c5e-9d9c-0123456789ab", 404},
		"a changed one":         {string(changed), 404},
		"of another server":     {other, 404},
		"with more behind":      {id + "A", 404},
		"past its age":          {old.make("ann", ""), 404},
		"the root of all paths": {"../../../../etc/passwd", 404},
	} {
		if resp, body := post(t, url, ping, "Mcp-Session-Id: "+c.id); resp.StatusCode != c.want {
			t.Errorf("%s: %s %s", what, resp.Status, body)
		}
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			r, _ := http.NewRequest(method, url, nil)
			r.Header.Set("Authorization", "Bearer "+annToken)
			r.Header.Set("Accept", "text/event-stream")
			r.Header.Set("Last-Event-ID", "1")
			if resp, _ := send(t, r, "Mcp-Session-Id: "+c.id); resp.StatusCode != c.want {
				t.Errorf("%s %s: %s", method, what, resp.Status)
			}
		}
	}
	// Bob holds Ann's id and a token of his own.
	bob := "Authorization: Bearer " + bobToken
	if resp, _ := post(t, url, ping, "Mcp-Session-Id: "+id, bob); resp.StatusCode != 404 {
		t.Errorf("another principal's id: %s", resp.Status)
	}
	r, _ := http.NewRequest(http.MethodDelete, url, nil)
	if resp, _ := send(t, r, "Mcp-Session-Id: "+id, bob); resp.StatusCode != 404 {
		t.Errorf("another principal's DELETE: %s", resp.Status)
	}
	if resp, _ := post(t, url, ping, "Mcp-Session-Id: "+id); resp.StatusCode != 200 {
		t.Errorf("the session after the attack: %s", resp.Status)
	}
	r, _ = http.NewRequest(http.MethodDelete, url, nil)
	if resp, _ := send(t, r, "Mcp-Session-Id: "+id, "Authorization: Bearer "+annToken); resp.StatusCode != 200 {
		t.Errorf("DELETE: %s", resp.Status)
	}
	if resp, _ := post(t, url, ping, "Mcp-Session-Id: "+id); resp.StatusCode != 404 {
		t.Errorf("after DELETE: %s", resp.Status)
	}
}

// TestJunkSessions: ten thousand that only say hello leave no more than the
// table's bound behind, in it and in the library.
func TestJunkSessions(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 2 * maxOwnConnections
	}
	h, url := startHTTP(t, HTTPOptions{})
	first := begin(t, url+"/mcp", "Authorization: Bearer "+bobToken)
	var wg sync.WaitGroup
	work := make(chan bool)
	for range 4 {
		wg.Go(func() {
			for range work {
				rec := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/mcp", strings.NewReader(initialize))
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Authorization", "Bearer "+annToken)
				h.ServeHTTP(rec, r)
				if rec.Code != 200 {
					t.Errorf("initialize: %d %s", rec.Code, rec.Body)
				}
			}
		})
	}
	for range n {
		work <- true
	}
	close(work)
	wg.Wait()
	h.open.mu.Lock()
	held := len(h.open.byID)
	_, bobs := h.open.byID[first]
	h.open.mu.Unlock()
	if held > maxOwnConnections+1 || !bobs {
		t.Errorf("%d connections are held, bob's among them: %v", held, bobs)
	}
	if resp, _ := post(t, url+"/mcp", `{"jsonrpc":"2.0","id":7,"method":"ping"}`, "Mcp-Session-Id: "+first, "Authorization: Bearer "+bobToken); resp.StatusCode != 200 {
		t.Errorf("bob after the flood: %s", resp.Status)
	}
}

func modernCall(id int, tool, args string) (body string, headers []string) {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":"p%d","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`, id, tool, args, id),
		[]string{"Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: " + tool}
}

// TestNotificationsBeforeResult: a call's last notification is on the wire
// before its result, in both eras, also when it was sent right before.
func TestNotificationsBeforeResult(t *testing.T) {
	h, url := startHTTP(t, HTTPOptions{})
	h.server.mcp.AddTool(mcp.NewTool("note"), func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for i := range 3 {
			h.server.notify(ctx, "notifications/progress", map[string]any{"progressToken": req.Params.Meta.ProgressToken, "progress": i})
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
	h.server.mcp.AddTool(mcp.NewTool("wait", mcp.WithString("who")), func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
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
	h, url := startHTTP(t, HTTPOptions{})
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
	h, url := startHTTP(t, HTTPOptions{Transport: "sse"})
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
	h, url := startHTTP(t, HTTPOptions{MaxConns: 8})
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
	h, url := startHTTP(t, HTTPOptions{MaxCalls: 2})
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

func TestTokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	log := slog.New(slog.DiscardHandler)
	for what, text := range map[string]string{
		"empty":           "\n# nobody\n",
		"no name":         "0123456789abcdef0123\n",
		"a short token":   "ann:short\n",
		"a space":         "ann:0123456789 abcdef\n",
		"the same twice":  "ann:0123456789abcdef\nbob:0123456789abcdef\n",
		"a name of paths": "../x:0123456789abcdef\n",
	} {
		writeTokens(t, file, text)
		if _, err := LoadPrincipals(file, log); codeOf(err) != "invalid_argument" || strings.Contains(err.Error(), "0123456789") {
			t.Errorf("%s: %v", what, err)
		}
	}
	writeTokens(t, file, "ann:"+annToken+"\n")
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPrincipals(file, log); codeOf(err) != "permission_denied" {
		t.Errorf("open to the group: %v", err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := LoadPrincipals(file, log)
	if err != nil {
		t.Fatal(err)
	}
	who := func(token string) string { p.checked = time.Time{}; name, _ := p.Lookup(token); return name }
	if who(annToken) != "ann" || who("") != "" || who("ann") != "" {
		t.Error("the wrong principal")
	}
	// Taken back, and given to another, without a restart.
	writeTokens(t, file, "bob:"+bobToken+"0\n")
	if who(annToken) != "" || who(bobToken+"0") != "bob" {
		t.Error("the old tokens are in force")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if who(bobToken+"0") != "" {
		t.Error("a file that is gone lets in")
	}
	for _, bad := range []string{"", "*", "http://x", "a/b", "a b", "*.example"} {
		if CheckHost(bad) == nil {
			t.Errorf("allowed-host %q", bad)
		}
	}
	for _, bad := range []string{"", "*", "null", "good.example", "https://good.example/path", "https://*.example"} {
		if CheckOrigin(bad) == nil {
			t.Errorf("allowed-origin %q", bad)
		}
	}
}
