// Package tools is the MCP face of mcp-sandbox: one file per tool, holding its
// arguments, description, checks, handler and rendering from top to bottom.
//
// Start with [New]; package serve carries its calls over stdio and HTTP, and says
// of each who calls, see [Caller]. It does not run commands or touch files itself:
// package session does; it decides what a call may look like and what the model
// reads as its answer.
package tools

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
	"mcp-sandbox/tokens"
)

// Options say how tools are offered and answers are cut.
type Options struct {
	Version string
	// Encoding counts and cuts output: o200k_base (default) or cl100k_base.
	Encoding string
	// MaxOutputTokens caps what a call may ask for; 0 is 10,000 as the default
	// and no cap above it.
	MaxOutputTokens int
	// MaxYield caps yield_time_ms; 0 is 45 s.
	MaxYield time.Duration
	// Structured is auto (default), on or off.
	Structured string
	// Toolsets limits what is offered: core, files, process, snapshot, session.
	Toolsets []string
	// ReadOnly leaves only tools with a read-only hint.
	ReadOnly bool
	// ReadOnlyRoot leaves out the tools that write to the workspace.
	ReadOnlyRoot bool
	// Remote is for many clients over a network, see package serve: tools take a
	// sandbox_id, and session_open and session_close are offered.
	Remote bool
	// DefaultSandbox gives each principal of a network server a sandbox for calls
	// that name none, in every protocol version. Without it such a call is about
	// the sandbox of its MCP session, and refused where there is none.
	DefaultSandbox bool
	// Metrics counts calls; nil counts nothing.
	Metrics *Metrics
	// Spans tells a collector of calls; nil tells nobody.
	Spans *Spans
	Log   *slog.Logger

	expose bool // some port may be exposed
	// staged: the workspace is; stageApply: the model may apply its changes.
	staged, stageApply bool
	shell              string
}

// Server offers the tools of a session manager over MCP.
type Server struct {
	mcp      *server.MCPServer
	manager  *session.Manager
	options  Options
	encoding *tokens.Encoding
	log      *slog.Logger
	tools    []tool // offered
}

// tool is one entry of the tool list.
type tool struct {
	def  mcp.Tool
	sets []string
	run  func(ctx context.Context, c *call) (*reply, error)
	// handles: it makes or ends sessions, so it is given none.
	handles bool
	// changes is what it does to files itself, so that a snapshot precedes it.
	// Commands and restores do so through the session, which knows.
	changes session.ChangeKind
	// grows: a full workspace refuses it.
	grows bool
}

// call is one decoded tools/call.
type call struct {
	*arguments
	server  *Server
	from    Client
	key     string // of the session
	session *session.Session
	resumed *session.Resumption // of the session, told by this call
	request mcp.CallToolRequest
	began   time.Time
	said    progressSaid
}

// reply is what a handler has to say: text for the model, further content,
// and the same as data for clients that read structuredContent.
type reply struct {
	text       string
	image      []byte
	mime       string
	link       *mcp.ResourceLink
	structured any
}

const instructions = `A confined shell on this machine. exec_command runs a shell command in the workspace; a command still running when yield_time_ms is over comes back with a session_id: poll it or type into it with write_stdin, end it with kill_process. Background jobs and servers live on between calls. Files outside the workspace and the network may be out of reach: session_info says what holds. Long output is cut in the middle; read_output fetches what was cut.`

// What a network server adds, with and without default sandboxes.
const (
	defaultInstructions = ` Calls without a sandbox_id share one sandbox; for another, call session_open and send its sandbox_id.`
	strictInstructions  = ` Where the connection has no session of its own (protocol 2026-07-28), call session_open once and send its sandbox_id with every call.`
)

// New builds the server. Codes: invalid_argument for a bad option.
func New(m *session.Manager, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Encoding == "" {
		o.Encoding = "o200k_base"
	}
	if o.MaxYield == 0 {
		o.MaxYield = 45 * time.Second
	}
	if o.Structured == "" {
		o.Structured = "auto"
	}
	if !slices.Contains([]string{"auto", "on", "off"}, o.Structured) {
		return nil, refuse("invalid_argument", "structured is %q; use auto, on or off", o.Structured)
	}
	o.expose, o.shell = m.Exposes(), m.Shell()
	o.staged, o.stageApply = m.Config().Staged, m.Config().StageApply
	enc, err := tokens.Get(o.Encoding)
	if err != nil {
		return nil, err
	}
	s := &Server{manager: m, options: o, encoding: enc, log: o.Log}
	text := instructions
	if o.staged {
		text += stagedInstructions(o.stageApply)
	}
	switch {
	case o.Remote && o.DefaultSandbox:
		text += defaultInstructions
	case o.Remote:
		text += strictInstructions
	}
	if p := m.PolicyText(); p != "" {
		text += " " + p
	}
	offered, err := s.offered(allTools(s.options))
	if err != nil {
		return nil, err
	}
	raw, err := s.offered(rawTools())
	if err != nil {
		return nil, err
	}
	var rawNames []string
	for _, t := range raw {
		rawNames = append(rawNames, t.def.Name)
	}
	s.mcp = server.NewMCPServer("mcp-sandbox", o.Version, append([]server.ServerOption{
		server.WithTitle("Sandbox"),
		server.WithToolCapabilities(false),
		server.WithInstructions(text),
		server.WithRecovery(),
		server.WithToolFilter(s.onlyGranted),
		server.WithToolFilter(hideRaw(rawNames)),
	}, conformanceOptions()...)...)
	s.tools = slices.Concat(offered, raw)
	for _, t := range s.tools {
		s.mcp.AddTool(t.def, s.handler(t))
	}
	s.offerFiles(offered)
	offerConformance(s)
	return s, nil
}

