package main

import (
	"context"
	"errors"
	"path/filepath"

	"mcp-sandbox/confine"
	"mcp-sandbox/egress"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// launcher gives package session the kernel side without either knowing the
// other: this file is the only place where both are seen. With a gateway each
// sandbox gets a proxy as its only way out. A server that lives on keeps an init
// warm.
type launcher struct {
	gateway *gateway
	warm    *confine.WarmInit
}

func (l launcher) Start(ctx context.Context, p sandbox.Policy, up session.Callbacks) (sandbox.Sandbox, error) {
	started, err := l.warm.Start(ctx, p)
	if err != nil {
		return nil, err
	}
	if l.gateway == nil || p.Network != sandbox.NetworkAllow {
		return started, nil
	}
	proxy, err := l.gateway.open(started, p, up)
	if err != nil {
		return nil, errors.Join(err, started.Close())
	}
	return &proxied{started, proxy}, nil
}

// prepare has the first session's init booted while the client says hello.
func (l launcher) prepare(c session.Config) {
	root := c.Root
	if root == "" {
		root = c.StateDir // made below it, by the same owner
	}
	l.warm.Prepare(sandbox.Policy{
		Workspace: root, UID: -1, GID: -1, AllowRoot: c.AllowRoot, Network: c.Network,
		Limits: c.Limits, Level: c.Level, MinLevel: c.MinLevel,
	})
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

// proxied is a sandbox whose only way out is a proxy.
type proxied struct {
	*confine.Sandbox
	proxy *sessionProxy
}

// Environ adds how commands find the proxy.
func (s *proxied) Environ() []string {
	return append(s.Sandbox.Environ(), egress.Environ(proxyAddress)...)
}

// Notices are the network denials since the last call, for the model.
func (s *proxied) Notices() []string { return s.proxy.notices() }

func (s *proxied) Close() error {
	s.proxy.close()
	return s.Sandbox.Close()
}
