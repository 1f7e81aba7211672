package session

import (
	"context"
	"strings"
	"syscall"
	"time"

	"mcp-sandbox/ptyproc"
	"mcp-sandbox/sandbox"
)

// Result is what a command has produced since the last reply about it.
type Result = ptyproc.Result

// ProcessInfo is one row of the process list.
type ProcessInfo = ptyproc.Info

// StateBackground is the state of an ended command of which something still
// runs.
const StateBackground = ptyproc.StateBackground

// Screen is what a person would see on a terminal at one moment.
type Screen = ptyproc.Screen

// Progress reports on a running call.
type Progress = ptyproc.Progress

// ExecRequest is one command. Cmd is handed to the shell as it is.
type ExecRequest struct {
	Cmd      string
	Workdir  string   // relative to the workspace or absolute in it; "" is the root
	Argv     []string // run as it is, without a shell, instead of Cmd
	Shell    string   // "" is the server's
	Login    bool
	TTY      bool
	Cols     int
	Rows     int
	Stdin    *string // given and closed
	KeepOpen bool    // keeps stdin open for Write
	// SeparateStderr gives standard error apart from standard output.
	SeparateStderr bool
	// Joined gives both in the order of arrival as well, see Result.Joined.
	Joined   bool
	Bytes    bool // output as it was written, also what is not UTF-8
	Env      map[string]string
	Timeout  time.Duration // 0 is none
	Yield    time.Duration
	WaitFor  string // RE2 over new output, or port:N
	Progress func(Progress)
}

// Exec runs a command and waits until it ends or the yield time is over.
// Codes: invalid_argument, not_found, not_a_directory, path_outside_workspace,
// exec_failed, limit_reached, cancelled, session_not_found.
func (s *Session) Exec(ctx context.Context, r ExecRequest) (Result, error) {
	if err := s.requireRunning(); err != nil {
		return Result{}, err
	}
	var notices []string
	switch lf, crlf := plainLineEnds(r.Cmd); {
	case len(r.Argv) > 0 && r.Cmd != "":
		return Result{}, errorf("invalid_argument", nil, "cmd and argv are both given; use cmd for a shell, argv to run a program without one")
	case len(r.Argv) > 0 && (r.Shell != "" || r.Login):
		return Result{}, errorf("invalid_argument", nil, "argv runs without a shell; leave out shell and login, or use cmd")
	case len(r.Argv) == 0 && strings.TrimSpace(r.Cmd) == "":
		return Result{}, errorf("invalid_argument", nil, "cmd is empty; give a shell command")
	case strings.ContainsRune(r.Cmd, 0):
		return Result{}, errorf("invalid_argument", nil, "cmd holds a NUL byte, which no command line can carry; remove it or write it as an escape")
	case crlf:
		r.Cmd = lf
		notices = append(notices, "every line of cmd ended in CRLF: it was run with LF")
	}
	if r.Stdin != nil && r.TTY {
		return Result{}, errorf("invalid_argument", nil, "stdin and tty cannot go together; start with tty and send the text with write_stdin")
	}
	if r.SeparateStderr && r.TTY {
		return Result{}, errorf("invalid_argument", nil, "separate_stderr and tty cannot go together, as a terminal has one output; leave out tty, or redirect 2> to a file")
	}
	dir, err := s.workdir(r.Workdir)
	if err != nil {
		return Result{}, err
	}
	env, err := s.environ(r.Env, r.TTY)
	if err != nil {
		return Result{}, err
	}
	env = s.withAlias(env, dir)
	until, err := ptyproc.ParseWaitFor(r.WaitFor)
	if err != nil {
		return Result{}, err
	}
	req := ptyproc.StartRequest{
		Command: sandbox.Command{Env: env, Dir: dir, TTY: r.TTY, Cols: uint16(r.Cols), Rows: uint16(r.Rows), SplitStderr: r.SeparateStderr},
		Title:   title(r.Cmd), KeepStdin: r.KeepOpen, Joined: r.Joined, Bytes: r.Bytes, Timeout: r.Timeout, Yield: r.Yield, WaitFor: until, Progress: r.Progress,
	}
	if err := s.program(&req.Command, &r); err != nil {
		return Result{}, err
	}
	if r.Stdin != nil {
		req.StdinText = *r.Stdin
	}
	if r.Stdin != nil || r.KeepOpen {
		req.Stdin = sandbox.StdinPipe
	}
	change, err := s.BeginChange(ctx, Destroys, r.Progress)
	if err != nil {
		return Result{}, err
	}
	res, err := s.table.Start(ctx, req)
	change.End(ctx)
	res, err = s.withNotices(ctx, res, err, dir)
	res.Notices = append(notices, res.Notices...)
	if err == nil {
		res.Notices = append(append(res.Notices, s.identityHint(&res)...), s.aboveHint(&res)...)
	}
	return res, err
}

