//go:build !linux

package confine

import (
	"context"

	"mcp-sandbox/sandbox"
)

// WarmInit makes no difference here: a sandbox has no process of its own to boot.
type WarmInit struct {
	// Once and NextID make no difference either.
	Once   bool
	NextID func() int
}

// Prepare does nothing.
func (*WarmInit) Prepare(sandbox.Policy) {}

// Close does nothing.
func (*WarmInit) Close() {}

// Start makes a sandbox, see the one for Linux.
func (*WarmInit) Start(ctx context.Context, p sandbox.Policy) (*Sandbox, error) {
	return start(ctx, p)
}
