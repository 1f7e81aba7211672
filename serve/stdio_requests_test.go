package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
)

// A question over stdio: answers find who asked, whatever their order; one that
// comes too late is dropped, and the client is told that nobody waits any more.
func TestStdioQuestions(t *testing.T) {
	in, out := io.Pipe()
	defer in.Close()
	s := newStdioSession(out, slog.New(slog.DiscardHandler), func() {})
	lines := bufio.NewScanner(in)
	type sent struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Message   string          `json:"message"`
			RequestID json.RawMessage `json:"requestId"`
		} `json:"params"`
	}
	read := func() (m sent) {
		t.Helper()
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &m) != nil {
			t.Fatalf("%q, %v", lines.Text(), lines.Err())
		}
		return m
	}
	ask := func(ctx context.Context, text string) <-chan string {
		done := make(chan string, 1)
		go func() {
			r, err := s.RequestElicitation(ctx, mcp.ElicitationRequest{Params: mcp.ElicitationParams{Message: text}})
			if err != nil {
				done <- err.Error()
				return
			}
			done <- string(r.Action)
		}()
		return done
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := ask(ctx, "first")
	q1 := read()
	second := ask(ctx, "second")
	q2 := read()
	if q1.Method != "elicitation/create" || q1.Params.Message != "first" || string(q1.ID) == string(q2.ID) {
		t.Fatalf("%+v, %+v", q1, q2)
	}
	s.requests.answered([]byte(`{"jsonrpc":"2.0","id":99,"result":{"action":"accept"}}`))
	s.requests.answered(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"action":"decline"}}`, q2.ID))
	s.requests.answered(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":-1,"message":"no\nwindow"}}`, q1.ID))
	if got := <-second; got != "decline" {
		t.Errorf("second: %q", got)
	}
	if got := <-first; got == "accept" || got == "" {
		t.Errorf("first: %q", got)
	}
	third := ask(ctx, "third")
	q3 := read()
	cancel()
	if n := read(); n.Method != "notifications/cancelled" || string(n.Params.RequestID) != string(q3.ID) {
		t.Errorf("the withdrawal: %+v", n)
	}
	if got := <-third; got != context.Canceled.Error() {
		t.Errorf("third: %q", got)
	}
	s.requests.answered(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"action":"accept"}}`, q3.ID))
	if len(s.requests.open) != 0 {
		t.Errorf("%d questions are left", len(s.requests.open))
	}
}
