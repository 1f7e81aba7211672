package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestChildLeavesBeforeHeavyPackages: the sandbox's init is this binary started
// again and pays for every package initialised before confine's; the heavy ones
// must come after it.
func TestChildLeavesBeforeHeavyPackages(t *testing.T) {
	cmd := exec.Command(binary, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seen := map[string]int{}
	for i, line := range strings.Split(string(out), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "init" {
			seen[f[1]] = i + 1
		}
	}
	own := seen["mcp-sandbox/confine"]
	if own == 0 {
		t.Fatalf("no trace of confine's initialisation:\n%s", out)
	}
	heavy := seen["github.com/santhosh-tekuri/jsonschema/v6"]
	if heavy == 0 {
		t.Skip("the heavy package is no longer linked")
	}
	if heavy < own {
		t.Errorf("jsonschema is initialised before confine: every session start pays for it")
	}
}
