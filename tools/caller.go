package tools

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/session"
)

// Caller is what a transport knows of a call: who calls, which session the call is
// about, and the way back to the client. The zero value is a caller of whom nothing
// is known.
//
// Questions to the user go another way: mcp-go finds the client's session in the
// context, and that of every transport fulfils server.SessionWithElicitation where
// its protocol can carry a question.
type Caller struct {
	// Principal is whose bearer token came with the call, "" over stdio.
	Principal string
	// Key is that of the session, see session.Key. "" is a call that must name a
	// sandbox by its sandbox_id.
	Key string
	// Grants are the tools that the caller may use; nil is all of them.
	Grants Grants
	// Client is the calling program where the transport knows it, and the zero
	// value where mcp-go does.
	Client Client
	// Notifier sends the call's notifications; nil leaves them to mcp-go, which may
	// send them after the call's result.
	Notifier Notifier
	// Refuse has the transport answer the request with text in its own way, unless
	// an answer is on its way. It is for calls of which nothing was done, which a
	// proxy may send to another server. nil where a transport has no such way.
	Refuse func(text string)
	// Forward sends the request on to the server that holds its session; nil where a
	// transport cannot, and for a request that was sent on already.
	Forward func(ctx context.Context, to *session.Elsewhere) Forwarding
	// Forwarded: another server sent the call on.
	Forwarded bool
	// Large waits until the answer to the call may be a large one, see LargeReply, and
	// gives the context's error where that ends before. nil sets no bound.
	Large func(ctx context.Context) error
	// Notes are sentences for the model about how the call was read.
	Notes []string
}

// Notifier writes a notification at once, so that it arrives before the result of
// the call that sends it. The stdio loop and streamable HTTP fulfil it.
type Notifier interface {
	Notify(mcp.JSONRPCNotification) error
}

type callerKey struct{}

// WithCaller gives the calls of a context their caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is the caller that WithCaller gave.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
