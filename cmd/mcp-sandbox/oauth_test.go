package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// TestOAuthServer: the built server with an issuer and without a token file: the way
// from its metadata to a call, whose files are the principal's.
func TestOAuthServer(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewUnstartedServer(nil)
	issuer.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys"})
	})
	issuer.Start()
	defer issuer.Close()
	token := func(sub, scope string) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(map[string]any{"iss": issuer.URL, "aud": "https://box.example/mcp", "sub": sub, "scope": scope, "exp": time.Now().Add(time.Hour).Unix()})
		signed, err := s.Sign(text)
		if err != nil {
			t.Fatal(err)
		}
		out, _ := signed.CompactSerialize()
		return out
	}
	n := &network{t: t, state: filepath.Join(t.TempDir(), "state"), temp: t.TempDir()}
	openPath(t, n.temp)
	n.cmd = exec.Command(binary, "serve", "--transport", "http", "--listen", "127.0.0.1:0", "--state-dir", n.state,
		"--oauth-issuer", issuer.URL, "--oauth-audience", "https://box.example/mcp", "--oauth-scope", "box=all", "--oauth-scope", "look=read-only")
	n.launch()
	if strings.Contains(n.stderr.String(), "http-token") {
		t.Error("a token was made:", n.stderr)
	}
	call := func(token, host, command string) (int, string, string) {
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":"` + command + `"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
		r, _ := http.NewRequest(http.MethodPost, n.url+"/mcp", strings.NewReader(body))
		r.Host = host
		for name, v := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "exec_command", "Authorization": "Bearer " + token} {
			r.Header.Set(name, v)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var b bytes.Buffer
		_, _ = b.ReadFrom(resp.Body)
		return resp.StatusCode, resp.Header.Get("WWW-Authenticate"), b.String()
	}
	if status, challenge, _ := call("", "box.example", "true"); status != 401 || !strings.Contains(challenge, `scope="box look", resource_metadata="https://box.example/.well-known/oauth-protected-resource/mcp"`) {
		t.Error(status, challenge)
	}
	if status, _, text := call(token("ann", "box"), "box.example", "echo of ann > f; echo done"); status != 200 || !strings.Contains(text, "done") {
		t.Error(status, text)
	}
	if _, _, text := call(token("ann", "box"), "127.0.0.1", "cat f"); !strings.Contains(text, "of ann") {
		t.Error(text)
	}
	if _, _, text := call(token("bob", "box"), "127.0.0.1", "cat f"); strings.Contains(text, "of ann") {
		t.Error("another principal sees the file:", text)
	}
	if status, challenge, _ := call(token("ann", "look"), "127.0.0.1", "cat f"); status != 403 || !strings.Contains(challenge, `error="insufficient_scope", scope="look box"`) {
		t.Error(status, challenge)
	}
	out, err := exec.Command(binary, "sessions", "list", "--state-dir", n.state, "--principal", "oauth:ann").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "oauth:ann") {
		t.Errorf("%v: %s", err, out)
	}

	for what, c := range map[string]struct{ args, want string }{
		"an audience alone":   {"--oauth-audience x", "oauth-issuer"},
		"no audience":         {"--oauth-issuer https://login.example", "oauth-audience"},
		"over http":           {"--oauth-issuer http://login.example --oauth-audience https://x", "https"},
		"no resource":         {"--oauth-issuer https://login.example --oauth-audience x", "oauth-resource"},
		"no auth":             {"--no-auth --oauth-issuer https://login.example --oauth-audience https://x", "no-auth"},
		"one root":            {"--root " + t.TempDir() + " --oauth-issuer " + issuer.URL + " --oauth-audience https://x", "root"},
		"an unknown toolset":  {"--oauth-issuer https://login.example --oauth-audience https://x --oauth-scope a=b", "toolset"},
		"another issuer name": {"--oauth-issuer " + issuer.URL + "/ --oauth-audience https://x", "calls itself"},
	} {
		out, err := exec.Command(binary, append([]string{"serve", "--transport", "http", "--listen", "127.0.0.1:0", "--state-dir", filepath.Join(t.TempDir(), "state")}, strings.Fields(c.args)...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "invalid_argument") || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v: %s", what, err, out)
		}
	}
}
