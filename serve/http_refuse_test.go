package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// exposed waits until n connections only wait for a refusal.
func (h *HTTP) exposed(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		h.conns.mu.Lock()
		got := 0
		for _, a := range h.conns.conns {
			if a.exposed {
				got++
			}
		}
		h.conns.mu.Unlock()
		if got == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d connections wait for a refusal, want %d", got, n)
		}
	}
}

// TestRefusalsComeLate: who was refused often is refused later. What is right,
// and whoever else, is answered at once; with time, refusals are prompt again.
func TestRefusalsComeLate(t *testing.T) {
	h, url := startHTTP(t, Options{})
	now := time.Now()
	h.signer.now = func() time.Time { return now }
	h.refusalDelay = time.Hour
	url += "/mcp"
	ping := `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	id := begin(t, url)
	for range promptRefusals / 2 {
		if resp, _ := post(t, url, ping, "Mcp-Session-Id: invented"); resp.StatusCode != 404 {
			t.Fatal(resp.Status)
		}
		if resp, _ := post(t, url, "no JSON"); resp.StatusCode != 400 {
			t.Fatal(resp.Status)
		}
	}
	ctx, hangUp := context.WithCancel(t.Context())
	late := make(chan error)
	go func() {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("no JSON"))
		if err == nil {
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+annToken)
			_, err = http.DefaultClient.Do(r)
		}
		late <- err
	}()
	h.exposed(t, 1)
	if resp, _ := post(t, url, ping, "Mcp-Session-Id: "+id); resp.StatusCode != 200 {
		t.Errorf("a right request: %s", resp.Status)
	}
	if resp, _ := post(t, url, "no JSON", "Authorization: Bearer "+bobToken); resp.StatusCode != 400 {
		t.Errorf("another principal: %s", resp.Status)
	}
	if resp, _ := post(t, url, ping, "Authorization: Bearer unknown"); resp.StatusCode != 401 {
		t.Errorf("nobody known: %s", resp.Status)
	}
	// Who hangs up is not waited for.
	hangUp()
	if err := <-late; err == nil {
		t.Error("the refusal came at once")
	}
	h.exposed(t, 0)
	now = now.Add(time.Second)
	if resp, _ := post(t, url, "no JSON"); resp.StatusCode != 400 {
		t.Errorf("a second later: %s", resp.Status)
	}
}

// TestLateRefusalsEndWithServer: what waits for a refusal is answered by the
// server's stop.
func TestLateRefusalsEndWithServer(t *testing.T) {
	h, url := startHTTP(t, Options{})
	h.refusalDelay = time.Hour
	h.mu.Lock()
	for range 1000 {
		h.quota("ann").promptRefusals.ReserveN(h.signer.now(), promptRefusals)
	}
	h.mu.Unlock()
	status := make(chan int)
	go func() {
		resp, _ := post(t, url+"/mcp", "no JSON")
		status <- resp.StatusCode
	}()
	h.exposed(t, 1)
	h.halt(nil)
	if got := <-status; got != 400 {
		t.Errorf("%d", got)
	}
}

// TestRefusedSlowBody: a request that is refused before its body was read is
// answered, also when the body never comes.
func TestRefusedSlowBody(t *testing.T) {
	h, url := startHTTP(t, Options{MaxCalls: 1})
	entered, release := waiter(h)
	id := begin(t, url+"/mcp")
	answer := make(chan string, 1)
	go func() {
		_, text := post(t, url+"/mcp", `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"wait","arguments":{"who":"a"}}}`, "Mcp-Session-Id: "+id)
		answer <- text
	}()
	expect(t, entered, "a")
	for _, tc := range []struct {
		token, media string
		want         int
	}{
		{annToken, "application/json", 429},
		{bobToken, "text/plain", 415},
		{"unknown", "application/json", 401},
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n{", tc.media, tc.token)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%d: %v", tc.want, err)
			continue
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != tc.want {
			t.Errorf("%s %v, want %d", resp.Status, err, tc.want)
		}
		resp.Body.Close()
	}
	release <- true
	if text := <-answer; !strings.Contains(text, "released a") {
		t.Error(text)
	}
}
