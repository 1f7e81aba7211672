package serve

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/tools"
)

// TestRoutes: an id begins with the key that a proxy named, holds for it and no
// other, and a key that cannot stand in an id is none.
func TestRoutes(t *testing.T) {
	m := newIDSigner([]byte("secret"), time.Hour)
	id := m.make("ann", "r-1_Z", tools.ClientByID(0))
	rest, ok := strings.CutPrefix(id, "r-1_Z.")
	if !ok || !m.check("ann", id) {
		t.Fatalf("%q", id)
	}
	for _, wrong := range []string{rest, "." + rest, "r-2." + rest, "r-1_Z.." + rest, "r-1_Z", "r-1_Z.", id + ".", "x." + id} {
		if m.check("ann", wrong) {
			t.Errorf("%q is taken", wrong)
		}
	}
	if m.check("bob", id) {
		t.Error("another principal's id is taken")
	}
	if plain := m.make("ann", "", tools.ClientByID(0)); strings.Contains(plain, ".") || !m.check("ann", plain) || m.check("ann", "r."+plain) {
		t.Errorf("%q", plain)
	}
	for route, want := range map[string]string{
		"": "", "0af3": "0af3", "a.b": "", "a b": "", "ä": "", "a\x00": "", strings.Repeat("a", 64): strings.Repeat("a", 64), strings.Repeat("a", 65): "",
	} {
		r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
		r.Header[routeHeader] = []string{route}
		if got := routeOf(r); got != want {
			t.Errorf("%q: %q", route, got)
		}
	}
}

// TestRouteOverHTTP: the header of an initialize reaches its id, and the id works.
func TestRouteOverHTTP(t *testing.T) {
	_, url := startHTTP(t, Options{})
	resp, body := post(t, url+"/mcp", initialize, routeHeader+": a1")
	id := resp.Header.Get("Mcp-Session-Id")
	if !strings.HasPrefix(id, "a1.") {
		t.Fatalf("%q %s", id, body)
	}
	if resp, body := post(t, url+"/mcp", `{"jsonrpc":"2.0","id":7,"method":"ping"}`, "Mcp-Session-Id: "+id); resp.StatusCode != 200 {
		t.Errorf("%s %s", resp.Status, body)
	}
}
