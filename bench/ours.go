package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"mcp-sandbox/bench/internal/stdio"
)

// ours is this repository's server, built by the benchmark.
type ours struct{ bin string }

const oursName = "mcp-sandbox"

func (*ours) Name() string { return oursName }

func (o *ours) Install(ctx context.Context, c *cache) (string, error) {
	bin, err := c.build(ctx)
	if err != nil {
		return "", err
	}
	o.bin = bin
	commit, err := output(ctx, exec.CommandContext(ctx, "git", "describe", "--always", "--exclude=*", "--dirty=, with changes"))
	if err != nil {
		return "this source", nil
	}
	return "commit " + commit, nil
}

func (o *ours) Start(ctx context.Context, r room) (session, error) {
	cmd := exec.Command(o.bin, "serve", "--root", r.workspace)
	cmd.Env = environment(r, "PATH="+os.Getenv("PATH"))
	cmd.Dir = r.workspace
	c, err := stdio.Dial(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return &oursSession{Client: c, room: r}, nil
}

type oursSession struct {
	*stdio.Client
	room room
}

type commandResult struct {
	Output    string
	ExitCode  string // "" while it runs
	SessionID int    // 0 when it has ended
}

// status is the first line of a reply about a command.
var status = regexp.MustCompile(`^Process (?:exited with code (\d+)|running with session ID (\d+))`)

// command reads the text, which is all that most clients are sent.
func (s *oursSession) command(ctx context.Context, tool string, arguments map[string]any) (commandResult, error) {
	reply, err := s.Call(ctx, tool, arguments)
	if err != nil {
		return commandResult{}, err
	}
	text := reply.Text()
	m := status.FindStringSubmatch(text)
	if m == nil {
		return commandResult{}, fmt.Errorf("%s: %s", tool, stdio.FirstLine(text))
	}
	_, output, _ := strings.Cut(text, "\nOutput:\n")
	id, _ := strconv.Atoi(m[2])
	return commandResult{output, m[1], id}, nil
}

func (s *oursSession) Run(ctx context.Context, command string) error {
	r, err := s.command(ctx, "exec_command", map[string]any{"cmd": command, "yield_time_ms": 45000})
	if err != nil {
		return err
	}
	if r.ExitCode != "0" {
		return errors.New("exec_command: the command did not exit with 0")
	}
	return nil
}

func (s *oursSession) Launch(ctx context.Context, command string) (func(context.Context) error, error) {
	r, err := s.command(ctx, "exec_command", map[string]any{"cmd": command, "yield_time_ms": 250})
	if err != nil {
		return nil, err
	}
	if r.SessionID == 0 {
		return nil, errors.New("exec_command: the command ended at once")
	}
	return func(ctx context.Context) error {
		_, err := s.Call(ctx, "kill_process", map[string]any{"session_id": r.SessionID, "signal": "KILL"})
		return err
	}, nil
}

func (s *oursSession) Terminal(ctx context.Context) (func(context.Context, string) error, func(), error) {
	r, err := s.command(ctx, "exec_command", map[string]any{"cmd": "cat", "tty": true, "yield_time_ms": 250})
	if err != nil {
		return nil, nil, err
	}
	enter := func(ctx context.Context, line string) error {
		reply, err := s.command(ctx, "write_stdin", map[string]any{"session_id": r.SessionID, "chars": line + "\n"})
		if err == nil && !strings.Contains(reply.Output, line) {
			err = fmt.Errorf("write_stdin: no %q in the reply", line)
		}
		return err
	}
	stop := func() {
		_, _ = s.Call(context.WithoutCancel(ctx), "kill_process", map[string]any{"session_id": r.SessionID, "signal": "KILL"})
	}
	return enter, stop, nil
}

// readPage is as many lines of source as stay under read_file's largest
// max_output_tokens of 1,000,000.
const readPage = 40000

func (s *oursSession) Read(ctx context.Context, f file) error {
	got := 0
	for offset := 1; offset <= f.lines; offset += readPage {
		reply, err := s.Call(ctx, "read_file", map[string]any{
			"path": s.relative(f.path), "offset": offset, "limit": readPage, "max_output_tokens": 1000000})
		if err != nil {
			return err
		}
		got += len(reply.Text())
	}
	return whole(got, f)
}

func (s *oursSession) SearchText(ctx context.Context, dir, text string, want int) error {
	reply, err := s.Call(ctx, "search_text", map[string]any{"path": s.relative(dir), "pattern": text, "max_results": 1000})
	if err != nil {
		return err
	}
	return enough(reply.Text(), text, want)
}

func (s *oursSession) FindNames(ctx context.Context, dir, suffix string, want int) error {
	reply, err := s.Call(ctx, "find_files", map[string]any{"path": s.relative(dir), "pattern": "**/*" + suffix})
	if err != nil {
		return err
	}
	return enough(reply.Text(), suffix, want)
}

func (s *oursSession) relative(path string) string {
	rel, err := filepath.Rel(s.room.workspace, path)
	if err != nil {
		return path
	}
	return rel
}

// whole checks that a read brought the file's size; the few bytes less allow
// for a reply without the last line feed or one for CRLF.
func whole(got int, f file) error {
	if got < f.bytes-16 {
		return fmt.Errorf("read %d of %d bytes", got, f.bytes)
	}
	return nil
}

func enough(text, needle string, want int) error {
	if n := strings.Count(text, needle); n < want {
		return fmt.Errorf("%d of %d results", n, want)
	}
	return nil
}

// oursExec is the same binary as a wrapper of one command, each in a session
// of its own.
type oursExec struct{ ours }

const oursExecName = "mcp-sandbox exec"

func (*oursExec) Name() string { return oursExecName }

func (o *oursExec) Start(_ context.Context, r room) (session, error) {
	return newWrapper(func(command string) *exec.Cmd {
		cmd := exec.Command(o.bin, "exec", "--root", r.workspace, "--", "sh", "-c", command)
		cmd.Env = environment(r, "PATH="+os.Getenv("PATH"))
		cmd.Dir = r.workspace
		return cmd
	}), nil
}
