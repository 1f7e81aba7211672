package main

import (
	"context"

	"mcp-sandbox/ptyproc"
)

// AwaitsInput is known on Linux only.
func (c child) AwaitsInput(ctx context.Context) ptyproc.InputState {
	return ptyproc.InputState(c.Process.AwaitsInput(ctx))
}
