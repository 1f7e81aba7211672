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
	if got := run("review", "--list"); name == "" || strings.Contains(got, name) {
		t.Errorf("a person deleted %q: %s", name, got)
	}
}

// TestReviewAfterClose: what stayed of git in a directory of the user's waits for a
// person also when the model or an age has ended the sandbox.
func TestReviewAfterClose(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("nothing stays in a session at this level")
	}
	dir := t.TempDir()
	openPath(t, dir)
	for _, args := range [][]string{{"init", "-q", dir}, {"-C", dir, "config", "user.name", "u"}} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", args, err, out)
		}
	}
	one := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(one, []byte(annsToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--root", dir, "--default-sandbox", "on", "--token-file", one}
	n := startNetwork(t, nil, args...)
	c := n.client(annsToken)
	c.sh("git config core.fsmonitor ./x")
	list := func(command ...string) string {
		out, err := exec.Command(binary, append(command, "--state-dir", n.state)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v %s", command, err, out)
		}
		return string(out)
	}
	waits := func(when string) {
		t.Helper()
		if out := list("review", "--list"); !strings.Contains(out, dir) {
			t.Errorf("review --list %s: %s", when, out)
		}
	}
	n.stop()
	waits("after the server's end")
	n = startNetwork(t, n, append(args, "--session-max-age", "1ms")...)
	waitFor(t, "the sandbox to be deleted for its age", func() bool { return !strings.Contains(list("sessions", "list"), dir) })
	waits("after an age")
	n.stop()
	n = startNetwork(t, n, args...)
	c = n.client(annsToken)
	c.sh("git config core.fsmonitor ./y")
	if res := c.call("session_close", nil); res.IsError {
		t.Fatalf("session_close: %s", res.text())
	}
	waits("after session_close")
	n.stop()
}
