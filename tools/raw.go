package tools

import (
	"context"
	"slices"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// RawCapability is the experimental capability by which a client that is a program
// asks for the raw tools: bytes and streams as they are, without the cutting and
// wording that a model needs. Nobody else sees them or may call them, so the list
// that models read stays small.
const RawCapability = "mcp-sandbox/raw"

// rawSet marks the raw tools. They belong to other sets as well, so that what an
// operator leaves out with --toolset has no second way in.
const rawSet = "raw"

// rawTools are offered in addition to allTools, to the clients that ask.
func rawTools() []tool {
	return []tool{
		rawExecTool(),
		rawInputTool(),
		rawReadTool(),
		rawStatTool(),
		rawExportTool(),
		rawImportTool(),
		rawCloseTool(),
	}
}

// AsksRaw says whether a client's capabilities ask for the raw tools.
func AsksRaw(c mcp.ClientCapabilities) bool {
	_, asks := c.Experimental[RawCapability]
	return asks
}

// Raw is c as it treats results when it has asked for the raw tools.
func (c Client) Raw() Client {
	c.raw, c.structured = true, true
	return c
}

// rawClient says whether the client of a request has asked for the raw tools: in
// the request itself (protocol 2026-07-28), or at initialize, as its transport
// knows or its connection remembers.
func rawClient(ctx context.Context) bool {
	if info := server.RequestProtocolInfoFromContext(ctx); info != nil && info.Modern {
		return info.ClientCapabilities != nil && AsksRaw(*info.ClientCapabilities)
	}
	if CallerOf(ctx).Client.raw {
		return true
	}
	s, ok := server.ClientSessionFromContext(ctx).(server.SessionWithClientInfo)
	return ok && AsksRaw(s.GetClientCapabilities())
}

// hideRaw leaves the raw tools out for everybody who has not asked; mcp-go asks it
// for lists and for calls.
func hideRaw(names []string) server.ToolFilterFunc {
	return func(ctx context.Context, list []mcp.Tool) []mcp.Tool {
		if rawClient(ctx) {
			return list
		}
		return slices.DeleteFunc(slices.Clone(list), func(t mcp.Tool) bool { return slices.Contains(names, t.Name) })
	}
}

// rawReply has everything in the structured result. The text is for people who look
// at the traffic.
func rawReply(text string, structured any) *reply {
	return &reply{text: text, structured: structured}
}
