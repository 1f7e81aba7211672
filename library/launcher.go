package library

import (
	"context"
	"errors"
	"path/filepath"

	"mcp-sandbox/confine"
	"mcp-sandbox/egress"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// Launcher gives package session the kernel side without either knowing the
// other: this file is the only place where both are seen. With a gateway each
// sandbox gets a proxy as its only way out. A server that lives on keeps an init
// warm.
type Launcher struct {
	Gateway *Gateway
	Warm    *confine.WarmInit
}

func (l Launcher) Start(ctx context.Context, p sandbox.Policy, up session.Callbacks) (sandbox.Sandbox, error) {
	started, err := l.Warm.Start(ctx, p)
	if err != nil {
		return nil, err
	}
	if started.Gate() == confine.GateNames {
		s, err := openOffline(started, p)
		if err != nil {
			// What is lost is an explanation: no name exists inside either way.
			if p.Log != nil {
				p.Log.Warn("look-ups of names are not told", "error", err)
			}
			return started, nil
		}
		return s, nil
	}
	if l.Gateway == nil || p.Network != sandbox.NetworkAllow {
		return started, nil
	}
	proxy, err := l.Gateway.open(started, p, up)
	if err != nil {
		return nil, errors.Join(err, started.Close())
	}
	return &Proxied{started, proxy}, nil
}

// Prepare has the first session's init booted while the client says hello.
func (l Launcher) Prepare(c session.Config) {
	p := sandbox.Policy{
		Workspace: c.Root, UID: -1, GID: -1, AllowRoot: c.AllowRoot, Network: c.Network,
		Limits: c.Limits, Level: c.Level, MinLevel: c.MinLevel,
	}
	if c.Root == "" {
		id := session.UpcomingID()
		p.Workspace, p.UID, p.GID = c.StateDir, id, id // made by the same owner
	} else if c.Staged || !c.ReadOnlyRoot {
		p.GitStage = c.StateDir // some directory: that there is one counts
	}
	l.Warm.Prepare(p)
}

// checkOwner refuses a root server's workspace that no session could work on
// without being root.
func checkOwner(c session.Config) error {
	if c.Root == "" {
		return nil
	}
	root, err := filepath.Abs(c.Root)
	if err == nil {
		root, err = filepath.EvalSymlinks(root)
	}
	if err != nil {
		return nil // the session says what is wrong with it
	}
	return confine.CheckOwner(sandbox.Policy{
		Workspace: root, UID: -1, GID: -1, AllowRoot: c.AllowRoot, Write: c.Write, Level: c.Level, MinLevel: c.MinLevel,
	})
}

// Proxied is a sandbox whose only way out is a proxy.
type Proxied struct {
	*confine.Sandbox
	proxy *sessionProxy
}

// Environ adds how commands find the proxy.
func (s *Proxied) Environ() []string {
	return append(s.Sandbox.Environ(), egress.Environ(proxyAddress)...)
}

// Notices are the network denials since the last call, for the model.
func (s *Proxied) Notices() []string { return s.proxy.notices() }

func (s *Proxied) Close() error {
	s.proxy.close()
	return s.Sandbox.Close()
}
