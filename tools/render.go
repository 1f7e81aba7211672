package tools

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
	"mcp-sandbox/tokens"
)

// commandResult is the structured form of what a command call answers.
type commandResult struct {
	Output string `json:"output"`
	// WallTimeSeconds is the call's, CommandSeconds the command's where that began
	// before the call. Both to the millisecond.
	WallTimeSeconds    float64 `json:"wall_time_seconds"`
	CommandSeconds     float64 `json:"command_seconds,omitempty"`
	ExitCode           *int    `json:"exit_code,omitempty"`
	SessionID          *int    `json:"session_id,omitempty"`
	AwaitingInput      bool    `json:"awaiting_input,omitempty"`
	WaitForMatched     bool    `json:"wait_for_matched,omitempty"`
	OriginalTokenCount int     `json:"original_token_count,omitempty"`
	Truncated          bool    `json:"truncated,omitempty"`
	OutputID           string  `json:"output_id,omitempty"`
	// Stderr is standard error where it was asked for apart.
	Stderr         *string `json:"stderr,omitempty"`
	StderrOutputID string  `json:"stderr_output_id,omitempty"`
	TimedOut       bool    `json:"timed_out,omitempty"`
	KilledAfterMS  int64   `json:"killed_after_ms,omitempty"`
	Signal         string  `json:"signal,omitempty"`
	// Background is what runs of an ended command.
	Background []relative `json:"background,omitempty"`
	Notices    []string   `json:"notices,omitempty"`
	// Resumed is in the first result after a resume.
	Resumed *session.Resumption `json:"resumed,omitempty"`
}

// commandOutcome is the reply, and an error with it where the server's stop cut the
// call short.
func (c *call) commandOutcome(r session.Result, limit int) (*reply, error) {
	if r.Stopped {
		return c.commandReply(r, limit), refuse("cancelled", "the server stopped during this call; call again")
	}
	return c.commandReply(r, limit), nil
}

// commandReply cuts the output to the limit and writes the first lines in the
// order that survives a client's own cut: how it ended, how long it took, what
// is missing; then the output. Labels are the reference's, which models know.
func (c *call) commandReply(r session.Result, limit int) *reply {
	out := commandResult{
		WallTimeSeconds: r.Wall.Seconds(),
		TimedOut:        r.TimedOut,
		AwaitingInput:   r.AwaitingInput,
		WaitForMatched:  r.Matched,
		Notices:         slices.Concat(c.notes, r.Notices),
		OutputID:        r.OutputID,
		Resumed:         c.resumed,
	}
	if r.Matched && strings.HasPrefix(c.name("wait_for", ""), "port:") {
		if text := c.session.PortsText(); text != "" {
			out.Notices = append(out.Notices, text)
		}
	}
	if c.began.After(r.Started) {
		out.WallTimeSeconds, out.CommandSeconds = time.Since(c.began).Seconds(), r.Wall.Seconds()
	}
	var errs shownText
	outLimit, streams := limit, 1
	if r.Stderr != nil {
		streams = 2
		other := session.Result{Output: r.Stderr.Text, Dropped: r.Stderr.Dropped, DroppedLines: r.Stderr.DroppedLines, Cut: r.Stderr.Cut, OutputID: r.Stderr.OutputID}
		// Each has what the other leaves, at least half.
		outLimit = max(limit/2, limit-c.server.encoding.Count(string(other.Output)))
		errs = c.show(other, max(limit/2, limit-c.server.encoding.Count(string(r.Output))), streams)
		out.Stderr, out.StderrOutputID = &errs.cut.Text, errs.id
	}
	text := c.show(r, outLimit, streams)
	out.Output, out.OutputID = text.cut.Text, text.id
	out.Notices = slices.Concat(out.Notices, text.notes, errs.notes)
	if text.cut.Truncated || errs.cut.Truncated {
		out.Truncated = true
		out.OriginalTokenCount = text.cut.OriginalTokens + errs.cut.OriginalTokens
	}

	var b strings.Builder
	switch {
	case r.Exit != nil:
		code := r.Exit.Code
		out.ExitCode = &code
		fmt.Fprintf(&b, "Process exited with code %d", code)
		if r.Exit.Signal != 0 {
			out.Signal = signalName(r.Exit.Signal)
			fmt.Fprintf(&b, " (%s)", out.Signal)
		}
		if r.TimedOut {
			out.KilledAfterMS = max(r.KilledAfter, r.Wall).Milliseconds()
			b.WriteString(timeoutText(out.KilledAfterMS, r.Killed))
		}
		if r.Exit.OOM {
			b.WriteString(" (out of memory)")
		}
		b.WriteByte('\n')
		if r.ID != 0 {
			// The command is gone but something it started still holds its output.
			sid := r.ID
			out.SessionID = &sid
			fmt.Fprintf(&b, "Background processes of it still run, session ID %d", sid)
			if len(r.Background) > 0 {
				out.Background = newRelatives(r.Background)
				fmt.Fprintf(&b, ": %s", relativesText(out.Background))
			}
			b.WriteByte('\n')
		}
	default:
		sid := r.ID
		out.SessionID = &sid
		fmt.Fprintf(&b, "Process running with session ID %d", sid)
		if r.AwaitingInput {
			b.WriteString(" (waits for input)")
		}
		b.WriteByte('\n')
	}
	if r.Matched {
		b.WriteString("wait_for was met\n")
	}
	fmt.Fprintf(&b, "Wall time: %.4f seconds", out.WallTimeSeconds)
	if out.CommandSeconds > 0 {
		fmt.Fprintf(&b, " (command: %.4f)", out.CommandSeconds)
	}
	b.WriteByte('\n')
	out.WallTimeSeconds, out.CommandSeconds = toMillisecond(out.WallTimeSeconds), toMillisecond(out.CommandSeconds)
	b.WriteString(c.cutLine("Original", text))
	b.WriteString(c.cutLine("Stderr's original", errs))
	b.WriteString(noteLines("Note: %s\n", out.Notices))
	b.WriteString("Output:\n")
	b.WriteString(text.cut.Text)
	if r.Stderr != nil {
		if text.cut.Text != "" && !strings.HasSuffix(text.cut.Text, "\n") {
			b.WriteByte('\n')
		}
		b.WriteString("Stderr:\n")
		b.WriteString(errs.cut.Text)
	}
	return &reply{text: b.String(), structured: out}
}

