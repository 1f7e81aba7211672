package tools

import (
	"context"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

const (
	minYieldMS       = 250
	execYieldMS      = 10_000
	defaultMaxTokens = 10_000
	maxTimeoutMS     = 24 * 60 * 60 * 1000
	maxTokensAsked   = 1_000_000
)

func execCommandTool(o Options) tool {
	return tool{
		sets:  []string{"core", "process"},
		grows: true,
		def: mcp.NewTool("exec_command",
			mcp.WithDescription("Run a command in a new "+o.shell+" in the workspace (cd and export do not last). Returns output (stderr in it) and exit code, or a session_id for write_stdin if it waits for input (tty, keep_stdin) or still runs after yield_time_ms."),
			hints(false, true, false, true),
			mcp.WithString("cmd", mcp.Description("As typed in a shell")),
			mcp.WithArray("argv", mcp.WithStringItems(), mcp.Description("Instead of cmd, without a shell")),
			mcp.WithString("workdir", mcp.Description("Default: workspace root")),
			mcp.WithBoolean("tty", mcp.Description("Run on a terminal")),
			mcp.WithInteger("yield_time_ms", mcp.Description("Longest wait, 250-45000 (default 10000)")),
			mcp.WithString("wait_for", mcp.Description("Return when new output matches (RE2) or port:N listens")),
			mcp.WithInteger("timeout_ms", mcp.Description("Then it is killed")),
			mcp.WithInteger("max_output_tokens", mcp.Description("Default 10000 or less; the middle is cut")),
			mcp.WithString("shell"),
			mcp.WithBoolean("login"),
			mcp.WithString("stdin", mcp.Description("Text, then closed")),
			mcp.WithBoolean("keep_stdin", mcp.Description("For write_stdin without tty")),
			mcp.WithArray("env", mcp.WithStringItems(), mcp.Description("NAME=VALUE each")),
			mcp.WithBoolean("separate_stderr"),
			mcp.WithInteger("cols"),
			mcp.WithInteger("rows"),
		),
		run: execCommand,
	}
}

func execCommand(ctx context.Context, c *call) (*reply, error) {
	r := c.execRequest(ctx, "stdin and keep_stdin cannot go together; start with keep_stdin and send the text with write_stdin")
	r.WaitFor = c.name("wait_for", "")
	r.SeparateStderr = c.boolean("separate_stderr", false)
	limit := c.maxTokens()
	if c.err != nil {
		return nil, c.err
	}
	defer c.withPrompter(ctx)()
	res, err := c.session.Exec(ctx, r)
	if err != nil {
		return nil, err
	}
	return c.commandOutcome(res, limit)
}

// execRequest reads the arguments that all tools share that run a command. bothInputs
// is the error of a call with stdin and keep_stdin: one pipe cannot be both closed
// after the text and kept open.
func (c *call) execRequest(ctx context.Context, bothInputs string) session.ExecRequest {
	r := session.ExecRequest{
		Cmd:      c.name("cmd", ""),
		Argv:     c.list("argv"),
		Workdir:  c.name("workdir", "."),
		TTY:      c.boolean("tty", false),
		Yield:    c.yield(execYieldMS),
		Shell:    c.name("shell", ""),
		Login:    c.boolean("login", false),
		KeepOpen: c.boolean("keep_stdin", false),
		Env:      c.pairs("env"),

		Cols:     c.integer("cols", 120, 1, 500),
		Rows:     c.integer("rows", 30, 1, 200),
		Timeout:  time.Duration(c.integer("timeout_ms", 0, 1, maxTimeoutMS)) * time.Millisecond,
		Progress: c.progress(ctx),
	}
	if c.has("stdin") {
		text := c.text("stdin", "")
		r.Stdin = &text
		if r.KeepOpen {
			c.fail("%s", bothInputs)
		}
	}
	return r
}

// yield reads yield_time_ms, clamped as the contract says, never refused: a
// model that asks for too long a wait still gets its answer, only sooner.
func (c *call) yield(fallback int) time.Duration {
	longest := int(c.server.options.MaxYield / time.Millisecond)
	return time.Duration(c.clamped("yield_time_ms", min(fallback, longest), min(minYieldMS, longest), longest)) * time.Millisecond
}

// maxTokens is the limit of a result: what the call asks for, or what its client
// shows its model whole, below the operator's bound or the client's.
func (c *call) maxTokens() int {
	most := c.server.options.MaxOutputTokens
	if most == 0 {
		most = c.from.most
	}
	n := c.integer("max_output_tokens", c.from.tokens, 1, maxTokensAsked)
	if most > 0 {
		n = min(n, most)
	}
	return n
}

// defaultTokens is maxTokens of a call that asks for nothing.
func (c *call) defaultTokens() int {
	if most := c.server.options.MaxOutputTokens; most > 0 {
		return min(c.from.tokens, most)
	}
	return c.from.tokens
}
