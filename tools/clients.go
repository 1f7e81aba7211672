package tools

import (
	"context"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// Client is what is known of how one program treats results. It decides what is sent
// where the settings leave it open; docs/clients.md documents it.
type Client struct {
	// id stands for it in MCP session ids, so that it is known after a restart.
	// It is never reused; 0 is every other client.
	id byte
	// name is how the name in its clientInfo begins, in lower case.
	name string
	// structured: its model or user gains by structuredContent in addition to the text.
	structured bool
	// tokens is the default limit of a result, most what a call may ask for; 0 is
	// defaultMaxTokens and no bound.
	tokens, most int
	// bytes and lines bound a result as well, 0 does not. They leave room for
	// the lines above the output.
	bytes, lines int
	// raw: it is a program that asked for the raw tools.
	raw bool
	// why is the limit or habit, and where it was seen.
	why string
}

// clients are the known ones. No structuredContent for any: of those measured
// none gained by it, Codex and Mastra showed their model nothing but its JSON,
// and LangChain both parts.
var clients = []Client{
	{id: 1, name: "codex", tokens: 2500, most: 2500, bytes: 10_500,
		why: "cuts what its model reads at about 12,000 characters, in the middle, where our own mark stands (0.171)"},
	{id: 2, name: "claude-code", tokens: 10_000,
		why: "limits a result to 25,000 tokens (MAX_MCP_OUTPUT_TOKENS), warns past 10,000, saves text over 50,000 characters to a file"},
	{id: 3, name: "gemini-cli", tokens: 8000, bytes: 38_000,
		why: "cuts text at 40,000 characters (truncateToolOutputThreshold)"},
	{id: 4, name: "opencode", tokens: 8000, bytes: 48_000, lines: 1950,
		why: "cuts text at 50 KiB and at 2,000 lines (tool_output)"},
}

// otherClient stands for every client without a row.
var otherClient = Client{tokens: defaultMaxTokens}

// idRaw in an ID marks a client that asked for the raw tools.
const idRaw = 0x80

// ID stands for the client where its name is too long, see ClientByID.
func (c Client) ID() byte {
	if c.raw {
		return c.id | idRaw
	}
	return c.id
}

// known: every row has a default limit, and so has everybody else's.
func (c Client) known() bool { return c.tokens > 0 }

// ClientNamed is the client that calls itself name at initialize.
func ClientNamed(name string) Client {
	name = strings.ToLower(strings.TrimSpace(name))
	for _, c := range clients {
		if strings.HasPrefix(name, c.name) {
			return c
		}
	}
	return otherClient
}

// ClientByID is the client with that ID, which is not given to another later.
func ClientByID(id byte) Client {
	if id&idRaw != 0 {
		return ClientByID(id &^ idRaw).Raw()
	}
	for _, c := range clients {
		if c.id == id {
			return c
		}
	}
	return otherClient
}

// clientOf is the client of a call: by what its session said at initialize or,
// in protocol 2026-07-28, by what the request says.
func clientOf(ctx context.Context, req mcp.CallToolRequest) Client {
	c := clientNamedBy(ctx, req)
	if rawClient(ctx) {
		return c.Raw()
	}
	return c
}

func clientNamedBy(ctx context.Context, req mcp.CallToolRequest) Client {
	if req.Params.Meta != nil {
		if info := req.Params.Meta.ClientInfo(); info != nil {
			return ClientNamed(info.Name)
		}
	}
	if c := CallerOf(ctx).Client; c.known() {
		return c
	}
	if s, ok := server.ClientSessionFromContext(ctx).(server.SessionWithClientInfo); ok {
		return ClientNamed(s.GetClientInfo().Name)
	}
	return otherClient
}

// structuredFor decides whether this client gets structuredContent.
func (s *Server) structuredFor(c Client) bool {
	switch s.options.Structured {
	case "on":
		return true
	case "off":
		return false
	}
	return c.structured
}
