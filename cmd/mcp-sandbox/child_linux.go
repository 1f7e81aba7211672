package main

import (
	"context"

	"mcp-sandbox/ptyproc"
)

// AwaitsInput is known on Linux only.
func (c child) AwaitsInput(ctx context.Context) ptyproc.InputState {
	return ptyproc.InputState(c.Process.AwaitsInput(ctx))
}

// Family lists the living processes of the command.
func (c child) Family(ctx context.Context) ([]ptyproc.Relative, error) {
	family, err := c.Process.Family(ctx)
	out := make([]ptyproc.Relative, len(family))
	for i, r := range family {
		out[i] = ptyproc.Relative(r)
	}
	return out, err
}
