package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStagedClose: over a network neither the model nor an age ends a sandbox in whose
// stage changes wait; a person does.
func TestStagedClose(t *testing.T) {
	p := newStagedProject(t)
	one := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(one, []byte(annsToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func(before *network, args ...string) *network {
		return startNetwork(t, before, append([]string{"--root", p.dir, "--staged", "--default-sandbox", "on", "--token-file", one}, args...)...)
	}
	temp := t.TempDir()
	openPath(t, temp)
	n := serve(&network{state: p.state, temp: temp})
	c := n.client(annsToken)
	c.sh("echo 1 > a.txt")
	if res := c.call("session_close", nil); res.IsError || !strings.Contains(res.text(), "while changes wait") {
		t.Errorf("session_close: %s", res.text())
	}
	if got := c.sh("cat a.txt"); got != "1\n" {
		t.Errorf("after session_close: %q", got)
	}
	n.stop()
	n = serve(n, "--session-max-age", "1ms")
	time.Sleep(300 * time.Millisecond) // it looks for what is too old when it starts
	n.stop()
	name := ""
	run := func(args ...string) string {
		out, err := exec.Command(binary, append(args, "--state-dir", p.state)...).CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for _, w := range strings.Fields(run("review", "--list")) {
		if strings.HasPrefix(w, "client-") {
			name = w
		}
	}
	if got := run("review", "--root", p.dir, "--session", name); !strings.Contains(got, "+1\n") {
		t.Errorf("what waits in %q: %s", name, got)
	}
	run("sessions", "delete", name)
	if got := run("review", "--list"); strings.Contains(got, p.dir) {
		t.Errorf("a person deleted it: %s", got)
	}
}
