package confine

import (
	"context"
	"net"
	"net/netip"

	"mcp-sandbox/sandbox"
)

// Gate is GateNone: macOS has no networks of a session's own.
func (s *Sandbox) Gate() Gate { return GateNone }

// ListenGate always fails.
func (s *Sandbox) ListenGate(int) (net.Listener, error) {
	return nil, errorf("confinement_unavailable", nil, "macOS has no network of a session's own; use the proxy")
}

// ListenNames always fails.
func (s *Sandbox) ListenNames() (net.PacketConn, error) {
	return nil, errorf("confinement_unavailable", nil, "macOS has no network of a session's own; use the proxy")
}

// DenyConn is false: macOS does not tell whose connection it is.
func (s *Sandbox) DenyConn(context.Context, net.Addr, sandbox.Denial) bool { return false }

// ExplainConns does nothing.
func (s *Sandbox) ExplainConns(func(netip.AddrPort) sandbox.Denial) {}

// SeesConns is false: nothing looks at connections.
func (s *Sandbox) SeesConns() bool { return false }

// GateIPv6 is false: there is no gate.
func (s *Sandbox) GateIPv6() bool { return false }
