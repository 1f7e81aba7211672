package main

import (
	"github.com/spf13/pflag"

	"mcp-sandbox/library"
)

// networkSettings are the allow-list of --network allow and its limits.
type networkSettings struct{ library.Rules }

func registerNetwork(f *pflag.FlagSet, n *networkSettings) {
	f.StringSliceVar(&n.Allow, "allow-host", nil, "with --network allow: host, *.host, address or range, each with an optional :port, that commands may reach")
	f.StringSliceVar(&n.Deny, "deny-host", nil, "with --network allow: hosts, written as for --allow-host, that are refused even if allowed")
	f.StringSliceVar(&n.Presets, "allow-preset", nil, "with --network allow: hosts of go, npm, pypi, debian, github, crates")
	f.BoolVar(&n.Elicit, "elicit-hosts", false, "with --network allow: ask the user, where the client can, to allow a host that no rule names for this session")
	f.Var((*size)(&n.MaxBytes), "limit-net-bytes", "with --network allow: bytes a session may send and receive (default: no limit)")
	f.IntVar(&n.MaxConns, "limit-net-conns", 0, "with --network allow: connections a session may have open (default 256)")
}

// gatewaySeries are a gateway's numbers; nil has none.
func gatewaySeries(g *library.Gateway) []series {
	if g == nil {
		return nil
	}
	t := &g.Traffic
	return []series{
		{"mcp_sandbox_egress_bytes_total", "Bytes that commands sent to and received from allowed hosts.", func() float64 { return float64(t.Bytes.Load()) }, true},
		{"mcp_sandbox_egress_connections_total", "Connections of commands that the network proxy took.", func() float64 { return float64(t.Opened.Load()) }, true},
		{"mcp_sandbox_egress_connections", "Connections of commands that are open.", func() float64 { return float64(t.Open.Load()) }, false},
	}
}
