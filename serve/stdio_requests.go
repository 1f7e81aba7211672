package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// requests are what a stdio server has asked of its client. The zero value is
// ready.
type requests struct {
	mu   sync.Mutex
	last int
	open map[string]chan answer
}

type answer struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

func (q *requests) begin() (id int, ch chan answer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		q.open = map[string]chan answer{}
	}
	q.last++
	ch = make(chan answer, 1)
	q.open[strconv.Itoa(q.last)] = ch
	return q.last, ch
}

func (q *requests) end(id int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, strconv.Itoa(id))
}

// answered delivers a response to the request that waits for it. One without such a
// request, or too late, is dropped.
func (q *requests) answered(text []byte) {
	var m struct {
		ID json.RawMessage `json:"id"`
		answer
	}
	if json.Unmarshal(text, &m) != nil {
		return
	}
	q.mu.Lock()
	ch := q.open[string(m.ID)]
	delete(q.open, string(m.ID))
	q.mu.Unlock()
	if ch != nil {
		ch <- m.answer
	}
}

// RequestElicitation sends the question and waits for its answer.
func (s *stdioSession) RequestElicitation(ctx context.Context, r mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	id, ch := s.requests.begin()
	defer s.requests.end(id)
	s.write(mcp.JSONRPCRequest{
		JSONRPC: mcp.JSONRPC_VERSION, ID: mcp.NewRequestId(int64(id)),
		Request: mcp.Request{Method: string(mcp.MethodElicitationCreate)}, Params: r.Params,
	})
	select {
	case a := <-ch:
		if a.Error != nil {
			return nil, fmt.Errorf("the client answered: %.200q", a.Error.Message)
		}
		var result mcp.ElicitationResult
		if err := json.Unmarshal(a.Result, &result); err != nil {
			return nil, err
		}
		return &result, nil
	case <-ctx.Done():
		// Withdraw the question from the user's screen.
		s.write(mcp.JSONRPCNotification{JSONRPC: mcp.JSONRPC_VERSION, Notification: mcp.Notification{
			Method: string(mcp.MethodNotificationCancelled),
			Params: mcp.NotificationParams{AdditionalFields: map[string]any{"requestId": id, "reason": "no answer in time"}},
		}})
		return nil, ctx.Err()
	}
}

var _ server.SessionWithElicitation = (*stdioSession)(nil)
