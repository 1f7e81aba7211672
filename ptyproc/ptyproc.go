// Package ptyproc keeps the table of a session's commands: it starts them
// through a Spawner, collects their output in bounded memory, waits for them no
// longer than asked, feeds their stdin, signals their whole process trees, and
// shows the screen of those that run on a terminal.
//
// Start reading at Table.Start, then wait in wait.go, which is where every call
// spends its time.
//
// The package does not start processes itself and knows nothing of confinement
// (that is the Spawner's), does not count tokens and does not shorten replies
// beyond its memory bound.
//
// Output is handed on as it was written: on a terminal the line discipline has
// made LF into CR LF and control sequences are kept. Table.Screen shows what a
// person would see instead.
package ptyproc

import (
	"context"
	"log/slog"
	"time"

	"mcp-sandbox/sandbox"
)

// Spawner starts commands; a sandbox is one. A coded error of its Spawn is kept.
// The table owns the files of the process and closes them.
type Spawner interface {
	Spawn(ctx context.Context, c sandbox.Command) (sandbox.Process, error)
}

// Defaults of Options.
const (
	defaultMaxProcesses = 64
	defaultProtected    = 8
	defaultHead         = 512 << 10
	defaultTail         = 512 << 10
	defaultSpoolLimit   = 64 << 20
	defaultSpoolTotal   = 512 << 20
	defaultFinishedTTL  = 10 * time.Minute
	defaultKillGrace    = 2 * time.Second
	defaultMinYield     = 250 * time.Millisecond
	defaultMaxYield     = 45 * time.Second
)

// Options bound a Table. The zero value of a field is the default named there.
type Options struct {
	// MaxProcesses is how many records there may be: running commands and ended
	// ones whose result was not read yet, 64. From WarnAt on (MaxProcesses-4)
	// each start says how many are in use. The Protected most recently used (8)
	// are pruned last.
	MaxProcesses, WarnAt, Protected int
	// HeadBytes and TailBytes are kept of what a process wrote since the last
	// reply about it, 512 KiB each; the middle is dropped and counted.
	HeadBytes, TailBytes int
	// SpoolDir is an existing private directory for the whole output of commands
	// that wrote more than HeadBytes+TailBytes; "" keeps none. SpoolLimit bounds
	// one command (64 MiB), SpoolTotal all (512 MiB: the oldest ended go first).
	SpoolDir               string
	SpoolLimit, SpoolTotal int64
	// FinishedTTL is how long the exit status and unread output of an ended
	// process stay readable, 10 min.
	FinishedTTL time.Duration
	// KillGrace lies between TERM and KILL, 2 s.
	KillGrace time.Duration
	// MinYield and MaxYield clamp every wait, 250 ms and 45 s.
	MinYield, MaxYield time.Duration
	// OnCancel is what a cancelled Start does to its command: "kill" (default)
	// or "leave". A cancelled Write or Kill only stops waiting.
	OnCancel string
	Now      func() time.Time
	Log      *slog.Logger
	// Identify draws a number in [0,n) for ids; the default is cryptographic.
	Identify func(n int) int
}

