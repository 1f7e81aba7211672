package main

import (
	"context"
	"encoding/json"
)

// A peer is one program of the comparison; each has a file of its own.
type peer interface {
	Name() string
	// Install makes the peer ready to start and names its version. It fetches
	// only when the cache was told to; its error becomes a row of the report.
	Install(context.Context, *cache) (version string, err error)
	// Start gives a session in the room, ready for its first call.
	Start(context.Context, room) (session, error)
}

// A room is where a peer works: the workspace it may use, and a home directory of
// its own so that it neither reads nor leaves anything in the user's.
type room struct{ workspace, home string }

// A session is a started peer. A method of something the peer does not offer
// returns notApplicable. Paths are absolute and inside the room's workspace.
type session interface {
	// Run runs a shell command to its end.
	Run(ctx context.Context, command string) error
	// Launch starts a shell command that does not end by itself; end stops it
	// in the peer's own way.
	Launch(ctx context.Context, command string) (end func(context.Context) error, err error)
	// Terminal starts cat on a terminal; enter types a line and returns when
	// the reply with it has come.
	Terminal(ctx context.Context) (enter func(ctx context.Context, line string) error, stop func(), err error)
	// Read brings the whole file to the client.
	Read(ctx context.Context, f file) error
	// SearchText finds the files' lines with a fixed string, at least want.
	SearchText(ctx context.Context, dir, text string, want int) error
	// FindNames finds the files whose names end in suffix, at least want.
	FindNames(ctx context.Context, dir, suffix string, want int) error
	// Tools is the result of tools/list.
	Tools(ctx context.Context) (json.RawMessage, error)
	// PIDs are the roots of the peer's process trees; the first is the peer.
	PIDs() []int
	// Received counts the bytes that came to the client so far.
	Received() int64
	Close()
}

// A file is made by the benchmark and known in size.
type file struct {
	path  string
	bytes int
	lines int
}

// notApplicable is the reason why a peer has no number in a row.
type notApplicable string

func (n notApplicable) Error() string { return string(n) }

const (
	onlyWraps   = notApplicable("wraps one command; the rest is its caller's")
	noCommands  = notApplicable("files only; it runs no commands")
	noTerminals = notApplicable("its processes have pipes, no terminal")
)
