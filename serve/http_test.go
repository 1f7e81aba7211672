package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
	"mcp-sandbox/tools"
)

// noLauncher is for tests in which no sandbox may be started.
type noLauncher struct{ t *testing.T }

func (l noLauncher) Start(context.Context, sandbox.Policy, session.Callbacks) (sandbox.Sandbox, error) {
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
func startHTTP(t *testing.T, o Options) (*HTTP, string) {
	t.Helper()
	m, err := session.NewManager(session.Config{StateDir: filepath.Join(t.TempDir(), "state"), NameOf: session.KeptName, MaxAge: time.Hour}, noLauncher{t})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	s, err := tools.New(m, tools.Options{Remote: true})
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

// TestGate is AC-58, AC-59, AC-60 and, with no answer a page could show, AC-65: who comes from the wrong place, for the
// wrong name or without a token is refused, on every endpoint, before the body.
func TestGate(t *testing.T) {
	_, url := startHTTP(t, Options{AllowedHosts: []string{"box.example"}, AllowedOrigins: []string{"https://good.example"}})
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
		if ct := resp.Header.Get("Content-Type"); strings.Contains(ct, "html") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: Content-Type %q, a browser may show it", c.what, ct)
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
	_, url := startHTTP(t, Options{})
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
