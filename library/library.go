// Package library puts the server together: confinement, sessions, tools and the
// network's rules. The program mcp-sandbox is a command line around it, and another
// program can have sessions of its own, or serve them, by importing it.
//
// Start with [New]. [Server.Session] gives a session to work in from Go, whose methods
// do what the tools do; [Server.ServeStdio] and [Server.Handler] serve MCP clients.
//
// A sandbox's init is this program started again (/proc/self/exe): it leaves during
// the initialisation of package confine, before main. Keep package-level work of the
// program small, since each session begins with it, and do nothing with descriptors or
// arguments there.
package library

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"

	"mcp-sandbox/confine"
	"mcp-sandbox/serve"
	"mcp-sandbox/session"
	"mcp-sandbox/tools"
)

// Options say how sessions are made and served. The zero value is sessions in
// temporary workspaces, with a network of their own loopback, at the strongest level
// this host lends.
type Options struct {
	// Session is every session's configuration. Path "" is the program's own PATH.
	Session session.Config
	// Tools say what clients of the server are offered. Remote is for a Handler.
	Tools tools.Options
	// Network are the hosts that sessions may reach; it needs Session.Network allow.
	Network *Rules
	// Gateway is in the place of Network a gateway that the caller keeps, to change
	// its rules.
	Gateway *Gateway
}

// Server has sessions, and serves them. Close it.
type Server struct {
	launcher Launcher
	manager  *session.Manager
	tools    *tools.Server
}

// New checks the options and prepares the first session. Codes: invalid_argument,
// not_found, not_a_directory, permission_denied, confinement_unavailable, internal.
func New(ctx context.Context, o Options) (_ *Server, err error) {
	if o.Session.Log == nil {
		o.Session.Log = slog.New(slog.DiscardHandler)
	}
	if o.Session.Path == "" {
		o.Session.Path = os.Getenv("PATH")
	}
	if o.Network != nil && o.Gateway == nil {
		if o.Gateway, err = NewGateway(*o.Network, o.Session.Log); err != nil {
			return nil, err
		}
	}
	s := &Server{launcher: Launcher{Gateway: o.Gateway, Warm: &confine.WarmInit{NextID: session.UpcomingID}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.manager, err = session.NewManager(o.Session, s.launcher); err != nil {
		return nil, err
	}
	if err := checkOwner(s.manager.Config()); err != nil {
		return nil, err
	}
	if err := s.launcher.checkStaged(ctx, s.manager.Config()); err != nil {
		return nil, err
	}
	s.launcher.Prepare(s.manager.Config())
	s.manager.BeginBaseline()
	if s.tools, err = tools.New(s.manager, o.Tools); err != nil {
		return nil, err
	}
	return s, nil
}

// Session is the session of a key, made on first use: one key, one workspace. It ends
// with the server, or with End and Delete of Manager.
func (s *Server) Session(ctx context.Context, key string) (*session.Session, error) {
	return s.manager.Get(ctx, session.Key("", key))
}

// ServeStdio answers one client's messages, a line each, until in ends or ctx is done.
func (s *Server) ServeStdio(ctx context.Context, in io.Reader, out io.Writer) error {
	return serve.Stdio(ctx, s.tools, in, out)
}

// Handler answers many clients over streamable HTTP; it needs Options.Tools.Remote.
// Codes: invalid_argument, internal.
func (s *Server) Handler(o serve.Options) (http.Handler, error) {
	return serve.NewHTTP(s.tools, o)
}

// Manager has the sessions.
func (s *Server) Manager() *session.Manager { return s.manager }

// Tools are what clients are offered.
func (s *Server) Tools() *tools.Server { return s.tools }

// Close ends every session. Workspaces that the server made are removed, except those
// of named sessions.
func (s *Server) Close() error {
	var err error
	if s.manager != nil {
		err = s.manager.Close()
	}
	s.launcher.Warm.Close()
	return err
}