func (o Options) withDefaults() Options {
	setInt := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	setDuration := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	setInt(&o.MaxProcesses, defaultMaxProcesses)
	setInt(&o.WarnAt, max(1, o.MaxProcesses-4))
	setInt(&o.Protected, defaultProtected)
	setInt(&o.HeadBytes, defaultHead)
	setInt(&o.TailBytes, defaultTail)
	if o.SpoolLimit <= 0 {
		o.SpoolLimit = defaultSpoolLimit
	}
	if o.SpoolTotal <= 0 {
		o.SpoolTotal = defaultSpoolTotal
	}
	setDuration(&o.FinishedTTL, defaultFinishedTTL)
	setDuration(&o.KillGrace, defaultKillGrace)
	setDuration(&o.MinYield, defaultMinYield)
	setDuration(&o.MaxYield, defaultMaxYield)
	o.MaxYield = max(o.MaxYield, o.MinYield)
	if o.OnCancel == "" {
		o.OnCancel = "kill"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Identify == nil {
		o.Identify = randomBelow
	}
	return o
}

// StartRequest is one command and how to wait for it.
type StartRequest struct {
	sandbox.Command
	// Title is shown in listings as the command; "" is the joined Argv.
	Title string
	// StdinText is written to a StdinPipe in the background; the pipe is then
	// closed unless KeepStdin.
	StdinText string
	KeepStdin bool
	// Joined gives with SplitStderr also both streams in the order of arrival, in
	// the bounds of one of them.
	Joined bool
	// Bytes gives the output as it was written, also what is not UTF-8.
	Bytes bool
	// Timeout kills the command's whole tree, 0 is none. It ends with the leader:
	// what the leader left in the background lives on.
	Timeout time.Duration
	// Yield is how long to wait for the exit, clamped. With a terminal or
	// KeepStdin the wait also ends when the command waits for input.
	Yield time.Duration
	// WaitFor ends the wait sooner, see ParseWaitFor.
	WaitFor *WaitFor
	// Progress is called by the waiting goroutine after 50 ms and then every
	// 500 ms, never after the call has returned; nil is none.
	Progress func(Progress)
}

// Progress is a sign of life of a running call.
type Progress struct {
	// Elapsed is how long the call has waited; the first one says 0.
	Elapsed time.Duration
	// Bytes the process has written in all.
	Bytes int64
	// LastLine is the newest line that is not blank, without control sequences,
	// at most 200 characters.
	LastLine string
}

// Result is what a process has done since the last reply about it.
type Result struct {
	// ID is 0 when the process has ended and nothing is left to read or kill,
	// else its id, 1000 to 99999.
	ID      int
	Running bool
	// Command is what is listed as the command.
	Command string
	// Exit is set once the leader has ended.
	Exit     *sandbox.ExitStatus
	TimedOut bool
	// Killed is set when something of the command outlived TERM and was sent KILL.
	// KilledAfter is the time from Started until everything of it was gone, 0
	// when nothing was ended from outside.
	Killed      bool
	KilledAfter time.Duration
	// Output is valid UTF-8 in the order written. A character is never split
	// over two replies.
	Output []byte
	// Stopped is set when the end of the server cut the call short: Output is what
	// there was until then.
	Stopped bool
	// AwaitingInput is set when the process waits for input. It is never set where
	// the system does not tell.
	AwaitingInput bool
	// Matched is set when WaitFor was met.
	Matched bool
	// Dropped counts the bytes missing at offset Cut of Output, DroppedLines the
	// line feeds among them.
	Dropped      int64
	DroppedLines int64
	Cut          int
	// OutputID names the whole output for ReadOutput, "" when Output and the
	// replies before it were whole.
	OutputID string
	// Stderr is what came on standard error, nil unless the command was started
	// with SplitStderr; Output is then standard output alone.
	Stderr *Output
	// Joined is what came on both in the order of arrival, nil unless asked for.
	Joined *Output
	// Started is when the command was spawned, Wall the time from then to its
	// exit, or to now.
	Started time.Time
	Wall    time.Duration
	// Notices are sentences for the owner, such as a pruned process.
	Notices []string
	// Refused is what the sandbox refused the command since the last reply about
	// it, and Denied what of that, and of what earlier replies held back, this one
	// is to explain: all where the command failed or had ended before, else what
	// its output names.
	Refused, Denied []sandbox.Denial
	TTY             bool
	// Screen is set when the program shows the alternate screen and has written
	// something: what a person sees now. FullScreenBefore says that it did so
	// where Output begins.
	Screen           *Screen
	FullScreenBefore bool
	// BackgroundChildren counts what still runs of an ended command.
	BackgroundChildren int
	// Background are some of them, where the system tells.
	Background []sandbox.Relative
}

// FamilyChild is a Child that can list the living processes of its tree.
type FamilyChild interface {
	Family(context.Context) ([]sandbox.Relative, error)
}

// The states of Info.
const (
	StateRunning  = "running"
	StateExited   = "exited"
	StateSignaled = "signaled"
	// StateBackground is an ended command of which something still runs.
	StateBackground = "background"
	// StateCancelled is a command that was ended because its call was cancelled.
	// What it had written is kept, see Info.OutputID.
	StateCancelled = "cancelled"
)

// Info is one row of the list of processes.
type Info struct {
	ID       int
	Command  string
	PID      int
	State    string
	Started  time.Time
	LastUsed time.Time
	TTY      bool
	Exit     *sandbox.ExitStatus
	// BackgroundChildren counts what still runs of an ended command.
	BackgroundChildren int
	// Background are some of them, where the system tells.
	Background []sandbox.Relative
	// Unread is the number of output bytes no reply has carried yet.
	Unread int64
	// OutputID names the kept output for ReadOutput, "" when none is kept.
	OutputID string
	// StderrID is the same of standard error, where that is separate.
	StderrID string
}
