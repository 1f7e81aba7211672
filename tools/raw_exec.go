package tools

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

func rawExecTool() tool {
	return tool{
		sets:  []string{rawSet, "core", "process"},
		grows: true,
		def: mcp.NewTool("raw_exec",
			mcp.WithDescription("Run a command, or argv without a shell. Gives stdout and stderr apart, and both in the order of arrival, as text that is not cut to tokens: at most 1 MiB each since the last reply. With separate_stderr false both go to one pipe, in the exact order. With the encoding base64 stdin, stdout, stderr and output are base64 of the bytes; as text, what is not UTF-8 becomes U+FFFD."),
			hints(false, true, false, true),
			mcp.WithString("cmd"),
			mcp.WithArray("argv", mcp.WithStringItems()),
			mcp.WithString("workdir"),
			mcp.WithString("shell"),
			mcp.WithBoolean("login"),
			mcp.WithBoolean("tty"),
			mcp.WithInteger("cols"),
			mcp.WithInteger("rows"),
			mcp.WithArray("env", mcp.WithStringItems()),
			mcp.WithString("stdin"),
			mcp.WithBoolean("keep_stdin"),
			mcp.WithBoolean("separate_stderr"),
			mcp.WithString("encoding", mcp.Enum("utf-8", "base64")),
			mcp.WithInteger("yield_time_ms"),
			mcp.WithInteger("timeout_ms"),
		),
		run: rawExec,
	}
}

// rawResult is what a raw command call answers.
type rawResult struct {
	// Output is Stdout and Stderr in the order of arrival.
	Output string `json:"output"`
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	// Dropped counts the bytes that are missing in Stdout and Stderr.
	Dropped  int64  `json:"dropped_bytes,omitempty"`
	ExitCode *int   `json:"exit_code,omitempty"`
	Signal   string `json:"signal,omitempty"`
	// SessionID is set while something can be read or typed, also when the command
	// itself has ended and left something running.
	SessionID       *int     `json:"session_id,omitempty"`
	AwaitingInput   bool     `json:"awaiting_input,omitempty"`
	TimedOut        bool     `json:"timed_out,omitempty"`
	WallTimeSeconds float64  `json:"wall_time_seconds"`
	Notices         []string `json:"notices,omitempty"`
}

func rawExec(ctx context.Context, c *call) (*reply, error) {
	r := c.execRequest(ctx, "stdin and keep_stdin cannot go together; start with keep_stdin and send the text with raw_input")
	r.SeparateStderr = c.boolean("separate_stderr", !r.TTY)
	r.Joined = r.SeparateStderr
	r.Bytes = c.rawEncoding() == "base64"
	if r.Stdin != nil {
		given := c.rawGiven(*r.Stdin, "stdin")
		r.Stdin = &given
	}
	if c.err != nil {
		return nil, c.err
	}
	defer c.withPrompter(ctx)()
	res, err := c.session.Exec(ctx, r)
	if err != nil {
		return nil, err
	}
	return c.rawOutcome(ctx, res)
}

// rawOutcome is the reply about a command.
func (c *call) rawOutcome(ctx context.Context, r session.Result) (*reply, error) {
	if len(r.Output) > LargeReply || r.Stderr != nil && len(r.Stderr.Text) > LargeReply {
		_ = c.large(ctx) // a cancelled call has this result all the same
	}
	out := rawResult{
		Stdout: c.rawText(r.Output, r.Dropped, r.Cut), AwaitingInput: r.AwaitingInput, TimedOut: r.TimedOut,
		WallTimeSeconds: toMillisecond(time.Since(c.began).Seconds()), Notices: append(c.notes, r.Notices...),
	}
	out.Output, out.Dropped = out.Stdout, r.Dropped
	if s := r.Stderr; s != nil {
		out.Stderr = c.rawText(s.Text, s.Dropped, s.Cut)
		out.Dropped += s.Dropped
	}
	if j := r.Joined; j != nil {
		out.Output = c.rawText(j.Text, j.Dropped, j.Cut)
	} else if s := r.Stderr; s != nil && c.rawEncoding() == "base64" {
		out.Output = base64Text(slices.Concat(r.Output, s.Text))
	} else {
		out.Output += out.Stderr
	}
	text := "running\n"
	if r.Exit != nil {
		out.ExitCode = &r.Exit.Code
		if r.Exit.Signal != 0 {
			out.Signal = signalName(r.Exit.Signal)
		}
		text = fmt.Sprintf("exit code %d\n", r.Exit.Code)
	}
	if r.ID != 0 {
		out.SessionID = &r.ID
	}
	if r.Stopped {
		return rawReply(text, out), refuse("cancelled", "the server stopped during this call; call again")
	}
	return rawReply(text, out), nil
}

// rawEncoding is how the bytes of a command are written in the message.
func (c *call) rawEncoding() string { return c.choice("encoding", "utf-8", "base64") }

// rawGiven is what the command is to read.
func (c *call) rawGiven(text, argument string) string {
	if c.rawEncoding() != "base64" {
		return text
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		c.fail("%s is not base64 (%v); send standard base64 with padding", argument, err)
	}
	return string(b)
}

// rawText is one stream, with a line where bytes are missing; in base64 there are only
// bytes that were written.
func (c *call) rawText(text []byte, dropped int64, cut int) string {
	if c.rawEncoding() == "base64" {
		return base64Text(text)
	}
	if dropped == 0 {
		return string(text)
	}
	var b strings.Builder
	b.Write(text[:cut])
	fmt.Fprintf(&b, "\n[... %d bytes dropped ...]\n", dropped)
	b.Write(text[cut:])
	return b.String()
}
