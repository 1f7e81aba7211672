package audit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mcp-sandbox/sandbox"
)

// Version is the version of the record format below.
const Version = 1

// Event is one record of the audit log: every tool call and every step of
// a session's life leaves two, a start and a finish, joined by Span; a refused
// connection leaves one, an event. It holds
// names, sizes and redacted values, never the content of a file, of terminal
// input or of output.
type Event struct {
	Version int       `json:"version"`
	ID      string    `json:"event_id"`
	Time    time.Time `json:"ts"`
	// Server is one run of a server; Seq counts its records from 1, so that a gap
	// is a record that was lost.
	Server string `json:"server_id"`
	Seq    uint64 `json:"seq"`
	// Session is empty on the first start of a client, which makes the session.
	Session string         `json:"session_id,omitempty"`
	Client  string         `json:"client,omitempty"`
	Op      string         `json:"op"`
	Phase   string         `json:"phase"` // start, finish, or event for what has no length
	Span    string         `json:"span_id"`
	Data    map[string]any `json:"data,omitempty"`

	// Only on a finish; an event has an ErrorCode where something was refused.
	OK         *bool    `json:"ok,omitempty"`
	DurationMS *float64 `json:"duration_ms,omitempty"`
	ErrorCode  string   `json:"error_code,omitempty"`
}

// Sink takes records, each one line of JSON with its newline. Write must
// be safe for concurrent use and must not keep the line. See sinks.go for
// those there are.
type Sink interface {
	Write(ctx context.Context, line []byte) error
	// Close hands over what is still held back, waiting a bounded time.
	Close() error
}

// Options say where records go and what a failure to write one means.
type Options struct {
	Sink Sink
	// Strict refuses a call whose start cannot be recorded. Without it a failing
	// sink costs records (counted by Seq and logged) and never a call.
	Strict bool
	Log    *slog.Logger
	Now    func() time.Time
}

// Auditor writes the audit log. A nil Auditor records nothing.
type Auditor struct {
	o      Options
	server string
	// order keeps the sequence numbers in a sink in the order they were given.
	order sync.Mutex
	seq   uint64

	failing  atomic.Bool
	lost     atomic.Uint64
	closing  sync.Once
	closeErr error
}

// New starts an audit log on a sink, which it closes at the end.
func New(o Options) *Auditor {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Auditor{o: o, server: randomHex(8)}
}

// Span is one operation between its two records. A nil span is one of no
// auditor.
type Span struct {
	auditor *Auditor
	started time.Time
	event   Event
	once    sync.Once
}

// Begin records the start of an operation. It fails, with code internal, only
// in strict mode; the operation must then not happen.
func (a *Auditor) Begin(ctx context.Context, session, client, op string, data map[string]any) (*Span, error) {
	if a == nil {
		return nil, nil
	}
	sp := &Span{auditor: a, started: a.o.Now(), event: Event{
		Session: session, Client: client, Op: op, Span: randomHex(8),
	}}
	e := sp.event
	e.Phase, e.Data = "start", data
	if err := a.write(ctx, e); err != nil && a.o.Strict {
		return nil, sandbox.Errorf("internal", err, "the audit log cannot be written and this server must not work without it; its operator has to make room or repair it")
	}
	return sp, nil
}

// End records the finish, once; later calls do nothing. session replaces the
// one of the start when it was made in between. code is "" for success.
func (sp *Span) End(ctx context.Context, session, code string, data map[string]any) {
	if sp == nil {
		return
	}
	sp.once.Do(func() {
		e := sp.event
		if session != "" {
			e.Session = session
		}
		ok := code == ""
		ms := float64(sp.auditor.o.Now().Sub(sp.started).Microseconds()) / 1000
		e.Phase, e.Data, e.OK, e.DurationMS, e.ErrorCode = "finish", data, &ok, &ms, code
		// A call that was cancelled ends too, and its record must still be sent.
		_ = sp.auditor.write(context.WithoutCancel(ctx), e)
	})
}

// Note records something other than an operation of a client, in one record. It may
// be lost, also in strict mode, for by then it has happened.
func (a *Auditor) Note(ctx context.Context, session, op, code string, data map[string]any) {
	if a == nil {
		return
	}
	_ = a.write(ctx, Event{Session: session, Op: op, Phase: "event", Span: randomHex(8), Data: data, ErrorCode: code})
}

func (a *Auditor) write(ctx context.Context, e Event) error {
	e.Version, e.ID, e.Server = Version, randomHex(16), a.server
	a.order.Lock()
	defer a.order.Unlock()
	a.seq++
	e.Seq, e.Time = a.seq, a.o.Now().UTC()
	line, err := json.Marshal(e)
	if err == nil {
		err = a.o.Sink.Write(ctx, append(line, '\n'))
	}
	if err != nil {
		a.lost.Add(1)
		// Said once for a run of failures: a full disk must not fill the log too.
		if !a.failing.Swap(true) {
			a.o.Log.Error("the audit log cannot be written", "error", err, "seq", e.Seq, "strict", a.o.Strict)
		}
		return err
	}
	if a.failing.Swap(false) {
		a.o.Log.Warn("the audit log can be written again", "lost", a.lost.Load())
	}
	return nil
}

// Lost counts records that no sink took.
func (a *Auditor) Lost() uint64 {
	if a == nil {
		return 0
	}
	return a.lost.Load()
}

// Close flushes and closes the sink; idempotent.
func (a *Auditor) Close() error {
	if a == nil {
		return nil
	}
	a.closing.Do(func() { a.closeErr = a.o.Sink.Close() })
	return a.closeErr
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(b)
}
