package tools

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

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
			mcp.WithString("name", mcp.Description("Find it again by this; an existing one is returned")),
			mcp.WithString("from_snapshot", mcp.Description("Fork: id, label or latest; SANDBOX_ID@ID for another sandbox's")),
			mcp.WithString("manifest", mcp.Description(`Files, as JSON: {"entries":{"a.txt":{"type":"file","content":"x"}}}`)),
			mcp.WithInteger("ttl_ms", mcp.Description("Delete it after this time")),
		),
		run: sessionOpen,
	}
}

// maxTTL keeps a number of milliseconds within what a time.Duration can hold.
const maxTTL = 100 * 365 * 24 * 3600 * 1000

func sessionOpen(ctx context.Context, c *call) (*reply, error) {
	name, o := c.name("name", ""), session.Opening{}
	o.TTL = time.Duration(c.integer("ttl_ms", 0, 1, maxTTL)) * time.Millisecond
	if c.has("manifest") {
		if fields, ok := c.fields["manifest"].(map[string]any); ok {
			o.Manifest, _ = json.Marshal(fields) // it was JSON
		} else {
			o.Manifest = []byte(c.text("manifest", ""))
		}
	}
	from := c.name("from_snapshot", "")
	if c.err != nil {
		return nil, c.err
	}
	principal := CallerOf(ctx).Principal
	if from != "" {
		var err error
		if o.Source, o.Snapshot, err = c.server.forkedFrom(ctx, from); err != nil {
			return nil, err
		}
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	id := hex.EncodeToString(b[:])
	if name != "" {
		if err := CheckSandboxName(name); err != nil {
			return nil, err
		}
		id = namePrefix + name
	}
	key := sandboxKey(principal, id)
	said := ""
	var s *session.Session
	var err error
	plain, known := o.Snapshot == "" && o.Manifest == nil && o.TTL == 0, false
	if known = plain && c.server.manager.Known(key); !known {
		s, err = c.server.manager.Open(ctx, key, o)
		// Another call made it meanwhile.
		known = plain && errors.Is(err, session.ErrAlreadyOpen)
	}
	if known {
		said = "It existed already.\n"
		var done func()
		if s, done, err = c.server.manager.Use(ctx, key); err == nil {
			defer done()
			if err = s.Commit(ctx); session.UnreadOf(err) != "" {
				err = nil // this call has written nothing of it
			}
			err = errors.Join(err, s.Held())
		}
	}
	if err != nil {
		return nil, err
	}
	out := map[string]any{"sandbox_id": id, "workspace": s.Root()}
	text := fmt.Sprintf("sandbox_id: %s\nworkspace: %s\n", id, s.Root())
	if until := s.Until(); !until.IsZero() {
		out["until"] = until.UTC().Format(time.RFC3339)
		text += "deleted at: " + until.UTC().Format(time.RFC3339) + "\n"
	}
	return &reply{text: text + said, structured: out}, nil
}

// forkedFrom reads from_snapshot: a snapshot of the sandbox that calls without a
// sandbox_id are about, or of the one that is named before an @.
func (s *Server) forkedFrom(ctx context.Context, text string) (key, snapshot string, err error) {
	key, snapshot = CallerOf(ctx).Key, text
	if id, rest, ok := strings.Cut(text, "@"); ok {
		if key, snapshot = sandboxKey(CallerOf(ctx).Principal, id), rest; id == "" || !s.manager.Known(key) {
			return "", "", refuse("session_not_found", "there is no sandbox with the sandbox_id before the @ of from_snapshot; write SANDBOX_ID@SNAPSHOT_ID")
		}
	}
	switch {
	case snapshot == "":
		return "", "", refuse("invalid_argument", "from_snapshot names no snapshot; write its id or label, or latest")
	case key == "" || !s.manager.Known(key):
		return "", "", refuse("session_not_found", "from_snapshot names a snapshot of this connection's own sandbox, and there is none; write SANDBOX_ID@SNAPSHOT_ID")
	}
	return key, snapshot, nil
}

// sandboxKey is whose sandbox an id of session_open names. One with a name is that
// of the address /mcp/NAME.
func sandboxKey(principal, id string) string {
	if strings.HasPrefix(id, namePrefix) {
		return session.Key(principal, id)
	}
	return session.Key(principal, "sandbox:"+id)
}

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
		return refuse("invalid_argument", "the name of the sandbox is not valid; use 1 to %d letters, digits, dots, dashes and underscores, beginning with a letter or digit", longestName)
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
			return "", refuse("invalid_argument", "sandbox_id is missing and this connection has no session of its own; call session_open once and send the id it gives with every call")
		}
		return key, nil
	case string:
		key := sandboxKey(CallerOf(ctx).Principal, id)
		if id == "" || !s.manager.Known(key) {
			return "", refuse("session_not_found", "there is no sandbox with this sandbox_id; call session_open for one")
		}
		return key, nil
	default:
		return "", refuse("invalid_argument", "sandbox_id is %s; send the text that session_open gave", kindOf(id))
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
