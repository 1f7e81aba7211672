package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRevokedTokenEndsWhatRuns: a principal that leaves the token file loses its
// calls, streams and processes, and nobody else does; its files are kept.
func TestRevokedTokenEndsWhatRuns(t *testing.T) {
	n := startNetwork(t, nil, "--log-level", "info")
	ann, bob := n.session(annsToken), n.session(bobsToken)
	ann.sh("echo kept > f")
	bob.sh("echo kept > f")
	type answer struct {
		status int
		text   string
		err    error
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	run := func(r *remote, method, body string, headers ...string) <-chan answer {
		got := make(chan answer, 1)
		go func() {
			resp, err := http.DefaultClient.Do(r.request(ctx, method, body, headers...))
			if err != nil {
				got <- answer{err: err}
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(bufio.NewReader(resp.Body))
			got <- answer{resp.StatusCode, string(b), err}
		}()
		return got
	}
	sleep := func(r *remote) <-chan answer {
		_, body, headers := r.message("exec_command", map[string]any{"cmd": "touch started; sleep 1000", "yield_time_ms": 40000})
		return run(r, http.MethodPost, body, headers...)
	}
	bobs, anns, stream := sleep(bob), sleep(ann), run(bob, http.MethodGet, "", "Accept: text/event-stream")
	for _, r := range []*remote{ann, bob} {
		waitFor(t, "the command", func() bool { return strings.Contains(r.sh("ls"), "started") })
	}
	list := func(args ...string) string {
		out, err := exec.Command(binary, append([]string{"sessions"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v %s", args, err, out)
		}
		return string(out)
	}
	if text := list("list", "--state-dir", n.state); strings.Count(text, " ann ") != 1 || strings.Count(text, " bob ") < 1 {
		t.Errorf("list: %q", text)
	}
	if text := list("list", "--state-dir", n.state, "--principal", "ann"); strings.Count(text, " ann ") != 1 || strings.Contains(text, " bob ") {
		t.Errorf("list of ann: %q", text)
	}

	tokens := filepath.Join(filepath.Dir(n.state), "tokens")
	// A wrong file ends nothing.
	if err := os.WriteFile(tokens, []byte("not a token file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the wrong file", func() bool { return strings.Contains(n.stderr.String(), "nobody is admitted") })
	select {
	case a := <-bobs:
		t.Fatalf("a wrong file ended a call: %+v", a)
	default:
	}
	if err := os.WriteFile(tokens, []byte(annsToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := <-bobs; a.err != nil || a.status != http.StatusUnauthorized || !strings.Contains(a.text, "revoked") {
		t.Errorf("the call: %+v", a)
	}
	if a := <-stream; a.err != nil || a.status != http.StatusOK {
		t.Errorf("the stream: %+v", a)
	}
	waitFor(t, "the sessions to be suspended", func() bool { return !strings.Contains(list("list", "--state-dir", n.state), " bob ") })
	if text := list("list", "--state-dir", n.state, "--principal", "bob"); !strings.Contains(text, "saved ") {
		t.Errorf("bob's sessions: %q", text)
	}
	select {
	case a := <-anns:
		t.Errorf("another principal's call ended: %+v", a)
	default:
	}

	if text := list("end", "--state-dir", n.state, "--principal", "ann"); text != "1 sessions ended\n" {
		t.Errorf("end: %q", text)
	}
	<-anns
	if got := ann.sh("cat f"); got != "kept\n" {
		t.Errorf("%q", got)
	}
	n.stop()
	if out, err := exec.Command(binary, "sessions", "end", "--state-dir", n.state, "--principal", "ann").CombinedOutput(); err == nil || !strings.Contains(string(out), "no network server") {
		t.Errorf("%v %s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(n.state, "admin-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
