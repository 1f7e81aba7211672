package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// ask sends a call whose answer has 400 KB, twice, and gives the status of the POST.
func (s *sseClient) ask(name string) int {
	s.r.n.t.Helper()
	s.next++
	req := s.r.request(s.r.n.t.Context(), http.MethodPost, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d.0,"method":"tools/call","params":{"name":"read_file","arguments":{"path":%q,"encoding":"base64","limit":300000}}}`, s.next, name))
	req.URL.Path, req.URL.RawQuery = s.path, s.query
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.r.n.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestSSEUnread: what a client asks for and does not read is in flight, though each of
// its requests was answered at once.
func TestSSEUnread(t *testing.T) {
	n := startNetwork(t, nil, "--transport", "sse")
	deaf, other, bob := n.stream(annsToken, "/sse"), n.stream(annsToken, "/sse"), n.stream(bobsToken, "/sse")
	for _, s := range []*sseClient{deaf, other, bob} {
		s.exec("head -c 300000 /dev/zero > big")
	}
	// What the connection holds is written and no more in flight.
	for range 60 {
		if status := deaf.ask("big"); status != http.StatusAccepted {
			t.Fatal(status)
		}
	}
	var answer chan string
	waitFor(t, "large answers of the principal to wait", func() bool {
		event := make(chan string, 1)
		answer = event
		if status := other.ask("big"); status != http.StatusAccepted {
			t.Fatal(status)
		}
		go func() {
			defer close(event) // also when there is no event
			event <- other.event()
		}()
		select {
		case <-answer:
			return false
		case <-time.After(300 * time.Millisecond):
			return true
		}
	})
	refused := 0
	for range 320 {
		if deaf.ask("big") == http.StatusTooManyRequests {
			refused++
			break
		}
	}
	if refused == 0 {
		t.Error("any number of requests is in flight")
	}
	if status := bob.ask("big"); status != http.StatusAccepted || !strings.Contains(bob.event(), "AAAAAAAA") {
		t.Errorf("another principal: %d", status)
	}
	deaf.hangUp()
	if !strings.Contains(<-answer, "AAAAAAAA") {
		t.Error("the principal's other stream has no answer")
	}
	if got := other.exec("echo on"); got != "on\n" {
		t.Errorf("after the stream that was not read: %q", got)
	}
	other.hangUp()
	bob.hangUp()
	n.stop()
}
