package main

import (
	"context"
	"errors"
	"os"

	"mcp-sandbox/confine"
	"mcp-sandbox/egress"
	"mcp-sandbox/ptyproc"
	"mcp-sandbox/session"
)

// launcher gives package session the kernel side without either knowing the
// other: this file is the only place where both are seen. With a gateway each
// sandbox gets a proxy as its only way out. A server that lives on has a standby.
type launcher struct {
	gateway *gateway
	standby *confine.WarmInit
}

func (l launcher) Start(ctx context.Context, c session.Confinement) (session.Sandbox, error) {
	p := policyOf(c)
	p.WarmInit = l.standby
	started, err := confine.Start(ctx, p)
	if err != nil {
		return nil, err
	}
	sb := &confined{Sandbox: started}
	if l.gateway != nil && c.Network == string(confine.NetworkAllow) {
		if sb.proxy, err = l.gateway.open(started, c); err != nil {
			return nil, errors.Join(err, started.Close())
		}
	}
	return sb, nil
}

// prepare has the first session's init booted while the client says hello.
func (l launcher) prepare(c session.Config) {
	root := c.Root
	if root == "" {
		root = c.StateDir // made below it, by the same owner
	}
	l.standby.Prepare(confine.Policy{
		Workspace: root, UID: -1, GID: -1, Network: confine.Network(c.Network),
		Limits: confine.Limits(c.Limits), Level: confine.Level(c.Level), MinLevel: confine.Level(c.MinLevel),
	})
}

func policyOf(c session.Confinement) confine.Policy {
	return confine.Policy{
		Workspace: c.Workspace, WorkspaceFile: c.WorkspaceFile, UID: c.UID, GID: c.GID,
		Home: c.Home, Path: c.Path, Read: c.Read, Write: c.Write, DenyRead: c.DenyRead,
		Protect: c.Protect, StateDirs: c.StateDirs, TempDir: c.TempDir, Network: confine.Network(c.Network),
		Limits: confine.Limits(c.Limits), Level: confine.Level(c.Level), MinLevel: confine.Level(c.MinLevel),
		Log: c.Log,
	}
}

// confined shows a confine.Sandbox as what session and ptyproc ask for.
type confined struct {
	*confine.Sandbox
	proxy *sessionProxy // nil without an allow network
}

// Environ adds how commands find the proxy.
func (s *confined) Environ() []string {
	env := s.Sandbox.Environ()
	if s.proxy != nil {
		env = append(env, egress.Environ(proxyAddress)...)
	}
	return env
}

// Notices are the network denials since the last call, for the model.
func (s *confined) Notices() []string {
	if s.proxy == nil {
		return nil
	}
	return s.proxy.notices()
}

func (s *confined) Close() error {
	if s.proxy != nil {
		s.proxy.close()
	}
	return s.Sandbox.Close()
}

func (s *confined) Report() session.Report { return reportOf(s.Sandbox.Report()) }

func reportOf(r confine.Report) session.Report {
	out := session.Report{Level: string(r.Level), Warnings: r.Warnings}
	for _, l := range r.Layers {
		out.Layers = append(out.Layers, session.Layer(l))
	}
	return out
}

func (s *confined) Spawn(ctx context.Context, spec ptyproc.Spec) (ptyproc.Child, error) {
	p, err := s.Sandbox.Spawn(ctx, confine.Command{
		Argv: spec.Argv, Env: spec.Env, Dir: spec.Dir,
		TTY: spec.TTY, Cols: spec.Cols, Rows: spec.Rows, Stdin: confine.Stdin(spec.Stdin),
	})
	if err != nil {
		return nil, err
	}
	return child{p}, nil
}

// child differs from confine.Process in names only.
type child struct{ *confine.Process }

// Output is the merged stdout and stderr, or the terminal.
func (c child) Output() *os.File { return c.Stdout() }

func (c child) Wait() ptyproc.ExitStatus { return ptyproc.ExitStatus(c.Process.Wait()) }
