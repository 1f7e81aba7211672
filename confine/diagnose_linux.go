package confine

import (
	"strconv"
	"strings"

	"mcp-sandbox/sandbox"
)

// landlockFixed lists the Landlock errata the kernel has fixed (LANDLOCK_CREATE_RULESET_ERRATA).
func landlockFixed() string {
	var fixed []string
	for n, bits := 1, landlockErrata(); bits != 0; n, bits = n+1, bits>>1 {
		if bits&1 != 0 {
			fixed = append(fixed, strconv.Itoa(n))
		}
	}
	return strings.Join(fixed, " ")
}

func seccompDetail() string {
	return seccompSummary(seccompOptions{Network: sandbox.NetworkLoopback, ProtectPid1: true})
}
