//go:build !linux

package confine

import (
	"context"

	"mcp-sandbox/sandbox"
)

// WarmInit makes no difference here: a sandbox has no process of its own to boot.
type WarmInit struct{}

// Prepare does nothing.
func (*WarmInit) Prepare(sandbox.Policy) {}

// Close does nothing.
func (*WarmInit) Close() {}

// Start is [Start].
func (*WarmInit) Start(ctx context.Context, p sandbox.Policy) (*Sandbox, error) {
	return Start(ctx, p)
}
