package tools

import (
	"context"
	"errors"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"mcp-sandbox/session"
)

// withPrompter lets the sandbox ask this call's user something while it runs (MCP
// 2025-11-25, "Elicitation"), where the client can show a question. Over protocol
// 2026-07-28 it cannot: there a server sends no requests.
func (c *call) withPrompter(ctx context.Context) (leave func()) {
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
