// Package confine runs commands where the kernel, not the program's good will,
// decides what they can reach.
//
// Start takes a Policy and returns a Sandbox: one persistent set of Linux
// namespaces (or, where the host has none, a Landlock domain; on macOS a
// Seatbelt profile) with its own init. Spawn starts one command inside it and
// hands back the ends of its pipes or its terminal. Close kills everything.
//
// Start reading at Start in sandbox_linux.go, then runInit in init_linux.go,
// which is the ordered list of what makes the sandbox.
//
// The server's binary is also the sandbox's init: main (and TestMain) must call
// MaybeRunChild before anything else.
//
// The package does not interpret commands, does not collect output and keeps no
// process table; it does not filter host names (that is the proxy's work, which
// listens inside through Listen).
package confine

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"syscall"

	denylist "mcp-sandbox/deny"
	"mcp-sandbox/sandbox"
)

// Level is how strong a confinement is.
type Level string

// The levels, strongest first. LevelAuto is only a request: it takes the
// strongest that starts, and never LevelNone.
const (
	LevelAuto             Level = "auto"
	LevelNamespaces       Level = "namespaces"        // all layers
	LevelNamespacesNoProc Level = "namespaces-noproc" // as above, the host masks /proc
	LevelLandlock         Level = "landlock"          // Landlock and seccomp only
	LevelSeatbelt         Level = "seatbelt"          // macOS
	LevelNone             Level = "none"              // no confinement, only by name
)

// Network is what of the network a command sees.
type Network string

// The network modes. NetworkAllow is NetworkLoopback with a proxy listening
// inside, which the caller makes with Sandbox.Listen.
const (
	NetworkNone     Network = "none"     // no sockets but AF_UNIX
	NetworkLoopback Network = "loopback" // a private 127.0.0.1
	NetworkAllow    Network = "allow"    // a private 127.0.0.1, a proxy on it
	NetworkHost     Network = "host"     // the host's network
)

// Limits bound one sandbox. Zero means the default named at each field.
type Limits struct {
	Procs     int     // processes and threads of the session, 1024
	FileSize  int64   // bytes one file may grow to (RLIMIT_FSIZE), 4 GiB
	OpenFiles int     // descriptors of one process (RLIMIT_NOFILE), 4096
	Tmp       int64   // bytes of the private /tmp, /var/tmp, /run and home together, 1 GiB
	Shm       int64   // bytes of /dev/shm, 256 MiB
	Memory    int64   // bytes of all processes, where a cgroup is writable; default unlimited
	CPU       float64 // cores of all processes, where a cgroup is writable; default unlimited
}

// withDefaults fills the zero fields.
func (l Limits) withDefaults() Limits {
	if l.Procs == 0 {
		l.Procs = 1024
	}
	if l.FileSize == 0 {
		l.FileSize = 4 << 30
	}
	if l.OpenFiles == 0 {
		l.OpenFiles = 4096
	}
	if l.Tmp == 0 {
		l.Tmp = 1 << 30
	}
	if l.Shm == 0 {
		l.Shm = 256 << 20
	}
	return l
}

// Policy is what a sandbox may reach. All paths are host paths; each is found
// at the same path inside.
type Policy struct {
	// Workspace is an absolute, symlink-free path of a directory, readable and
	// writable at the same path inside.
	Workspace string
	// WorkspaceFile, if set, is the server's own descriptor of Workspace: a
	// directory of another identity found under the name is refused.
	WorkspaceFile *os.File
	// UID and GID run the commands. -1 derives them: the caller's own, or the
	// owner of the workspace under a root server.
	UID, GID int
	// Home is "" for a private home that ends with the sandbox, else an absolute
	// path that is readable and writable inside (the workspace).
	Home string
	// Path is the PATH whose toolchains are readable inside (the server's own).
	Path string
	// Read and Write are further absolute paths. A missing one is an error.
	Read, Write []string
	// DenyRead hides what lies in the workspace or a granted tree: the patterns of
	// package deny.
	DenyRead []string
	// Protect holds paths relative to the workspace that commands can neither
	// make, change nor swap.
	Protect []string
	// StateDirs are the server's own directories, never visible inside.
	StateDirs []string
	// TempDir is where a level without mounts of its own makes the session's
	// temporary directory and home; it must not exist and is removed at the end.
	// A caller that notes the name first can remove it after being killed. "" is
	// a fresh name below os.TempDir.
	TempDir string
	Network Network
	Limits  Limits
	// Level is the wished level, "" is LevelAuto. MinLevel refuses weaker ones,
	// "" accepts any that Level allows.
	Level, MinLevel Level
	// WarmInit, if set, has an init waiting and boots the next one. It holds one
	// process of the session's user, a few MiB, until it is closed.
	WarmInit *WarmInit
	Log      *slog.Logger
}

// Layer is one part of the confinement. State is "on", "off" or "unavailable".
type Layer struct{ Name, State, Detail, Remedy string }

// The states of a Layer.
const (
	stateOn          = "on"
	stateOff         = "off"
	stateUnavailable = "unavailable"
)

// Report says which confinement a sandbox really has. It names no host paths.
type Report struct {
	Level    Level
	Layers   []Layer
	Warnings []string
}

// Stdin says what a command without a terminal reads.
type Stdin int

const (
	// StdinNull is /dev/null.
	StdinNull Stdin = iota
	// StdinPipe is a pipe whose write end is Process.Stdin.
	StdinPipe
)

// Command is one program to run inside.
type Command struct {
	// Argv is the program and its arguments. A name without a slash is searched
	// in the PATH of Env.
	Argv []string
	// Env is the whole environment; nothing is added to it.
	Env []string
	// Dir is the absolute working directory inside.
	Dir string
	// TTY gives the command a terminal of Cols x Rows (80x24 when zero).
	TTY        bool
	Cols, Rows uint16
	Stdin      Stdin
	// SplitStderr separates standard error from standard output. Otherwise both
	// are one pipe, which keeps their order. Ignored with TTY.
	SplitStderr bool
}

// ExitStatus is how a command ended. Code is 128+n when signal n killed it. OOM
// is set when the memory limit did.
type ExitStatus struct {
	Code   int
	Signal syscall.Signal
	OOM    bool
}

// errorf makes the error of this package's functions. Its text never names a
// host path outside the workspace.
func errorf(code string, cause error, format string, args ...any) *sandbox.Error {
	return sandbox.Errorf(code, cause, format, args...)
}

// denyList reads the patterns of what p hides. Codes: invalid_argument.
func denyList(p *Policy) (*denylist.List, error) {
	l, err := denylist.Parse(p.DenyRead, p.Workspace, slices.Concat(p.Read, p.Write))
	if err != nil {
		return nil, errorf("invalid_argument", err, "deny-read: %v", err)
	}
	return l, nil
}

// errnoText is the system's words for the errno in err, without the names of
// files that wrapping errors carry.
func errnoText(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return "internal error"
}
