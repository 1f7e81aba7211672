package serve

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
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

// TestOAuthOverHTTP: what a client sees of an issuer: its metadata, challenges with
// the scopes to ask for, and the tools that scopes allow.
func TestOAuthOverHTTP(t *testing.T) {
	key := rsaKey(t, 2048)
	i := newIssuer(t, public(key, "k", ""))
	a := i.oauth(t, OAuthOptions{Scopes: []string{"see=read-only", "edit=files", "all=all", "watch=process"}})
	h, url := startHTTP(t, Options{OAuth: a, AllowedOrigins: []string{"https://good.example"}})
	const at = `resource_metadata="https://sandbox.example.com/.well-known/oauth-protected-resource/mcp"`
	for _, path := range []string{"", "/mcp", "/mcp/name"} {
		resp, body := send(t, get(t, url+resourcePath+path), "Origin: https://good.example")
		var doc struct {
			Resource string   `json:"resource"`
			Servers  []string `json:"authorization_servers"`
			Scopes   []string `json:"scopes_supported"`
			Methods  []string `json:"bearer_methods_supported"`
		}
		if err := json.Unmarshal([]byte(body), &doc); err != nil || resp.StatusCode != 200 || doc.Resource != testAudience || len(doc.Servers) != 1 || doc.Servers[0] != i.URL || strings.Join(doc.Scopes, " ") != "see edit all watch" || doc.Methods[0] != "header" ||
			resp.Header.Get("Access-Control-Allow-Origin") != "https://good.example" || !strings.Contains(resp.Header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
			t.Errorf("%s: %s %s %v", path, resp.Status, body, err)
		}
	}
	if resp, body := send(t, get(t, url+"/.well-known/oauth-authorization-server")); resp.StatusCode != 404 || !strings.Contains(body, i.URL) {
		t.Error(resp.Status, body)
	}
	url += "/mcp"
	scoped := func(scope string) string {
		return "Authorization: Bearer " + i.token(t, jose.RS256, key, "k", map[string]any{"scope": scope, "sub": "s" + scope})
	}
	call := func(tool string) string {
		return `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"` + tool + `","arguments":{"sandbox_id":"none"}}}`
	}
	for _, c := range []struct {
		what, token, body string
		status            int
		has               []string
	}{
		{"none", "Authorization: ", initialize, 401, []string{at, `scope="see edit all watch"`}},
		{"a wrong one", "Authorization: Bearer a.b.c", initialize, 401, []string{`error="invalid_token"`, `error_description="`, at}},
		{"an old one", "Authorization: Bearer " + i.token(t, jose.RS256, key, "k", map[string]any{"exp": 1}), initialize, 401, []string{`error="invalid_token", error_description="the token has expired"`, at}},
		{"no scope", scoped("openid"), initialize, 403, []string{`error="insufficient_scope", scope="see edit all watch"`, at}},
		{"a fixed token", "Authorization: Bearer " + annToken, initialize, 200, nil},
		{"reading", scoped("see"), initialize, 200, nil},
	} {
		resp, body := post(t, url, c.body, c.token)
		got := resp.Header.Get("WWW-Authenticate")
		if resp.StatusCode != c.status || (len(c.has) == 0) != (got == "") {
			t.Errorf("%s: %s %s %s", c.what, resp.Status, got, body)
		}
		for _, part := range c.has {
			if !strings.Contains(got, part) {
				t.Errorf("%s: %s lacks %s", c.what, got, part)
			}
		}
	}
	for _, c := range []struct{ scopes, tool, need string }{
		{"see", "read_file", ""}, {"see", "write_file", "see edit"}, {"see", "exec_command", "see all"},
		{"edit", "write_file", ""}, {"edit", "exec_command", "edit all"}, {"see edit", "exec_command", "see edit all"}, {"all", "exec_command", ""}, {"see", "no_such_tool", ""}, {"watch", "list_processes", ""}, {"watch", "ls", "watch see"},
	} {
		token := scoped(c.scopes)
		resp, _ := post(t, url, initialize, token)
		id := "Mcp-Session-Id: " + resp.Header.Get("Mcp-Session-Id")
		resp, body := post(t, url, call(c.tool), token, id)
		if need := `insufficient_scope", scope="` + c.need + `"`; c.need == "" && resp.StatusCode != 200 || c.need != "" && (resp.StatusCode != 403 || !strings.Contains(resp.Header.Get("WWW-Authenticate"), need) || !strings.Contains(body, `"id":7`)) {
			t.Errorf("%s, %s: %s %s %s", c.scopes, c.tool, resp.Status, resp.Header.Get("WWW-Authenticate"), body)
		}
		_, list := post(t, url, `{"jsonrpc":"2.0","id":8,"method":"tools/list"}`, token, id)
		if listed := strings.Contains(list, `"name":"`+c.tool+`"`); listed != (c.need == "" && c.tool != "no_such_tool") {
			t.Errorf("%s, %s: listed %v", c.scopes, c.tool, listed)
		}
		_, body = post(t, url, `{"jsonrpc":"2.0","id":9,"method":"resources/read","params":{"uri":"file:///x?sandbox_id=none"}}`, token, id)
		if denied := strings.Contains(body, "permission_denied"); denied != (c.scopes == "watch") {
			t.Errorf("%s: %s", c.scopes, body)
		}
	}
	// A token of the same name in the file is somebody else.
	resp, _ := post(t, url, initialize, "Authorization: Bearer "+annToken)
	if resp, _ := post(t, url, call("ls"), "Authorization: Bearer "+i.token(t, jose.RS256, key, "k", map[string]any{"scope": "all"}), "Mcp-Session-Id: "+resp.Header.Get("Mcp-Session-Id")); resp.StatusCode != 404 {
		t.Error("a session of the token file's ann:", resp.Status)
	}
	// A stream ends with its token, a token that is renewed goes on with the session.
	short := "Authorization: Bearer " + i.token(t, jose.RS256, key, "k", map[string]any{"scope": "all", "exp": time.Now().Add(-clockSkew + 2*time.Second).Unix()})
	resp, _ = post(t, url, initialize, short)
	id := "Mcp-Session-Id: " + resp.Header.Get("Mcp-Session-Id")
	if resp, body := send(t, get(t, url), short, id, "Accept: text/event-stream"); resp.StatusCode != 200 || body != "" {
		t.Error(resp.Status, body)
	}
	if resp, _ := post(t, url, `{"jsonrpc":"2.0","id":8,"method":"ping"}`, short, id); resp.StatusCode != 401 {
		t.Error("an old token:", resp.Status)
	}
	renewed := "Authorization: Bearer " + i.token(t, jose.RS256, key, "k", map[string]any{"scope": "all"})
	if resp, _ := post(t, url, `{"jsonrpc":"2.0","id":8,"method":"ping"}`, renewed, id); resp.StatusCode != 200 {
		t.Error("a renewed token:", resp.Status)
	}
	i.set(func() { i.away = true })
	away, _ := NewOAuth(a.options)
	h.gate.oauth = away
	if resp, body := post(t, url, initialize, renewed); resp.StatusCode != 503 || resp.Header.Get("WWW-Authenticate") != "" || !strings.Contains(body, "cannot be reached") {
		t.Error("the issuer is away:", resp.Status, body)
	}
	if resp, _ := post(t, url, initialize, "Authorization: Bearer "+annToken); resp.StatusCode != 200 {
		t.Error("the issuer is away, a fixed token:", resp.Status)
	}
}

func get(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
