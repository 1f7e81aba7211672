package confine

import (
	"context"
	"net"

	"mcp-sandbox/sandbox"
)

// Gate is GateNone: macOS has no networks of a session's own.
func (s *Sandbox) Gate() Gate { return GateNone }

// ListenGate always fails.
func (s *Sandbox) ListenGate(int) (net.Listener, error) {
	return nil, errorf("confinement_unavailable", nil, "macOS has no network of a session's own, use the proxy")
}

// ListenNames always fails.
func (s *Sandbox) ListenNames() (net.PacketConn, error) {
	return nil, errorf("confinement_unavailable", nil, "macOS has no network of a session's own, use the proxy")
}

// DenyConn is false: macOS does not tell whose connection it is.
func (s *Sandbox) DenyConn(context.Context, net.Addr, sandbox.Denial) bool { return false }
