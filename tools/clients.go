package tools

import (
	"context"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// client is what is known of one program's way with results. Its rows decide
// what is sent where the settings leave it open; docs/clients.md tells users.
type client struct {
	// id stands for it in MCP session ids, so that it is known after a restart.
	// It is never given to another; 0 is everybody else.
	id byte
	// name is how the name in its clientInfo begins, in lower case.
	name string
	// structured: its model or user gains by structuredContent beside the text.
	structured bool
	// tokens is the default limit of a result, most what a call may ask for; 0 is
	// defaultMaxTokens and no bound.
	tokens, most int
	// bytes and lines bound a result as well, 0 is no bound. They leave room for
	// the lines above the output.
	bytes, lines int
	// why is the limit or habit, and where it was seen.
	why string
}

// clients are the known ones. No structuredContent for any: of those measured
// none gained by it, Codex and Mastra showed their model nothing but its JSON,
// and LangChain both parts.
var clients = []client{
	{id: 1, name: "codex", tokens: 2500, most: 2500, bytes: 10_500,
		why: "cuts what its model reads at about 12,000 characters, in the middle, where our own mark stands (0.171)"},
	{id: 2, name: "claude-code", tokens: 10_000,
		why: "limits a result to 25,000 tokens (MAX_MCP_OUTPUT_TOKENS), warns past 10,000, saves text over 50,000 characters to a file"},
	{id: 3, name: "gemini-cli", tokens: 8000, bytes: 38_000,
		why: "cuts text at 40,000 characters (truncateToolOutputThreshold)"},
	{id: 4, name: "opencode", tokens: 8000, bytes: 48_000, lines: 1950,
		why: "cuts text at 50 KiB and at 2,000 lines (tool_output)"},
}

// otherClient is everybody else.
var otherClient = client{tokens: defaultMaxTokens}

func clientNamed(name string) client {
	name = strings.ToLower(strings.TrimSpace(name))
	for _, c := range clients {
		if strings.HasPrefix(name, c.name) {
			return c
		}
	}
	return otherClient
}

func clientWith(id byte) client {
	for _, c := range clients {
		if c.id == id {
			return c
		}
	}
	return otherClient
}

// knownClientKey holds the client of a session over streamable HTTP, where the
// library forgets who it is with each request.
type knownClientKey struct{}

// clientOf is the client of a call: by what its session said at initialize or,
// in protocol 2026-07-28, by what the request says.
func clientOf(ctx context.Context, req mcp.CallToolRequest) client {
	if req.Params.Meta != nil {
		if info := req.Params.Meta.ClientInfo(); info != nil {
			return clientNamed(info.Name)
		}
	}
	if c, ok := ctx.Value(knownClientKey{}).(client); ok {
		return c
	}
	if s, ok := server.ClientSessionFromContext(ctx).(server.SessionWithClientInfo); ok {
		return clientNamed(s.GetClientInfo().Name)
	}
	return otherClient
}

// structuredFor decides whether this client gets structuredContent.
func (s *Server) structuredFor(c client) bool {
	switch s.options.Structured {
	case "on":
		return true
	case "off":
		return false
	}
	return c.structured
}
