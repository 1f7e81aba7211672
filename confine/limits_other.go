//go:build !linux && !darwin

package confine

import "mcp-sandbox/sandbox"

// CheckLimits has nothing to check: nothing starts here.
func CheckLimits(sandbox.Limits, sandbox.Level) error { return nil }