func (s *Session) workdir(p string) (string, error) {
	if p == "" || p == "." {
		return s.root, nil
	}
	return s.files.ResolveDir(p)
}

// InputRequest is text for a process, or a poll when Chars is empty.
type InputRequest struct {
	ID         int
	Chars      string
	Keys       []string      // typed after Chars, see ptyproc.ParseKeys
	Cols, Rows int           // resize the terminal first, 0 leaves
	Close      bool          // then close stdin
	Yield      time.Duration // 0 is 10 s, 30 s for a poll
	WaitFor    string        // RE2 over new output, or port:N
	Progress   func(Progress)
}

// Write sends text to a process and waits for what it does with it.
// Codes: process_not_found, stdin_closed, invalid_argument, cancelled.
func (s *Session) Write(ctx context.Context, r InputRequest) (Result, error) {
	if err := s.requireRunning(); err != nil {
		return Result{}, err
	}
	until, err := ptyproc.ParseWaitFor(r.WaitFor)
	if err != nil {
		return Result{}, err
	}
	keys, err := ptyproc.ParseKeys(r.Keys)
	if err != nil {
		return Result{}, err
	}
	change, err := s.BeginChange(ctx, Continues, r.Progress)
	if err != nil {
		return Result{}, err
	}
	res, err := s.table.Write(ctx, ptyproc.WriteRequest{
		ID: r.ID, Chars: []byte(r.Chars), Keys: keys, Cols: uint16(r.Cols), Rows: uint16(r.Rows), Close: r.Close, Yield: r.Yield, WaitFor: until, Progress: r.Progress,
	})
	change.End(ctx)
	return s.withNotices(ctx, res, err, s.root)
}

// Kill ends a process and everything it started. Signal 0 is TERM, then KILL
// after 2 s. Codes: process_not_found, invalid_argument.
func (s *Session) Kill(ctx context.Context, id int, sig syscall.Signal) (Result, error) {
	if err := s.requireRunning(); err != nil {
		return Result{}, err
	}
	res, err := s.table.Kill(ctx, id, sig)
	return s.withNotices(ctx, res, err, s.root)
}

// Processes lists the running and the recently ended.
func (s *Session) Processes() []ProcessInfo {
	if s.requireRunning() != nil {
		return nil
	}
	return s.table.List()
}

// Environ is the environment of a command of this session.
func (s *Session) Environ(tty bool) ([]string, error) {
	if err := s.requireRunning(); err != nil {
		return nil, err
	}
	return s.environ(nil, tty)
}

// OutputChunk is a part of an earlier output.
type OutputChunk = ptyproc.OutputChunk

// ReadOutput gives lines of an output that was cut: offset from 1, negative from
// the end; with a pattern (RE2) only those that match. Codes: not_found,
// invalid_argument.
func (s *Session) ReadOutput(id string, offset, limit int, pattern string) (OutputChunk, error) {
	if err := s.requireRunning(); err != nil {
		return OutputChunk{}, err
	}
	return s.table.ReadOutput(id, offset, limit, pattern)
}

// OutputBytes gives a range of bytes of an output that was cut. Codes: not_found,
// invalid_argument.
func (s *Session) OutputBytes(id string, offset int64, limit int) (text string, at, size int64, err error) {
	if err := s.requireRunning(); err != nil {
		return "", 0, 0, err
	}
	return s.table.OutputBytes(id, offset, limit)
}

// KeepOutput keeps the whole of a reply that was cut, for ReadOutput.
func (s *Session) KeepOutput(text []byte) (outputID string) {
	if s.requireRunning() != nil {
		return ""
	}
	return s.table.KeepOutput(text)
}

// Screen is what a person would see on a process's terminal now.
// Codes: process_not_found, invalid_argument.
func (s *Session) Screen(id int) (ptyproc.Screen, error) {
	if err := s.requireRunning(); err != nil {
		return ptyproc.Screen{}, err
	}
	return s.table.Screen(id)
}
