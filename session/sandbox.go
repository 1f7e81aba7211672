package session

import (
	"context"
	"log/slog"
	"os"

	"mcp-sandbox/ptyproc"
)

// Sandbox is a running confinement: commands are spawned inside it and all die
// with it. cmd wires package confine in behind this interface.
type Sandbox interface {
	ptyproc.Spawner
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

// withNotices adds what the sandbox has to tell the model, such as a network
// denial, to the reply it belongs to.
func (s *Session) withNotices(r Result, err error) (Result, error) {
	if err != nil {
		return r, err
	}
	if n, ok := s.sandbox.(interface{ Notices() []string }); ok {
		r.Notices = append(r.Notices, n.Notices()...)
	}
	r.Notices = append(r.Notices, s.takeNotices()...)
	return r, nil
}

// Launcher starts sandboxes. It fails with code confinement_unavailable when
// the wished level cannot be had.
type Launcher interface {
	Start(ctx context.Context, c Confinement) (Sandbox, error)
}

// Confinement is what a session asks of its sandbox.
type Confinement struct {
	Workspace     string
	WorkspaceFile *os.File
	// UID and GID run the commands; -1 lets the launcher derive them (self, or
	// the workspace's owner under a root server).
	UID, GID int
	// Home is "" for a private home that ends with the session.
	Home                           string
	Path                           string
	Read, Write, DenyRead, Protect []string
	StateDirs                      []string
	// TempDir is a path the launcher may make a folder at, removed by Close; a
	// later server removes it when this one is killed.
	TempDir         string
	Network         string
	Limits          Limits
	Level, MinLevel string
	Log             *slog.Logger
	// Note records what happened in the sandbox by itself, such as a refused
	// connection; code is one of an error's.
	Note func(op, code string, data map[string]any)
	// Ask puts a yes-or-no question to the user of a running call; AnswerNone where
	// there is none, or no way to them. It returns within AskWithin.
	Ask func(ctx context.Context, op, question string, data map[string]any) Answer
}

// Limits bound what one session may take; 0 is the product's default.
type Limits struct {
	Procs     int     // processes and threads
	FileSize  int64   // bytes a single file may grow to
	OpenFiles int     // descriptors per process
	Tmp       int64   // bytes of the private /tmp
	Shm       int64   // bytes of /dev/shm
	Memory    int64   // bytes for the whole session, where a cgroup can be had
	CPU       float64 // cores for the whole session, where a cgroup can be had
}

// Layer is one part of the confinement and whether it holds.
type Layer struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// Report is the confinement a session really got.
type Report struct {
	Level    string   `json:"level"`
	Layers   []Layer  `json:"layers"`
	Warnings []string `json:"warnings,omitempty"`
}
