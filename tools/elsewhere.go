package tools

import (
	"context"
	"errors"
	"time"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// Forwarding is how a call ended that was sent on to the server which holds its
// session.
type Forwarding int

const (
	// NotReached: nothing of the call was done, and it may be tried again.
	NotReached Forwarding = iota
	// Answered: the request has its answer.
	Answered
	// Broken: the call was handed over, and there is no answer.
	Broken
)

// errBroken is the cause of an error that says more than that this server stops.
var errBroken = errors.New("the other server did not answer")

// errNotBegun is the cause of an error of a call that the server's stop met before
// anything of it was done.
var errNotBegun = errors.New("the server stopped before the call began")

// notBegun is the error of a call that has no session yet, or has changed nothing in it.
func notBegun(ctx context.Context, err error) error {
	if code := codeOf(err); !errors.Is(context.Cause(ctx), sandbox.ErrStopping) || errors.Is(err, session.ErrElsewhere) || code != "cancelled" && code != "session_not_found" {
		return err
	}
	return sandbox.Errorf("cancelled", errors.Join(errNotBegun, err), "the server stopped before this call began, nothing of it was done; call again")
}

// errForwarded ends a call that another server has answered.
var errForwarded = errors.New("answered by another server")

const (
	firstRetry   = 50 * time.Millisecond
	longestRetry = 500 * time.Millisecond
)

// follow runs a call until the session is here, or another server has answered the
// call, or it has waited for as long as the lease of a lost server can last.
func (s *Server) follow(ctx context.Context, run func() (*reply, error)) (*reply, error) {
	forward := CallerOf(ctx).Forward
	began, pause := time.Now(), firstRetry
	for {
		r, err := run()
		if forward == nil || !errors.Is(err, session.ErrElsewhere) {
			return r, err
		}
		var at *session.Elsewhere
		if errors.As(err, &at) && at.URL != "" {
			switch forward(ctx, at) {
			case Answered:
				return nil, errForwarded
			case Broken:
				if errors.Is(context.Cause(ctx), sandbox.ErrStopping) {
					return nil, sandbox.Errorf("cancelled", errBroken, "this server stopped during the call, which ran at another one and was cancelled there; the session goes on with what the call had done: look at that, and call again")
				}
				return nil, sandbox.Errorf("cancelled", errBroken, "the server that ran this call stopped answering; the call may have been done in part, and what it changed may be lost: look before repeating it")
			}
			s.manager.Unroute(at.Name)
		}
		if time.Since(began) > s.manager.Patience() {
			return r, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, notBegun(ctx, refuse("cancelled", "the call was cancelled while its session was looked for; nothing was done"))
		}
		pause = min(2*pause, longestRetry)
	}
}
