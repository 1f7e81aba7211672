package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestWithoutGate: on a host that lends a session one network namespace and no second
// one, names work, what is reached by the proxy alone is told, and the warning has the
// kernel's own reason.
func TestWithoutGate(t *testing.T) {
	needsOwnNetwork(t)
	if os.Getenv(noGateEnv) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run", "^TestWithoutGate$")
		cmd.Env = append(os.Environ(), noGateEnv+"=1", envPrefix+"TEST_BIN="+binary)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestWithoutGate") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	root := t.TempDir()
	openPath(t, root)
	const line = `getent hosts good.example; for to in 192.0.2.7/443 192.0.2.8/443 good.example/8443; do cat < /dev/tcp/$to; done; curl -sS http://evil.example/; false`
	out, _ := exec.Command(binary, "exec", "--root", root, "--network", "allow", "--allow-host", "good.example", "--allow-host", "192.0.2.7", "--", line).CombinedOutput()
	for _, want := range []string{
		"the kernel gives no second network namespace with a veth pair (network namespace: no space left on device)",
		"198.19.0.1",
		"network: 192.0.2.7:443 cannot be reached without the proxy: this host gives sessions no gate; use a program that reads http_proxy and https_proxy",
		"network: 192.0.2.8:443 is not allowed: 192.0.2.8 is a documentation address that no rule names",
		"network: good.example:8443 is not allowed: the rule for it does not cover this port",
		"network: evil.example:80 is not allowed",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
