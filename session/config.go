package session

import (
	"log/slog"
	"strings"
	"time"
)

// Config is what every session of a manager is made with. The zero value is an
// owned temporary workspace with the default confinement.
type Config struct {
	// Root is a caller-chosen workspace, kept at the end; "" makes an owned one.
	Root string
	// TempDir is where owned workspaces are made; "" is the system's.
	TempDir string
	// StateDir is the server's own folder; "" is DefaultStateDir.
	StateDir string
	// Home is "workspace", "private", or "" for workspace when owned.
	Home string
	// Path is the PATH searched for toolchains; normally the server's own.
	Path string
	// Env holds NAME=VALUE pairs set for every command, over the clean base.
	Env []string
	// Read, Write, DenyRead are absolute host paths granted or hidden.
	Read, Write, DenyRead []string
	// Protect adds to DefaultProtected, relative to the workspace.
	Protect []string
	// ReadOnly refuses every change through the file tools.
	ReadOnly bool
	// Network is none, loopback (default), allow or host.
	Network string
	Limits  Limits
	// Level is auto (default) or a level by name; MinLevel refuses weaker ones.
	Level, MinLevel string
	// MaxYield caps how long a call may wait for a command; 0 is 45 s.
	MaxYield time.Duration
	// OnCancel is "kill" (default) or "leave": what a cancelled call does to the
	// command it waits for.
	OnCancel string
	// SnapshotStore is the folder of snapshots; "" is one below StateDir, and for
	// an owned workspace one that ends with the session.
	SnapshotStore string
	// SnapshotIgnore are globs of paths that are neither stored nor restored.
	SnapshotIgnore []string
	// Retention bounds what is kept; zero is DefaultRetention.
	Retention Retention
	// MaxSessions bounds how many live at once; 0 is 64.
	MaxSessions int
	Log         *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

func (c *Config) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// validate refuses what no session could be made with, before any is.
// Codes: invalid_argument.
func (c *Config) validate() error {
	for _, kv := range c.Env {
		name, _, ok := strings.Cut(kv, "=")
		if err := checkEnvName(name); err != nil {
			return err
		}
		if !ok {
			return errorf("invalid_argument", nil, "the environment entry %q has no value, write NAME=VALUE", name)
		}
		if strings.ContainsRune(kv, 0) {
			return errorf("invalid_argument", nil, "the environment entry %q holds a NUL byte, remove it", name)
		}
	}
	if err := oneOf("home", c.Home, "", "workspace", "private"); err != nil {
		return err
	}
	if err := oneOf("network", c.Network, "", "none", "loopback", "allow", "host"); err != nil {
		return err
	}
	return oneOf("on-cancel", c.OnCancel, "", "kill", "leave")
}

func oneOf(what, got string, allowed ...string) error {
	for _, a := range allowed {
		if got == a {
			return nil
		}
	}
	return errorf("invalid_argument", nil, "%s is %q, use one of %s", what, got, strings.Join(allowed[1:], ", "))
}

// checkEnvName refuses what execve(2) would pass on but no shell could read.
func checkEnvName(name string) error {
	if name == "" || strings.ContainsAny(name, "=\x00") {
		return errorf("invalid_argument", nil, "the environment name %q is empty or holds '=' or NUL, use a plain name", name)
	}
	return nil
}