// shownText is one stream of a result as a model gets it. id is set when there is
// more to read than the text, notes say what.
type shownText struct {
	cut   tokens.Truncation
	id    string
	notes []string
}

// show makes r's output plain and cuts it to the limit. streams is how many share
// what the client shows.
func (c *call) show(r session.Result, limit, streams int) shownText {
	out := shownText{id: r.OutputID}
	id := r.OutputID
	keep := func() string {
		if id == "" {
			id = c.session.KeepOutput(r.Output)
		}
		return id
	}
	head, tail := string(r.Output), ""
	if r.Dropped > 0 {
		head, tail = head[:r.Cut], head[r.Cut:]
	}
	head, tail, painted := withoutPainting(head, tail, r.FullScreenBefore, r.Screen != nil)
	shownHead, shownTail := plain(head), plain(tail)
	head, tail = shownHead.text, shownTail.text
	if r.Screen != nil {
		out.id = keep()
		out.notes = append(out.notes, fullScreenNote(r.Screen, id))
		head, tail = head+tail+escaped(r.Screen.Text()), ""
		r.Dropped, r.DroppedLines = 0, 0
	} else if shownHead.lossy() || shownTail.lossy() || painted {
		out.id = keep()
		out.notes = append(out.notes, plainNote(shownHead.controls+shownTail.controls, shownHead.frames+shownTail.frames, painted, id))
	}
	limit, short := smallBudget(limit)
	mark := func(tokens, lines int) string {
		keep()
		if short {
			return fmt.Sprintf("[... %d tokens cut ...]", tokens)
		}
		return fmt.Sprintf("[... %d tokens in %d lines cut: read_output output_id=%s ...]", tokens, lines, id)
	}
	out.cut = c.fit(limit, streams, func(limit int) tokens.Truncation {
		return c.server.encoding.TruncateParts(head, tail, tokens.Gap{Bytes: r.Dropped, Lines: int(r.DroppedLines)}, limit, mark)
	})
	if out.cut.Truncated {
		out.id = id
	}
	return out
}

