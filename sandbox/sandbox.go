// Package sandbox holds the nouns of the product that more than one package
// speaks of, so that each is declared once: what a sandbox may reach and what it
// reports, what a command is and how it ended, and the coded error of every
// refusal.
//
// It holds no behaviour beyond that, imports the standard library alone, and may
// be imported by every other package. What only one package needs stays there.
package sandbox

import (
	"context"
	"os"
	"syscall"
	"time"
)

// Sandbox is a running confinement: commands are spawned inside it and all die
// with it. Package confine implements it.
type Sandbox interface {
	// Spawn starts one command. Codes: exec_failed, not_found, cancelled,
	// limit_reached, confinement_unavailable when the sandbox is gone. A command that
	// has run is returned, though ctx has ended meanwhile.
	Spawn(ctx context.Context, c Command) (Process, error)
	// Environ gives PATH, HOME, USER, LOGNAME, SHELL and TMPDIR as they are true
	// inside: every named path exists there.
	Environ() []string
	// Report says which layers hold.
	Report() Report
	// Done is closed when the sandbox and all in it are gone.
	Done() <-chan struct{}
	// Close kills all and waits; idempotent.
	Close() error
}

// Process is a started command: a leader and everything that descends from it.
// The caller owns Stdin, Stdout and Stderr and closes them; all are non-blocking
// and can be polled (see os.File.SetDeadline).
type Process interface {
	// Pid is the leader's process ID inside the sandbox.
	Pid() int
	// Stdin is the write end of a pipe, the terminal's master, or nil.
	Stdin() *os.File
	// Stdout is the merged standard output and error, or the terminal's master,
	// which is the same file as Stdin.
	Stdout() *os.File
	// Stderr is nil unless Command.SplitStderr was set.
	Stderr() *os.File
	// Done is closed when the leader has ended; Wait and Ended are valid then.
	Done() <-chan struct{}
	Wait() ExitStatus
	Ended() time.Time
	// SignalTree reaches the leader and all its descendants, also those that left
	// its session or were stopped.
	SignalTree(syscall.Signal) error
	// TreeAlive counts the live processes of the tree, the leader among them.
	TreeAlive() (int, error)
	// Resize changes the size of the terminal.
	Resize(cols, rows uint16) error
}
