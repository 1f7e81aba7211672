package tools

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"mcp-sandbox/session"
)

// attend lets the sandbox ask this call's user something while it runs (MCP
// 2025-11-25, "Elicitation"), where the client can pass a question on. Over
// protocol 2026-07-28 it cannot: there a server begins no request.
func (c *call) attend(ctx context.Context) (leave func()) {
	s, ok := server.ClientSessionFromContext(ctx).(server.SessionWithClientInfo)
	if !ok || !takesForms(s.GetClientCapabilities()) {
		return func() {}
	}
	return c.session.WithPrompter(func(asking context.Context, question string) session.Answer {
		return c.server.elicit(callValues{asking, ctx}, question)
	})
}

// takesForms: a client that names neither mode means forms, as before there
// were two.
func takesForms(c mcp.ClientCapabilities) bool {
	return c.Elicitation != nil && (c.Elicitation.Form != nil || c.Elicitation.URL == nil)
}

// callValues lives as long as a question and knows what its call knew: the
// answer may come when the call has yielded already.
type callValues struct {
	context.Context
	call context.Context
}

func (v callValues) Value(key any) any {
	if found := v.Context.Value(key); found != nil {
		return found
	}
	return v.call.Value(key)
}

// elicit asks a yes-or-no question: a form without fields, so that to accept is
// the answer.
func (s *Server) elicit(ctx context.Context, question string) session.Answer {
	result, err := s.mcp.RequestElicitation(ctx, mcp.ElicitationRequest{
		Request: mcp.Request{Method: string(mcp.MethodElicitationCreate)},
		Params: mcp.ElicitationParams{
			Message:         question,
			RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}},
		},
	})
	switch {
	case errors.Is(err, server.ErrElicitationNotSupported), errors.Is(err, server.ErrNoActiveSession), errors.Is(err, server.ErrServerInitiatedRequestUnsupported):
		return session.AnswerNone
	case err != nil:
		s.log.Info("a question to the user was not answered", "error", err)
		return session.AnswerRefuse
	case result.Action == mcp.ElicitationResponseActionAccept:
		return session.AnswerAccept
	}
	return session.AnswerRefuse
}

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

// answered takes a message without a method to where it is waited for. One that
// nobody waits for is dropped, as one that comes too late is.
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
			return nil, errors.New("the client answered: " + oneLine(a.Error.Message))
		}
		var result mcp.ElicitationResult
		if err := json.Unmarshal(a.Result, &result); err != nil {
			return nil, err
		}
		return &result, nil
	case <-ctx.Done():
		// So that no question stays on the user's screen that nobody waits for.
		s.write(mcp.JSONRPCNotification{JSONRPC: mcp.JSONRPC_VERSION, Notification: mcp.Notification{
			Method: string(mcp.MethodNotificationCancelled),
			Params: mcp.NotificationParams{AdditionalFields: map[string]any{"requestId": id, "reason": "no answer in time"}},
		}})
		return nil, ctx.Err()
	}
}

var _ server.SessionWithElicitation = (*stdioSession)(nil)
