package tools

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

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
			principal := CallerOf(ctx).Principal
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

// A sandbox with a name is the one that a principal's address leads to: /mcp is
// that of DefaultSandbox, /mcp/NAME another.
const (
	namePrefix     = "name:"
	DefaultSandbox = "default"
	// longestName is in bytes.
	longestName = 64
)

// NamedKey is the session key of a principal's sandbox of that name.
func NamedKey(principal, name string) string { return session.Key(principal, namePrefix+name) }

// sandboxName is the name in a key, "" for a sandbox without one.
func sandboxName(key string) string {
	_, handle, _ := strings.Cut(key, "\x00")
	name, ok := strings.CutPrefix(handle, namePrefix)
	if !ok {
		return ""
	}
	return name
}

// CheckSandboxName refuses what a sandbox cannot be called. Code: invalid_argument.
func CheckSandboxName(name string) error {
	other := func(c rune) bool {
		return !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '_' || c == '.')
	}
	if name == "" || len(name) > longestName || strings.ContainsFunc(name, other) || strings.ContainsAny(name[:1], "-_.") {
		return refuse("invalid_argument", "the name of a sandbox has 1 to %d letters, digits, dots, dashes and underscores and begins with a letter or digit", longestName)
	}
	return nil
}

// sessionKey is whose session a call is about: the sandbox it names, or that of
// its address or connection. What is named wrongly is never replaced by what
// happens to be there. Codes: invalid_argument, session_not_found.
func (s *Server) sessionKey(ctx context.Context, tool string, raw any) (string, error) {
	key := CallerOf(ctx).Key
	if !s.options.Remote {
		return key, nil
	}
	fields, err := fieldsOf(raw, tool)
	if err != nil {
		return "", err
	}
	switch id := fields[sandboxArgument].(type) {
	case nil:
		if key == "" {
			return "", refuse("invalid_argument", "sandbox_id is missing and this connection has no session of its own, call session_open once and send the id it gives with every call")
		}
		return key, nil
	case string:
		key := sandboxKey(CallerOf(ctx).Principal, id)
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