// toolsets are the names --toolset takes.
var toolsets = []string{"core", "files", "process", "snapshot", "session"}

// offered are those of list that the options let through.
func (s *Server) offered(list []tool) ([]tool, error) {
	for _, name := range s.options.Toolsets {
		if !slices.Contains(toolsets, name) {
			return nil, refuse("invalid_argument", "there is no toolset %q; use some of %s", name, strings.Join(toolsets, ", "))
		}
	}
	var out []tool
	for _, t := range list {
		if s.options.ReadOnly && !*t.def.Annotations.ReadOnlyHint {
			continue
		}
		if s.options.ReadOnlyRoot && (t.changes != session.Continues || t.def.Name == restoreTool) {
			continue
		}
		wanted := len(s.options.Toolsets) == 0
		for _, set := range t.sets {
			wanted = wanted || slices.Contains(s.options.Toolsets, set)
		}
		if wanted && s.options.Remote {
			t = withSandbox(t)
		}
		if wanted {
			out = append(out, t)
		}
	}
	return out, nil
}

// handler puts what every tool shares around its own work: the session, the
// decoding of arguments, and the turning of failures into results the model can
// read. Only protocol failures are JSON-RPC errors.
func (s *Server) handler(t tool) server.ToolHandlerFunc {
	return func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		r, err := s.measured(ctx, t, req)
		switch {
		case err != nil && r != nil:
			// Cut short, with what there was until then.
			res := s.success(clientOf(ctx, req), r)
			res.IsError = true
			return res, nil
		case err != nil:
			return s.failure(t.def.Name, err), nil
		}
		return s.success(clientOf(ctx, req), r), nil
	}
}

// measured runs a call that is recorded and counted.
func (s *Server) measured(ctx context.Context, t tool, req mcp.CallToolRequest) (*reply, error) {
	began := time.Now()
	wait := CallerOf(ctx).Large
	if wait != nil && asksLarge(t, req) {
		_ = wait(ctx) // a cancelled call says so itself
	}
	r, err := s.audited(ctx, t, req)
	r, err = s.stopped(ctx, r, err)
	if errors.Is(err, errForwarded) {
		return &reply{}, nil // counted where it ran, and nobody reads this
	}
	took := time.Since(began)
	s.options.Metrics.Call(t.def.Name, codeOf(err), took)
	if s.options.Spans != nil {
		s.options.Spans.call(req, t.def.Name, codeOf(err), s.clientName(ctx, t, req), began, took)
	}
	if wait != nil && r != nil && len(r.text) > LargeReply {
		_ = wait(ctx) // a cancelled call has its result all the same
	}
	if refuse := CallerOf(ctx).Refuse; refuse != nil && errors.Is(err, session.ErrElsewhere) {
		// A proxy may send the call to the server that holds the session.
		refuse(session.ElsewhereText(err))
	} else if refuse != nil && errors.Is(err, errNotBegun) {
		refuse("the server is stopping; try again in a moment")
	}
	return r, err
}

// stopped words the end of a call that the stop of the server cut short: its
// client must not take the session for lost.
func (s *Server) stopped(ctx context.Context, r *reply, err error) (*reply, error) {
	if code := codeOf(err); errors.Is(err, errBroken) || errors.Is(err, errNotBegun) || !errors.Is(context.Cause(ctx), sandbox.ErrStopping) || err == nil || code != "cancelled" && code != "session_not_found" {
		return r, err
	}
	text := "the server stopped during this call; the session id keeps its files, and what ran in it has ended: call again"
	if !s.options.Remote || s.manager.Config().NameOf == nil {
		text = "the server stopped during this call; start it again"
	}
	if r != nil {
		r.text = "cancelled: " + text + "\n" + r.text
	}
	return r, refuse("cancelled", "%s", text)
}

