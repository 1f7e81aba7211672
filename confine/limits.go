package confine

import (
	"strings"

	"mcp-sandbox/sandbox"
)

// remedyLimits goes with every limit that cannot be enforced.
const remedyLimits = "give the server a control group of its own (systemd: Delegate=yes, on control groups of version 2), leave the limit out, or start with --limits best-effort"

// asksCgroup says whether a limit was asked for that only a control group keeps.
func asksCgroup(l sandbox.Limits, uid int) bool {
	return l.Memory > 0 || l.CPU > 0 || l.Procs > 0 && uid == 0
}

// unenforced is the refusal of a session that would go without a limit that was
// asked for. has says what its control group keeps, why gives the reasons.
func unenforced(l sandbox.Limits, uid int, has func(controller string) bool, why []string) error {
	if l.BestEffort {
		return nil
	}
	var lost []string
	for _, k := range []struct {
		asked      bool
		controller string
		name       string
	}{{l.Memory > 0, "memory", "memory"}, {l.CPU > 0, "cpu", "CPU"}, {l.Procs > 0 && uid == 0, "pids", "process"}} {
		if k.asked && !has(k.controller) {
			lost = append(lost, k.name)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	text := strings.Join(lost, " and ") + " limit"
	if len(why) > 0 {
		text += " (" + strings.Join(why, ", ") + ")"
	}
	return errorf("confinement_unavailable", nil, "this host cannot enforce the %s; %s", text, remedyLimits)
}
