package sandbox

import "syscall"

// Command is one program to run inside a sandbox.
type Command struct {
	// Argv is the program and its arguments. A name without a slash is searched
	// in the PATH of Env.
	Argv []string
	// Env is the whole environment; nothing is added to it.
	Env []string
	// Dir is the absolute working directory inside.
	Dir string
	// TTY gives the command a terminal of Cols x Rows; 0 is 80 and 24.
	TTY        bool
	Cols, Rows uint16
	Stdin      Stdin
	// SplitStderr separates standard error from standard output. Otherwise both
	// are one pipe, which keeps their order. Ignored with TTY.
	SplitStderr bool
	// Script, unless "", is what the command reads from descriptor 3: text that is
	// too long for an argument.
	Script string
}

// Stdin says what a command without a terminal reads.
type Stdin int

const (
	// StdinNull is /dev/null.
	StdinNull Stdin = iota
	// StdinPipe is a pipe whose write end is Process.Stdin.
	StdinPipe
)

// ExitStatus is how a command ended. Code is 128+n when signal n killed it. OOM
// is set when the memory limit did.
type ExitStatus struct {
	Code   int
	Signal syscall.Signal
	OOM    bool
}

// InputState says whether a command waits for input on its terminal or on the
// pipe of StdinPipe.
type InputState int

const (
	// InputUnknown: the kernel does not tell, as on macOS or where a process may
	// not be looked at.
	InputUnknown InputState = iota
	// InputBusy: something runs, or nothing reads.
	InputBusy
	// InputPolls: a process has the terminal hand over single keys and looks for
	// them several times a second, and nothing else shows that any process works.
	InputPolls
	// InputShared: a process takes input, but waits for something else as well,
	// such as a socket, or another one of the command sleeps or waits.
	InputShared
	// InputTimed: a process takes input and does something else after a second or
	// more without any.
	InputTimed
	// InputWaits: every process sleeps, and nothing but input wakes them.
	InputWaits
)

// Relative is one living process of a command.
type Relative struct {
	PID  int
	Name string
	// Ports are the TCP ports it listens on.
	Ports []int
}