func (s *Server) run(ctx context.Context, t tool, req mcp.CallToolRequest, key string) (*reply, error) {
	args, err := decodeArguments(req.Params.Arguments, t.def)
	if err != nil {
		return nil, err
	}
	args.notes = append(args.notes, CallerOf(ctx).Notes...)
	return s.follow(ctx, func() (*reply, error) {
		c := &call{arguments: args, server: s, from: clientOf(ctx, req), key: key, request: req, began: time.Now()}
		r, err := s.runIn(ctx, t, c, key)
		return c.tell(r, err)
	})
}

// runIn runs a tool in its session.
func (s *Server) runIn(ctx context.Context, t tool, c *call, key string) (*reply, error) {
	if t.handles {
		return t.run(ctx, c)
	}
	sess, done, err := s.manager.Use(ctx, key)
	if err != nil {
		return nil, notBegun(ctx, err)
	}
	defer done()
	if t.grows {
		if err := sess.HasRoom(); err != nil {
			return nil, err
		}
	}
	c.session = sess
	if !CallerOf(ctx).Forwarded {
		s.manager.Direct(key)
	}
	if c.resumed = sess.TakeResumption(); c.resumed != nil {
		c.notes = append(c.notes, c.resumed.Text())
		s.options.Metrics.Resumed(c.resumed.From)
	}
	changes := t.changes != session.Continues
	var change *session.Change
	if changes {
		if change, err = sess.BeginChange(ctx, t.changes, c.progress(ctx)); err != nil {
			return nil, notBegun(ctx, err)
		}
	}
	r, err := t.change(ctx, c, sess, changes)
	change.End(ctx)
	if changes {
		c.notes = append(c.notes, sess.Notices()...)
	}
	if err == nil && !*t.def.Annotations.ReadOnlyHint && !slices.Contains(t.sets, "snapshot") {
		sess.CountMutation()
	}
	if !*t.def.Annotations.ReadOnlyHint && (err == nil || r != nil) {
		if e := sess.Commit(ctx); e != nil && err == nil {
			return r.unstored(e)
		}
	}
	if e := sess.Held(); e != nil && (err == nil || r != nil) {
		return nil, e
	}
	return r, err
}

// change runs a tool, which no command may meet halfway where it changes names.
func (t tool) change(ctx context.Context, c *call, sess *session.Session, changes bool) (*reply, error) {
	if changes {
		release, err := sess.HoldNames(ctx)
		if err != nil {
			return nil, notBegun(ctx, err)
		}
		defer release()
	}
	return t.run(ctx, c)
}

// unstored is the result of a call whose changes could not be stored as promised.
func (r *reply) unstored(err error) (*reply, error) {
	if codeOf(err) == "session_not_found" {
		return nil, err // another server has the session
	}
	text := "the call was done, but what it changed could not be stored and may be lost with this machine; the next call tries again"
	if why := session.UnreadOf(err); why != "" {
		text = "the call was done, but " + why
	}
	r.text = "snapshot_failed: " + text + "\n" + r.text
	return r, refuse("snapshot_failed", "%s", text)
}

// MCP is the library's server, for a transport to hand messages to.
func (s *Server) MCP() *server.MCPServer { return s.mcp }

// Manager has the sessions that the tools work in.
func (s *Server) Manager() *session.Manager { return s.manager }

// Options are those the server was made with, defaults filled in.
func (s *Server) Options() Options { return s.options }

// Denied counts what a transport refused before it became a call.
func (s *Server) Denied(kind string) {
	s.options.Metrics.Denied(kind)
	s.log.Info("refused", "kind", kind)
}

func (s *Server) success(from Client, r *reply) *mcp.CallToolResult {
	res := &mcp.CallToolResult{}
	if r.text != "" || r.image == nil {
		res.Content = append(res.Content, mcp.NewTextContent(r.text))
	}
	if r.image != nil {
		res.Content = append(res.Content, mcp.NewImageContent(base64Text(r.image), r.mime))
	}
	if r.link != nil {
		res.Content = append(res.Content, *r.link)
	}
	// Some clients show the model only the structured part when there is one, so
	// an image next to it would vanish.
	if r.structured != nil && r.image == nil && s.structuredFor(from) {
		res.StructuredContent = r.structured
	}
	return res
}

// failure renders an error for the model: "code: sentence; next step". What
// carries no code is a defect of the server or the system; its text may name host
// paths, so it goes to the log alone.
func (s *Server) failure(name string, err error) *mcp.CallToolResult {
	var coded *sandbox.Error
	text := ""
	switch {
	case errors.As(err, &coded):
		text = fmt.Sprintf("%s: %s", coded.Code(), coded.Error())
		var n *notedError
		if errors.As(err, &n) {
			text += noteLines("\nNote: %s", n.notes)
		}
	case errors.Is(err, context.Canceled):
		text = "cancelled: the call was cancelled, nothing more happens"
	default:
		text = "internal: the call failed inside the server; its log has the cause"
	}
	s.log.Debug("tool failed", "tool", name, "error", err)
	text, _ = spelled(text) // it may show lines of a file
	res := mcp.NewToolResultError(text)
	return res
}
