package serve

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestOAuthIsRefused: a client that looks for an authorization server learns that
// there is none, in the shape it reads, and a wrong token is called unknown.
func TestOAuthIsRefused(t *testing.T) {
	for _, transport := range []string{"http", "sse"} {
		_, url := startHTTP(t, Options{Transport: transport})
		for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/mcp/.well-known/openid-configuration", "/.well-known"} {
			r, _ := http.NewRequest(http.MethodGet, url+path, nil)
			if resp, body := send(t, r); resp.StatusCode != 404 || !strings.Contains(body, "bearer token") {
				t.Errorf("%s: %s %s", path, resp.Status, body)
			}
			if resp, _ := send(t, r, "Origin: https://evil.example"); resp.StatusCode != 403 {
				t.Errorf("%s from a foreign page: %s", path, resp.Status)
			}
			r, _ = http.NewRequest(http.MethodGet, url+path, nil)
			r.Host = "evil.example"
			if resp, _ := send(t, r); resp.StatusCode != 403 {
				t.Errorf("%s under a foreign name: %s", path, resp.Status)
			}
		}
		for _, path := range oauthPaths {
			resp, body := post(t, url+path, "{}", "Authorization: ")
			var e struct {
				Error       string `json:"error"`
				Description string `json:"error_description"`
			}
			if err := json.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != 400 || e.Error != "access_denied" || !strings.Contains(e.Description, "Authorization: Bearer") {
				t.Errorf("%s: %s %s", path, resp.Status, body)
			}
		}
		for token, want := range map[string]string{"Authorization: ": "a bearer token is needed", "Authorization: Bearer wrong": "unknown token", "Authorization: Basic d3Jvbmc=": "unknown token"} {
			resp, body := post(t, url+"/mcp", initialize, token)
			if resp.StatusCode != 401 || !strings.Contains(body, want) {
				t.Errorf("%s: %s %s", token, resp.Status, body)
			}
		}
	}
}

// TestCancelledIsNotAnswered: after a cancel the request ends without a response.
func TestCancelledIsNotAnswered(t *testing.T) {
	h, url := startHTTP(t, Options{})
	url += "/mcp"
	entered, _ := waiter(h)
	id := begin(t, url)
	ended := make(chan string, 1)
	for _, key := range []string{`5`, `"five"`} {
		go func() {
			resp, text := post(t, url, `{"jsonrpc":"2.0","id":`+key+`,"method":"tools/call","params":{"name":"wait","arguments":{"who":"a"}}}`, "Mcp-Session-Id: "+id)
			ended <- resp.Status + resp.Header.Get("Content-Type") + text
		}()
		expect(t, entered, "a")
		post(t, url, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+key+`}}`, "Mcp-Session-Id: "+id)
		expect(t, entered, "a cancelled")
		if got := <-ended; got != "200 OKtext/event-stream" {
			t.Errorf("request %s: %q", key, got)
		}
	}
}
