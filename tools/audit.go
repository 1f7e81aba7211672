package tools

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/audit"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// audited writes a record before and after a call. It is the one place where tool
// calls are recorded, so no tool can be forgotten: a refused argument, terminal
// input and a listing leave their records as a command does.
func (s *Server) audited(ctx context.Context, t tool, req mcp.CallToolRequest) (*reply, error) {
	key, unknown := "", error(nil)
	if !t.handles {
		key, unknown = s.sessionKey(ctx, t.def.Name, req.Params.Arguments)
	}
	log := s.manager.Auditor()
	if log == nil {
		if unknown != nil {
			return nil, unknown
		}
		return s.run(ctx, t, req, key)
	}
	client := key
	if client == "" {
		client = session.Key(CallerOf(ctx).Principal, "")
	}
	span, err := log.Begin(ctx, s.manager.SessionID(key), auditClient(client), t.def.Name,
		auditArguments(s.manager.Redactor(), req.Params.Arguments))
	if err != nil {
		return nil, err
	}
	// A panic is turned into a failed call further up; its record is written all
	// the same.
	code, data := "internal", map[string]any(nil)
	defer func() { span.End(ctx, s.manager.SessionID(key), code, data) }()
	var r *reply
	if err = unknown; err == nil {
		r, err = s.run(ctx, t, req, key)
	}
	code, data = codeOf(err), auditReply(r)
	if errors.Is(err, errForwarded) {
		code, data = "", map[string]any{"forwarded": true}
	}
	return r, err
}

// auditClient names a client without giving its key away: over a network the
// handle is what leads to its sandbox. Who it is may be told.
func auditClient(key string) string {
	principal, handle, remote := strings.Cut(key, "\x00")
	if !remote {
		return key
	}
	if handle == "" {
		return principal
	}
	if name := sandboxName(key); name != "" {
		return principal + "/" + name // an address, no secret
	}
	sum := sha256.Sum256([]byte(key))
	return principal + "/" + hex.EncodeToString(sum[:6])
}

// clientName is how records of other kinds than the audit log name the client.
func (s *Server) clientName(ctx context.Context, t tool, req mcp.CallToolRequest) string {
	key := ""
	if !t.handles {
		key, _ = s.sessionKey(ctx, t.def.Name, req.Params.Arguments)
	}
	if key == "" {
		key = session.Key(CallerOf(ctx).Principal, "")
	}
	return auditClient(key)
}

func codeOf(err error) string {
	var coded *sandbox.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &coded):
		return coded.Code()
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return "internal"
}

// shown are the arguments whose values belong in a record. Everything else, and
// every argument a later tool may bring, is recorded by its size alone.
var shown = map[string]bool{
	"workdir": true, "tty": true, "yield_time_ms": true, "timeout_ms": true, "max_output_tokens": true,
	"shell": true, "login": true, "keep_stdin": true, "cols": true, "rows": true,
	"session_id": true, "close": true, "wait_for": true, "raw": true, "byte_offset": true, "byte_limit": true, "signal": true, "output_id": true, "format": true,
	"path": true, "destination": true, "offset": true, "limit": true, "mode": true, "encoding": true,
	"executable": true, "replace_all": true, "recursive": true, "depth": true, "all": true,
	"glob": true, "pattern": true, "ignore_case": true, "literal": true, "force": true, "if_unchanged": true, "context": true, "max_results": true,
	"snapshot_id": true, "label": true, "from": true, "to": true, "port": true, "name": true, "from_snapshot": true, "ttl_ms": true,
}

func auditArguments(r *audit.Redactor, raw any) map[string]any {
	fields, ok := raw.(map[string]any)
	if !ok {
		if raw == nil {
			return nil
		}
		return map[string]any{"arguments": sized(raw)}
	}
	out := make(map[string]any, len(fields))
	for name, v := range fields {
		out[r.Value(name)] = auditValue(r, name, v)
	}
	return out
}

func auditValue(r *audit.Redactor, name string, v any) any {
	text, isText := v.(string)
	switch {
	case v == nil:
		return nil
	case name == "cmd" && isText:
		return map[string]any{"text": r.Command(text), "bytes": len(text)}
	case name == "chars" && isText && len(text) <= 8 && isControl(text):
		// Ctrl-C and its like are what a person did, not what was typed.
		return fmt.Sprintf("%q", text)
	case shown[name] && isText:
		return r.Value(text)
	case shown[name]:
		switch v.(type) {
		case bool, float64, int:
			return v
		}
	}
	return sized(v)
}

func isControl(s string) bool {
	for _, c := range []byte(s) {
		if c >= ' ' && c != 0x7f {
			return false
		}
	}
	return true
}

// sized is what a record says of a value it does not show.
func sized(v any) map[string]any {
	switch v := v.(type) {
	case string:
		return map[string]any{"bytes": len(v)}
	case []any:
		return map[string]any{"items": len(v)}
	case map[string]any:
		n := 0
		for _, e := range v {
			if s, ok := e.(string); ok {
				n += len(s)
			}
		}
		return map[string]any{"fields": len(v), "bytes": n}
	}
	return map[string]any{"kind": kindOf(v)}
}

func auditReply(r *reply) map[string]any {
	if r == nil {
		return nil
	}
	out := map[string]any{"result_bytes": len(r.text) + len(r.image)}
	if c, ok := r.structured.(commandResult); ok {
		out["output_bytes"] = len(c.Output)
		if c.Stderr != nil {
			out["stderr_bytes"] = len(*c.Stderr)
		}
		if c.ExitCode != nil {
			out["exit_code"] = *c.ExitCode
		}
		if c.SessionID != nil {
			out["session_id"] = *c.SessionID
		}
		if c.Signal != "" {
			out["signal"] = c.Signal
		}
		if c.TimedOut {
			out["timed_out"] = true
		}
		if c.Truncated {
			out["truncated"] = true
		}
	}
	return out
}
