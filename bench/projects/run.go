package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"mcp-sandbox/bench/internal/stdio"
)

// trial is what all steps have in common.
type trial struct {
	mirror *mirror
	bin    string // the server
	dir    string // holds everything that steps write
	limit  time.Duration
}

// row is one step and its runs.
type row struct {
	step
	notTried error // why no run was made
	// The first run of each finds no caches; the second has those of the first.
	outside, inside [2]run
}

// run is one run of a step's command.
type run struct {
	took   time.Duration
	err    error
	output string
	notes  []string // what the server said besides the output
}

// take runs a step twice outside and twice inside.
func (t *trial) take(ctx context.Context, s step) row {
	r := row{step: s}
	for _, program := range s.needs {
		if _, err := exec.LookPath(program); err != nil {
			r.notTried = fmt.Errorf("%s is not installed", program)
			return r
		}
	}
	for _, dir := range s.present {
		if _, err := os.Stat(dir); err != nil {
			r.notTried = fmt.Errorf("there is no %s", dir)
			return r
		}
	}
	for _, p := range s.packages {
		if err := t.mirror.fetch(ctx, p); err != nil {
			r.notTried = err
			return r
		}
	}
	// Once for nothing: who is first has the programs read from the disk.
	r.outside[0] = t.outside(ctx, s, "warm-up", 0)
	if r.outside[0].err != nil {
		return r // nothing to compare with
	}
	for i := range r.outside {
		r.outside[i] = t.outside(ctx, s, "outside", i)
		r.inside[i] = t.inside(ctx, s, i)
	}
	return r
}

// workspace makes the project's files, for the first of the two runs.
func (t *trial) workspace(s step, where string, number int) (dir string, err error) {
	dir = filepath.Join(t.dir, s.dirName(), where)
	if number > 0 {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for name, text := range s.files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(t.mirror.fill(text)), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// environment is a user's, with the real home.
func environment() []string {
	env := []string{"LANG=C.UTF-8", "PATH=" + os.Getenv("PATH")}
	for _, name := range []string{"HOME", "RUSTUP_HOME"} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// inHome moves a user's environment to an empty home, so that the first run has
// no caches.
func inHome(home string) []string {
	env := append(environment(), "HOME="+home,
		// Java looks up the home of the user, not HOME.
		"MAVEN_OPTS=-Dmaven.repo.local="+filepath.Join(home, ".m2", "repository"),
		"GRADLE_USER_HOME="+filepath.Join(home, ".gradle"))
	// The toolchains of rustup stay in the real one.
	if real, err := os.UserHomeDir(); err == nil && os.Getenv("RUSTUP_HOME") == "" {
		env = append(env, "RUSTUP_HOME="+filepath.Join(real, ".rustup"))
	}
	return env
}

func (t *trial) outside(ctx context.Context, s step, where string, number int) run {
	dir, err := t.workspace(s, where, number)
	if err != nil {
		return run{err: err}
	}
	home := filepath.Join(t.dir, s.dirName(), where+"-home")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return run{err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", t.mirror.fill(s.command()))
	cmd.Dir = dir
	cmd.Env = inHome(home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	r := run{took: time.Since(begin), output: string(out), err: err}
	if errors.Is(err, exec.ErrWaitDelay) {
		r.err = nil // a daemon of the project's holds the pipe
	}
	r.check(s, number)
	return r
}

// inside runs a step in a server of its own, as a new session of the same root.
func (t *trial) inside(ctx context.Context, s step, number int) run {
	dir, err := t.workspace(s, "inside", number)
	if err != nil {
		return run{err: err}
	}
	cmd := exec.Command(t.bin, "serve", "--root", dir, "--state-dir", filepath.Join(t.dir, "state"), "--structured", "on",
		"--network", "allow", "--allow-host", t.mirror.address())
	cmd.Env = environment()
	cmd.Dir = dir
	ctx, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	c, err := stdio.Dial(ctx, cmd)
	if err != nil {
		return run{err: err}
	}
	defer c.Close()
	begin := time.Now()
	r := execute(ctx, c, t.mirror.fill(s.command()))
	r.took = time.Since(begin)
	r.check(s, number)
	return r
}

// execute runs a command to its end.
func execute(ctx context.Context, c *stdio.Client, command string) (r run) {
	tool, arguments := "exec_command", map[string]any{"cmd": command, "shell": "bash", "yield_time_ms": 45000, "max_output_tokens": 8000}
	for {
		reply, err := c.Call(ctx, tool, arguments)
		if err != nil {
			r.err = err
			return r
		}
		var o struct {
			Output    string `json:"output"`
			ExitCode  *int   `json:"exit_code"`
			SessionID int    `json:"session_id"`
		}
		if r.err = json.Unmarshal(reply.Structured, &o); r.err != nil {
			return r
		}
		r.output += o.Output
		r.notes = append(r.notes, notesOf(reply.Text())...)
		switch {
		case o.ExitCode == nil:
			tool, arguments = "write_stdin", map[string]any{"session_id": o.SessionID, "yield_time_ms": 45000}
			continue
		case *o.ExitCode != 0:
			r.err = fmt.Errorf("exit code %d", *o.ExitCode)
		}
		return r
	}
}

// notesOf gives the notes of a result, which stand before its output.
func notesOf(text string) (notes []string) {
	head, _, _ := strings.Cut(text, "\nOutput:")
	for line := range strings.SplitSeq(head, "\n") {
		if note, ok := strings.CutPrefix(line, "Note: "); ok && !slices.Contains(notes, note) {
			notes = append(notes, note)
		}
	}
	return notes
}

// check fails a run whose output lacks what the step is to print: an exit code
// alone does not prove that a program ran.
func (r *run) check(s step, number int) {
	want := s.want
	if number > 0 && s.wantSecond != "" {
		want = s.wantSecond
	}
	if r.err == nil && !strings.Contains(r.output, want) {
		r.err = fmt.Errorf("no %q in the output", want)
	}
}

// failure says in one line why a run failed: with the last line of its output
// that names an error.
func (r run) failure() string {
	lines := strings.Split(strings.TrimSpace(r.output), "\n")
	telling := lines[len(lines)-1]
	for _, line := range slices.Backward(lines) {
		low := strings.ToLower(line)
		if strings.Contains(low, "error") || strings.Contains(low, "cannot") || strings.Contains(low, "failed") || strings.Contains(low, "denied") {
			telling = line
			break
		}
	}
	return stdio.FirstLine(fmt.Sprintf("%v: %s", r.err, telling))
}
