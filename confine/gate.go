package confine

// Gate is how programs that know nothing of a proxy reach what the rules of
// sandbox.NetworkAllow let through.
type Gate int

// The gates, from the weakest.
const (
	// GateNone: not at all, only programs that use the proxy reach anything.
	GateNone Gate = iota
	// GateNames: with sandbox.NetworkLoopback, names are asked for but none leads
	// anywhere.
	GateNames
	// GateLoopback: names lead to further addresses of the session's loopback,
	// and the session cannot listen on the ports of allowed hosts everywhere.
	GateLoopback
	// GateNetwork: whatever is not the session's own address leads to the gate.
	GateNetwork
)

// The addresses between a session and its gate. RFC 2544 gives the block to
// measurements between two devices, so no service has one.
const (
	// GateAddress is where names are asked for.
	GateAddress = "198.18.0.1"
	// SessionAddress is the session's own, besides its loopback.
	SessionAddress = "198.18.0.2"
	// SessionAddress6 is the same for IPv6, of the block of RFC 5180.
	SessionAddress6 = "2001:2::2"
)
