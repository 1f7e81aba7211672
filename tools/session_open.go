package tools

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

// sandboxArgument is the one argument that every tool takes on a network, where
// a connection may have no session of its own (MCP 2026-07-28).
const sandboxArgument = "sandbox_id"

// sessionOpenTool is offered on a network only.
func sessionOpenTool() tool {
	return tool{
		sets:    []string{"core", "session"},
		handles: true,
		def: mcp.NewTool("session_open",
			mcp.WithDescription("Make a sandbox and return its sandbox_id, to be sent with every call about it."),
			hints(false, false, false, false),
		),
		run: func(ctx context.Context, c *call) (*reply, error) {
			principal := principalOf(ctx)
			var b [16]byte
			_, _ = rand.Read(b[:]) // never fails (crypto/rand)
			id := hex.EncodeToString(b[:])
			s, err := c.server.manager.Get(ctx, sandboxKey(principal, id))
			if err != nil {
				return nil, err
			}
			return &reply{
				text:       fmt.Sprintf("sandbox_id: %s\nworkspace: %s\n", id, s.Root()),
				structured: map[string]any{"sandbox_id": id, "workspace": s.Root()},
			}, nil
		},
	}
}

func sandboxKey(principal, id string) string { return session.Key(principal, "sandbox:"+id) }

// sessionKey is whose session a call is about: the sandbox it names, or that of
// its connection. What is named wrongly or not at all is never replaced by what
// happens to be there. Codes: invalid_argument, session_not_found.
func (s *Server) sessionKey(ctx context.Context, raw any) (string, error) {
	key, ok := ctx.Value(clientKeyType{}).(string)
	if !s.options.Remote {
		return clientKey(ctx), nil
	}
	fields, _ := raw.(map[string]any)
	switch id := fields[sandboxArgument].(type) {
	case nil:
		if !ok {
			return "", refuse("invalid_argument", "sandbox_id is missing and this connection has no session of its own, call session_open once and send the id it gives with every call")
		}
		return key, nil
	case string:
		key := sandboxKey(principalOf(ctx), id)
		if id == "" || !s.manager.Known(key) {
			return "", refuse("session_not_found", "there is no sandbox with this sandbox_id, call session_open for one")
		}
		return key, nil
	default:
		return "", refuse("invalid_argument", "sandbox_id is %s, send the text that session_open gave", kindOf(id))
	}
}

// withSandbox adds the argument to a tool's schema, without a description: the
// list has a budget, and session_open and the instructions tell.
func withSandbox(t tool) tool {
	if t.handles {
		return t
	}
	properties := map[string]any{sandboxArgument: map[string]any{"type": "string"}}
	for name, p := range t.def.InputSchema.Properties {
		properties[name] = p
	}
	t.def.InputSchema.Properties = properties
	return t
}
