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
	"slices"
	"syscall"

	denylist "mcp-sandbox/deny"
	"mcp-sandbox/sandbox"
)

// errorf makes the error of this package's functions. Its text never names a
// host path outside the workspace.
func errorf(code string, cause error, format string, args ...any) *sandbox.Error {
	return sandbox.Errorf(code, cause, format, args...)
}

// refuseRoot is the error of a session whose commands would be root.
func refuseRoot(what, why string) error {
	return errorf("confinement_unavailable", nil, "%s belongs to root, and commands do not run as root: %s; give it to an ordinary user (chown -R), start the server as its owner, or ask for root with --allow-root", what, why)
}

// denyList reads the patterns of what p hides. Codes: invalid_argument.
func denyList(p *sandbox.Policy) (*denylist.List, error) {
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
