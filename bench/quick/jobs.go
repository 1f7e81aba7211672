package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mcp-sandbox/bench/internal/stdio"
)

// subject is one build with its files and a server that lives on between rounds.
type subject struct {
	binary string
	dir    string
	server *stdio.Client
}

const (
	sourceFiles = 2000 // in the workspace, for searches and snapshots
	readSize    = 130_000
	floodSize   = 8_000_000
)

func (s *subject) root() string  { return filepath.Join(s.dir, "root") }
func (s *subject) state() string { return filepath.Join(s.dir, "state") }

// prepare fills the workspace and starts the server.
func (s *subject) prepare() error {
	line := "the quick brown fox jumps over the lazy dog, 0123456789\n"
	for i := range sourceFiles {
		dir := filepath.Join(s.root(), "tree", fmt.Sprint(i%40))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d.txt", i)), []byte(strings.Repeat(line, 20)+fmt.Sprint("number ", i, "\n")), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(s.root(), "long.txt"), []byte(strings.Repeat(line, readSize/len(line))), 0o644); err != nil {
		return err
	}
	server, err := s.dial(context.Background(), s.state())
	s.server = server
	return err
}

func (s *subject) close() {
	if s.server != nil {
		s.server.Close()
	}
}

func (s *subject) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.binary, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + os.TempDir()}
	return cmd
}

func (s *subject) dial(ctx context.Context, state string) (*stdio.Client, error) {
	return stdio.Dial(ctx, s.command("serve", "--root", s.root(), "--state-dir", state, "--structured", "on"))
}

// A job does a piece of work once and says how long it took, in milliseconds.
type job struct {
	name string
	run  func(context.Context, *subject) (float64, error)
}

func jobs() []job {
	call := func(tool string, arguments map[string]any) func(context.Context, *subject) error {
		return func(ctx context.Context, s *subject) error {
			_, err := s.server.Call(ctx, tool, arguments)
			return err
		}
	}
	return []job{
		{"start to initialize", startToReady},
		{"start to the first command", firstCommand},
		{"exec -- true", repeated(5, func(_ context.Context, s *subject) error {
			return s.command("exec", "--root", s.root(), "--state-dir", filepath.Join(s.dir, "exec-state"), "--", "true").Run()
		})},
		{"one command", repeated(40, run("true"))},
		{"8 commands at once", repeated(6, atOnce(8))},
		{"64 commands at once", repeated(1, atOnce(64))},
		{"read 130 KB", repeated(4, func(ctx context.Context, s *subject) error {
			r, err := s.server.Call(ctx, "read_file", map[string]any{"path": "long.txt", "max_output_tokens": 60000, "limit": 5000})
			if err == nil && len(r.Text()) < readSize*9/10 {
				err = fmt.Errorf("%d bytes came", len(r.Text()))
			}
			return err
		})},
		{"8 MB of output", repeated(2, run(fmt.Sprintf("yes 0123456789abcdef | head -c %d", floodSize)))},
		{"a line to a terminal", terminalLine},
		{"write and edit a file", repeated(6, func(ctx context.Context, s *subject) error {
			if err := call("write_file", map[string]any{"path": "new.txt", "content": "one\ntwo\n", "force": true})(ctx, s); err != nil {
				return err
			}
			return call("edit_file", map[string]any{"path": "new.txt", "old_text": "two", "new_text": "three"})(ctx, s)
		})},
		{fmt.Sprintf("search %d files", sourceFiles), repeated(1, call("search_text", map[string]any{"path": "tree", "pattern": "number 77"}))},
		{fmt.Sprintf("snapshot of %d files, unchanged", sourceFiles), repeated(1, call("snapshot_create", map[string]any{}))},
		{"end a tree that ignores SIGTERM", endTree},
	}
}

func since(start time.Time) float64 { return float64(time.Since(start).Microseconds()) / 1e3 }

// repeated is the time of one of n in a row.
func repeated(n int, do func(context.Context, *subject) error) func(context.Context, *subject) (float64, error) {
	return func(ctx context.Context, s *subject) (float64, error) {
		start := time.Now()
		for range n {
			if err := do(ctx, s); err != nil {
				return 0, err
			}
		}
		return since(start) / float64(n), nil
	}
}

type commandResult struct {
	ExitCode  *int `json:"exit_code"`
	SessionID int  `json:"session_id"`
}

func command(ctx context.Context, c *stdio.Client, tool string, arguments map[string]any) (commandResult, error) {
	var r commandResult
	reply, err := c.Call(ctx, tool, arguments)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(reply.Structured, &r)
}

func runOn(ctx context.Context, c *stdio.Client, line string) error {
	r, err := command(ctx, c, "exec_command", map[string]any{"cmd": line, "yield_time_ms": 45000})
	if err == nil && (r.ExitCode == nil || *r.ExitCode != 0) {
		err = errors.New("the command did not exit with 0")
	}
	return err
}

func run(line string) func(context.Context, *subject) error {
	return func(ctx context.Context, s *subject) error { return runOn(ctx, s.server, line) }
}

func atOnce(n int) func(context.Context, *subject) error {
	return func(ctx context.Context, s *subject) error {
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { errs[i] = runOn(ctx, s.server, "true") })
		}
		wg.Wait()
		return errors.Join(errs...)
	}
}

func startToReady(ctx context.Context, s *subject) (float64, error) {
	c, err := s.dial(ctx, filepath.Join(s.dir, "start-state"))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return float64(c.Ready().Microseconds()) / 1e3, nil
}

func firstCommand(ctx context.Context, s *subject) (float64, error) {
	start := time.Now()
	c, err := s.dial(ctx, filepath.Join(s.dir, "start-state"))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	err = runOn(ctx, c, "true")
	return since(start), err
}

// terminalLine is from a typed line to what the program answered.
func terminalLine(ctx context.Context, s *subject) (float64, error) {
	r, err := command(ctx, s.server, "exec_command", map[string]any{"cmd": "while read -r l; do echo got $l; done", "tty": true, "yield_time_ms": 250})
	if err != nil {
		return 0, err
	}
	defer s.server.Call(ctx, "kill_process", map[string]any{"session_id": r.SessionID, "signal": "KILL"})
	return repeated(5, func(ctx context.Context, s *subject) error {
		reply, err := s.server.Call(ctx, "write_stdin", map[string]any{"session_id": r.SessionID, "chars": "hello\n", "yield_time_ms": 5000})
		if err == nil && !strings.Contains(reply.Text(), "got hello") {
			err = errors.New("the line was not answered")
		}
		return err
	})(ctx, s)
}

func endTree(ctx context.Context, s *subject) (float64, error) {
	r, err := command(ctx, s.server, "exec_command", map[string]any{
		"cmd": `trap "" TERM; for i in 1 2 3; do setsid sleep 1000 & done; echo ready; sleep 1000`, "wait_for": "ready", "yield_time_ms": 10000,
	})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	_, err = s.server.Call(ctx, "kill_process", map[string]any{"session_id": r.SessionID, "signal": "KILL"})
	return since(start), err
}
