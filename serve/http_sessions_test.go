package serve

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"mcp-sandbox/tools"
)

// TestSessionIDs is AC-48, AC-50, AC-62 and AC-66: only an id that the server gave to
// this principal leads anywhere, also on a GET, and not after its end.
func TestSessionIDs(t *testing.T) {
	h, url := startHTTP(t, Options{})
	url += "/mcp"
	ping := `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	id := begin(t, url)
	if resp, body := post(t, url, ping, "Mcp-Session-Id: "+id); resp.StatusCode != 200 {
		t.Fatalf("ping: %s %s", resp.Status, body)
	}
	changed := []byte(id)
	changed[20] ^= 1
	other := newIDSigner([]byte("another server"), 0).make("ann", "", tools.ClientByID(0))
	old := newIDSigner(nil, 0)
	old.key, old.now = h.signer.key, func() time.Time { return time.Now().Add(-2 * time.Hour) }
	for what, c := range map[string]struct {
		id   string
		want int
	}{
		"none":                  {"", 400},
		"invented":              {"mcp-session-0b5c3b5e-7b6e-4c5e-9d9c-0123456789ab", 404},
		"a changed one":         {string(changed), 404},
		"of another server":     {other, 404},
		"with more behind":      {id + "A", 404},
		"past its age":          {old.make("ann", "", tools.ClientByID(0)), 404},
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
	h, url := startHTTP(t, Options{MaxNew: 20_000})
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
