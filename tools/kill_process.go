package tools

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/mark3labs/mcp-go/mcp"
)

func killProcessTool() tool {
	return tool{
		sets: []string{"core", "process"},
		def: mcp.NewTool("kill_process",
			mcp.WithDescription("End a command and all it started: TERM, then KILL after 2 s; or send one signal."),
			hints(false, true, true, false),
			mcp.WithInteger("session_id", mcp.Required()),
			mcp.WithString("signal", mcp.Description("INT, HUP, KILL ...")),
			mcp.WithInteger("max_output_tokens"),
		),
		run: killProcess,
	}
}

func killProcess(ctx context.Context, c *call) (*reply, error) {
	id := c.processID()
	sig := syscall.Signal(0)
	if s := c.name("signal", ""); s != "" {
		var ok bool
		if sig, ok = signalByName(s); !ok {
			c.fail("signal is %q; use one of %s", s, strings.Join(slices.Sorted(maps.Keys(signals())), ", "))
		}
	}
	limit := c.maxTokens()
	if c.err != nil {
		return nil, c.err
	}
	res, err := c.session.Kill(ctx, id, sig)
	if err != nil {
		return nil, err
	}
	return c.commandOutcome(res, limit)
}

func signals() map[string]syscall.Signal {
	return map[string]syscall.Signal{
		"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL,
		"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "TERM": syscall.SIGTERM, "CONT": syscall.SIGCONT,
		"STOP": syscall.SIGSTOP, "TSTP": syscall.SIGTSTP, "ALRM": syscall.SIGALRM, "WINCH": syscall.SIGWINCH,
	}
}

// signalByName takes "INT", "SIGINT", "int" and the numbers of the same set.
// TERM by name is the default's gentle end: TERM, then KILL.
func signalByName(s string) (syscall.Signal, bool) {
	name := strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(s)), "SIG")
	if name == "TERM" || name == strconv.Itoa(int(syscall.SIGTERM)) {
		return 0, true
	}
	for n, sig := range signals() {
		if name == n || name == strconv.Itoa(int(sig)) {
			return sig, true
		}
	}
	return 0, false
}

func signalName(sig syscall.Signal) string {
	for n, s := range signals() {
		if s == sig {
			return "SIG" + n
		}
	}
	for n, s := range map[string]syscall.Signal{
		"SEGV": syscall.SIGSEGV, "ABRT": syscall.SIGABRT, "BUS": syscall.SIGBUS, "FPE": syscall.SIGFPE, "ILL": syscall.SIGILL,
		"PIPE": syscall.SIGPIPE, "SYS": syscall.SIGSYS, "TRAP": syscall.SIGTRAP, "XCPU": syscall.SIGXCPU, "XFSZ": syscall.SIGXFSZ,
		"TTIN": syscall.SIGTTIN, "TTOU": syscall.SIGTTOU, "VTALRM": syscall.SIGVTALRM, "PROF": syscall.SIGPROF,
	} {
		if s == sig {
			return "SIG" + n
		}
	}
	return "signal " + strconv.Itoa(int(sig))
}
