package confine

import (
	"context"

	"mcp-sandbox/sandbox"
)

// Start is a start without a waiting init.
func Start(ctx context.Context, p sandbox.Policy) (*Sandbox, error) {
	return (*WarmInit)(nil).Start(ctx, p)
}
