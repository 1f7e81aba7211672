package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stagedProject is a project of a user that sessions only see through a stage.
type stagedProject struct {
	t          testing.TB
	dir, state string
}

func newStagedProject(t testing.TB) *stagedProject {
	t.Helper()
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("nothing can be mounted at this level") // TestStagedRefused holds it
	}
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	openPath(t, top)
	p := &stagedProject{t: t, dir: top + "/p", state: top + "/state"}
	for _, d := range []string{"p/dir/sub", "p/bin"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"a.txt": "one\ntwo\n", "b.txt": "b\n", "dir/c.txt": "c\n", "dir/sub/d.txt": "d\n"} {
		put(t, p.dir+"/"+name, text)
	}
	put(t, p.dir+"/bin/run", "#!/bin/sh\n")
	if err := os.Chmod(p.dir+"/bin/run", 0o755); err != nil {
		t.Fatal(err)
	}
	p.settled()
	return p
}

// settled waits until the project is older than the clock's grain: what changes while a
// session starts is one that it cannot be sure of.
func (p *stagedProject) settled() {
	made := time.Now()
	waitFor(p.t, "the clock to go on", func() bool { return time.Since(made) > 60*time.Millisecond })
}

// serve starts a session, which the caller ends with stop.
func (p *stagedProject) serve(args ...string) *client {
	p.t.Helper()
	c := launchClient(p.t, p.state, p.t.TempDir(), append([]string{"--root", p.dir, "--staged"}, args...)...)
	p.t.Cleanup(c.stop)
	c.initialize("2025-11-25")
	return c
}

// session runs one command in the stage.
func (p *stagedProject) session(line string, args ...string) string {
	p.t.Helper()
	out, err := p.try(line, args...)
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

func (p *stagedProject) try(line string, args ...string) (string, error) {
	cmd := exec.Command(binary, append(append([]string{"exec", "--root", p.dir, "--state-dir", p.state, "--staged"}, args...), "--", line)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// review runs the command; 1 is the status of one that left something.
func (p *stagedProject) review(args ...string) reviewReport {
	p.t.Helper()
	cmd := exec.Command(binary, append([]string{"review", "--root", p.dir, "--state-dir", p.state, "--json"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		p.t.Fatalf("review %v: %v\n%s", args, err, stderr.String())
	}
	var r reviewReport
	if err := json.Unmarshal(out, &r); err != nil {
		p.t.Fatalf("review %v: %v\n%s", args, err, out)
	}
	return r
}

// allOf is all there is to a directory: kinds, modes, times, links and content.
func allOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("%o", st.Mode)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(name)
			text += " -> " + to
		case d.Type().IsRegular():
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %d %s", st.Mtim.Nano(), b)
		}
		out[rel] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameTree(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for p, w := range want {
		if g, ok := got[p]; !ok {
			t.Errorf("%s: %s is missing", what, p)
		} else if g != w {
			t.Errorf("%s: %s is %q, want %q", what, p, g, w)
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%s: %s should not be there", what, p)
		}
	}
}
