package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestExecWorkspaceLimit: exec ends a command whose workspace grows past the limit, as a
// server does, a temporary one and the stage of a project.
func TestExecWorkspaceLimit(t *testing.T) {
	p := newStagedProject(t)
	for name, args := range map[string][]string{"temporary": nil, "staged": {"--root", p.dir, "--staged"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			cmd := exec.Command(binary, append(append([]string{"exec", "--state-dir", t.TempDir(), "--limit-workspace", "1M"}, args...), "--", "head -c 3000000 /dev/zero > big; exec sleep 20")...)
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != 137 || !strings.Contains(string(out), "it grew past 1048576 bytes") || time.Since(began) > 15*time.Second {
				t.Errorf("status %d after %v: %s", code, time.Since(began), out)
			}
		})
	}
}