// cutLine says how much of a stream is missing, and where it is.
func (c *call) cutLine(whose string, s shownText) string {
	if !s.cut.Truncated {
		return ""
	}
	about := ""
	if s.cut.Estimated {
		about = "about "
	}
	c.server.options.Metrics.TokensCut(s.cut.RemovedTokens)
	return fmt.Sprintf("%s token count: %s%d (%d cut; the rest: read_output output_id=%s)\n", whose, about, s.cut.OriginalTokens, s.cut.RemovedTokens, s.id)
}

// timeoutText tells when everything of a command that ran out of time was gone,
// and that it did not go when it was asked to.
func timeoutText(ms int64, killed bool) string {
	text := fmt.Sprintf(" (exec_timeout: killed after %d ms", ms)
	if killed {
		text += ", with SIGKILL as it outlived SIGTERM"
	}
	return text + ")"
}

func toMillisecond(seconds float64) float64 { return math.Round(seconds*1000) / 1000 }

// smallBudget is what a reply may take. Up to 100 tokens the mark is a short one,
// as the line above the output names the output id anyway; and below leastBudget
// a mark and an end on either side of it would not fit.
func smallBudget(limit int) (budget int, short bool) {
	const small, leastBudget = 100, 24
	return max(limit, leastBudget), limit <= small
}

// tell adds what the call's arguments left to say. A command's reply has it
// already, in its own place.
func (c *call) tell(r *reply, err error) (*reply, error) {
	switch {
	case len(c.notes) == 0:
	case err != nil:
		err = &notedError{err, c.notes}
	default:
		if _, command := r.structured.(commandResult); command {
			break
		}
		r.text = noteLines("Note: %s\n", c.notes) + r.text
		// Through JSON, because it may be a struct.
		b, e := json.Marshal(r.structured)
		var fields map[string]any
		if e == nil && json.Unmarshal(b, &fields) == nil && fields != nil {
			fields["notices"] = c.notes
			if c.resumed != nil {
				fields["resumed"] = c.resumed
			}
			r.structured = fields
		}
	}
	return r, err
}

// notedError is an error with sentences about the call it ended.
type notedError struct {
	error
	notes []string
}

func (e *notedError) Unwrap() error { return e.error }

func noteLines(format string, notes []string) string {
	var b strings.Builder
	for _, n := range notes {
		fmt.Fprintf(&b, format, sandbox.Spelled(n, "\n\t"))
	}
	return b.String()
}

// progress gives the handler a way to say that it lives, nil when the client
// did not ask for it.
func (c *call) progress(ctx context.Context) func(session.Progress) {
	if c.request.Params.Meta == nil || c.request.Params.Meta.ProgressToken == nil {
		return nil
	}
	token := c.request.Params.Meta.ProgressToken
	return func(p session.Progress) {
		text := fmt.Sprintf("%d s, %d bytes", int(p.Elapsed.Seconds()), p.Bytes)
		if p.LastLine != "" {
			text += ": " + oneLine(p.LastLine)
		}
		c.server.notify(ctx, "notifications/progress", map[string]any{
			"progressToken": token, "progress": c.said.next(time.Now()), "message": text,
		})
	}
}

// progressSaid is how far a call has said that it is. The number must grow from
// one notification to the next (MCP, utilities/progress), also where the call
// waits for several things, each with a time of its own.
type progressSaid struct {
	mu    sync.Mutex
	first time.Time
	last  float64
}

// next is the seconds since the first notification, 0 for that one.
func (s *progressSaid) next(now time.Time) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		s.first = now
		return 0
	}
	const millisecond = 0.001
	s.last = toMillisecond(max(now.Sub(s.first).Seconds(), s.last+millisecond))
	return s.last
}

// notify sends a notification about the running call.
func (s *Server) notify(ctx context.Context, method string, params map[string]any) {
	n := mcp.JSONRPCNotification{
		JSONRPC:      mcp.JSONRPC_VERSION,
		Notification: mcp.Notification{Method: method, Params: mcp.NotificationParams{AdditionalFields: params}},
	}
	var err error
	if to := CallerOf(ctx).Notifier; to != nil {
		err = to.Notify(n)
	} else {
		err = s.mcp.SendNotificationToClient(ctx, method, params)
	}
	if err != nil {
		s.log.Debug("notification not sent", "method", method, "error", err)
	}
}

func formatMap(m map[string]any) string {
	parts := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s=%v", k, m[k]))
	}
	return strings.Join(parts, " ")
}
