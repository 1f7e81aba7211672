package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var killPoints = flag.Int("kills", 12, "how many random points of a life TestKilledAnywhere kills the server at")

// lives are what is started and killed: an owned workspace that ends with its
// server, named ones, a person's directory, and the deletion of a named one.
var lives = []struct {
	name string // its journal is followed
	args []string
}{
	{"", []string{"exec", "--manifest", "manifest.json"}},
	{"one", []string{"exec", "--session", "one", "--manifest", "manifest.json"}},
	{"one", []string{"exec", "--session", "one", "--manifest", "manifest.json"}},
	{"", []string{"exec", "--root", "project", "--manifest", "manifest.json"}},
	{"own", []string{"exec", "--session", "own", "--root", "project", "--manifest", "manifest.json"}},
	{"", []string{"exec", "--session", "gone", "--manifest", "manifest.json"}},
	{"", []string{"sessions", "delete", "gone"}},
}

// work says a number only once it is in the journal, so that what was said must
// be found again whatever happened since.
const work = `n=$(tail -n1 journal 2>/dev/null); n=$((${n:-0}+1)); (trap '' TERM; exec setsid sleep 1000) & echo $n >> journal; echo wrote $n; cat ephemeral > copy; sleep 0.01; n=$((n+1)); echo $n >> journal; echo wrote $n`

// TestKilledAnywhere kills a server with SIGKILL at random moments of a life and
// starts another: no process, mount or owned directory of the dead one is left, a
// person's directory is as it was, and what a named session was seen to write is
// there (AC-46).
func TestKilledAnywhere(t *testing.T) {
	base := t.TempDir()
	openPath(t, base)
	temp, state := filepath.Join(base, "tmp"), filepath.Join(base, "state")
	for _, d := range []string{temp, filepath.Join(base, "project", "src")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(base, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("project/mine", "a person's file\n")
	write("project/src/main.go", "a person's code\n")
	entries := map[string]any{"src/main.go": map[string]any{"type": "file", "content": "ours\n"}}
	for i := range 40 {
		entries[fmt.Sprintf("d%d/f", i)] = map[string]any{"type": "file", "content": strings.Repeat("x", 5000)}
	}
	entries["ephemeral"] = map[string]any{"type": "file", "content": "made anew\n", "ephemeral": true}
	b, err := json.Marshal(map[string]any{"entries": entries})
	if err != nil {
		t.Fatal(err)
	}
	write("manifest.json", string(b))

	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command(binary, append(args[:1:1], append([]string{"--state-dir", state}, args[1:]...)...)...)
		if args[0] == "sessions" {
			cmd = exec.Command(binary, append([]string{"sessions", args[1], "--state-dir", state}, args[2:]...)...)
		}
		cmd.Dir, cmd.Env = base, append(os.Environ(), "TMPDIR="+temp)
		return cmd
	}
	if out, err := run("exec", "--", "true").CombinedOutput(); err != nil {
		unconfinable(t, string(out))
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	seen := map[string]int{}
	killed := 0
	for point := range *killPoints {
		l := lives[rng.IntN(len(lives))]
		args := l.args
		if args[0] == "exec" {
			args = append(args[:len(args):len(args)], "--", work)
		}
		cmd := run(args...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := time.Duration(rng.Int64N(int64(160 * time.Millisecond)))
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		for sc := bufio.NewScanner(out); sc.Scan(); {
			if n, ok := strings.CutPrefix(sc.Text(), "wrote "); ok && l.name != "" {
				if seen[l.name], err = strconv.Atoi(n); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); !timer.Stop() && err != nil {
			killed++
		}
		assertClean(t, fmt.Sprintf("point %d: %v killed after %v", point, l.args, after), base, run)
		if t.Failed() {
			return
		}
	}
	if killed == 0 {
		t.Error("not one was killed: the test looks at nothing")
	}
	for name, n := range seen {
		out, err := run("exec", "--session", name, "--", "cat journal").CombinedOutput()
		if err != nil || !strings.Contains("\n"+string(out), fmt.Sprintf("\n%d\n", n)) {
			t.Errorf("%s: %d was written and is lost: %v\n%s", name, n, err, out)
		}
	}
	t.Logf("%d of %d killed, journals %v", killed, *killPoints, seen)
	for _, name := range []string{"one", "own", "gone"} {
		_ = run("sessions", "delete", name).Run()
	}
	assertClean(t, "after the deletions", base, run)
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}

// assertClean starts another server, which cleans up, and looks at what is left.
func assertClean(t *testing.T, when, base string, run func(...string) *exec.Cmd) {
	t.Helper()
	if out, err := run("exec", "--", "true").CombinedOutput(); err != nil {
		t.Fatalf("%s: the next server does not work: %v\n%s", when, err, out)
	}
	temp, state := filepath.Join(base, "tmp"), filepath.Join(base, "state")
	out, err := run("sessions", "list", "--json").Output()
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	var saved []struct{ Name, Workspace, Problem string }
	if err := json.Unmarshal(out, &saved); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, s := range saved {
		known[s.Workspace] = true
		if s.Problem != "" && s.Name != "gone" {
			t.Errorf("%s: %s cannot be resumed: %s", when, s.Name, s.Problem)
		}
	}
	left, _ := os.ReadDir(temp)
	for _, d := range left {
		if !known[filepath.Join(temp, d.Name())] {
			t.Errorf("%s: an owned directory is left: %s", when, d.Name())
		}
	}
	records, _ := filepath.Glob(filepath.Join(state, "sessions", "*"))
	for _, r := range records {
		if filepath.Ext(r) != ".json" {
			t.Errorf("%s: left in the state directory: %s", when, filepath.Base(r))
		}
	}
	if len(records) > len(saved) {
		t.Errorf("%s: %d records of %d sessions", when, len(records), len(saved))
	}
	for name, want := range map[string]string{"mine": "a person's file\n", "src/main.go": "a person's code\n"} {
		if b, err := os.ReadFile(filepath.Join(base, "project", name)); err != nil || string(b) != want {
			t.Errorf("%s: a person's %s holds %q, %v", when, name, b, err)
		}
	}
	if stubs, _ := filepath.Glob(filepath.Join(base, "project", ".mcp-sandbox*")); len(stubs) > 0 {
		t.Errorf("%s: left in a person's directory: %v", when, stubs)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil && strings.Contains(string(mounts), base) {
		t.Errorf("%s: a mount is left", when)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(processesWith(temp)) > 0 {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: processes are left: %v", when, processesWith(temp))
		case <-time.After(10 * time.Millisecond):
		}
	}
}
