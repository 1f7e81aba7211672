package sandbox

import "context"

// Denial is one act of a command that the sandbox refused and the host would
// not have.
type Denial struct {
	Kind DenialKind
	// Subject is an absolute path as the sandbox sees it, a host name, or a host
	// and port.
	Subject string
	// Text is the whole sentence where more is known than kind and subject say,
	// as of a network rule; "" where they say it all.
	Text string
}

// DenialKind is why something was refused. It is a label of metrics and audit
// records.
type DenialKind string

// The kinds of a Denial.
const (
	DenialProtected DenialKind = "protected" // a path that programs outside obey
	DenialOutside   DenialKind = "outside"   // a change outside of what is writable
	DenialHidden    DenialKind = "hidden"    // a path that no command may read
	DenialName      DenialKind = "name"      // a host name, or an address and port, where there is no network
	DenialSocket    DenialKind = "socket"    // a socket of a network, where there is none; told of only when the output speaks of it
	DenialNetwork   DenialKind = "network"   // a connection that no rule allows, or that failed beyond the proxy
	DenialLimit     DenialKind = "limit"     // a limit of the session
	DenialRights    DenialKind = "rights"    // the rights of another user
)

// Denier is a Process that knows what its command was refused.
type Denier interface {
	// Denied returns what has been refused to the command and its children since
	// it was last asked, at most 64 for one command. A refusal is known before the
	// program hears of it.
	Denied() []Denial
}

// Judge is a Sandbox that can say whether it, and not the host, keeps its commands
// from a path.
type Judge interface {
	// Refuses reports whether commands cannot read, or with write cannot change or
	// make, the absolute path although the host would let their user.
	Refuses(path string, write bool) bool
}

// Limit names one of Limits, and is a label of metrics and audit records.
type Limit string

// The limits a command can run into.
const (
	LimitProcs     Limit = "procs"
	LimitFileSize  Limit = "file-size"
	LimitOpenFiles Limit = "open-files"
	LimitTmp       Limit = "tmp"
	LimitMemory    Limit = "memory"
)

// LimitMeter is a Sandbox that can say whether a command ran into a limit of the
// session and not into one of the host or its own.
type LimitMeter interface {
	// LimitReached judges an error that a command printed; paths are the absolute
	// paths that its line may name.
	LimitReached(ctx context.Context, l Limit, paths []string) bool
}
