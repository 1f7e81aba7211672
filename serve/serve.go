// Package serve carries MCP between clients and package tools: over stdio for the
// one client that started the server ([Stdio]), over streamable HTTP and SSE for
// many ([NewHTTP]). It decides who may speak to the server and how much of it one
// client may take; what a call means is decided in tools, which is told by
// [tools.Caller] where each call comes from.
//
// mcp-go (1.2.1) speaks the protocol; workarounds for it are explained where they
// stand.
package serve

import (
	"context"

	"mcp-sandbox/tools"
)

// from returns a context whose caller is changed.
func from(ctx context.Context, change func(*tools.Caller)) context.Context {
	c := tools.CallerOf(ctx)
	change(&c)
	return tools.WithCaller(ctx, c)
}
