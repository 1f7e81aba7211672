//go:build !conformance

package tools

import "github.com/mark3labs/mcp-go/server"

// conformanceOptions and offerConformance are the fixture of the MCP conformance
// suite in a test build (conformance.go), and nothing in any other.
func conformanceOptions() []server.ServerOption { return nil }

func offerConformance(*Server) {}
