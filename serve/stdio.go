package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"mcp-sandbox/tools"
)

const (
	// maxMessage bounds one line; a whole file in base64 fits, a flood does not.
	maxMessage = 64 << 20
	// maxInFlight bounds calls that wait at once. They cost a goroutine each, so
	// this only stops a client that never reads its answers.
	maxInFlight = 1024
	// eofGrace lets calls that are about to end be answered when a one-shot
	// client has closed its end: everything must be gone 2 s after EOF.
	eofGrace = time.Second
	// stdioKey is the key of the one client's session.
	stdioKey = "stdio"
)

// Stdio answers newline-delimited JSON-RPC messages (MCP, "stdio"
// transport) until in ends, ctx is done or out cannot be written.
//
// It is a loop around mcp-go's HandleMessage because the library's own has a small
// fixed pool of workers: calls that wait for a command would stall quick
// ones, a cancel for a queued call is lost, and a last line without newline is
// dropped. Here every request runs at once and is cancellable from the moment
// its line was read.
func Stdio(ctx context.Context, s *tools.Server, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sess := newStdioSession(out, s.Options().Log, cancel)
	if err := s.MCP().RegisterSession(ctx, sess); err != nil {
		return err
	}
	defer s.MCP().UnregisterSession(context.WithoutCancel(ctx), sess.SessionID())
	go sess.forward(ctx)

	s.MCP().Use(giveLarge)
	ctx = from(ctx, func(c *tools.Caller) { c.Key, c.Notifier = stdioKey, sess })
	ctx = s.MCP().WithContext(ctx, sess)
	l := &stdioLoop{server: s, session: sess, running: map[string]context.CancelFunc{}}
	in, end := waitable(in)
	defer end()
	read := make(chan struct{})
	go func() {
		defer close(read)
		readLines(in, func(ln line) bool {
			l.dispatch(ctx, ln)
			return ctx.Err() == nil
		})
	}()
	select {
	case <-ctx.Done():
		l.end()
	case <-read:
		l.drain(cancel)
	}
	return sess.failure()
}

type line struct {
	text []byte
	err  error
}

var errTooLong = errors.New("message too long")

// readLines gives each line, the last one also without its newline, until take says that
// no more are wanted. A line past the limit is skipped to its end and reported, so that
// the next one is read whole.
func readLines(in io.Reader, take func(line) bool) {
	r := bufio.NewReaderSize(in, 64<<10)
	for {
		text, err := readLine(r)
		if len(bytes.TrimSpace(text)) > 0 || errors.Is(err, errTooLong) {
			if !take(line{text: text, err: err}) {
				return
			}
		}
		if err != nil && !errors.Is(err, errTooLong) {
			return
		}
	}
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var text []byte
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if !long {
			text = append(text, part...)
			if len(text) > maxMessage {
				long, text = true, nil
			}
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if long {
			if err != nil {
				return nil, err
			}
			return nil, errTooLong
		}
		return text, err
	}
}

// stdioLoop tracks the requests in flight by their id in one spelling, in which 1
// and "1" are different ids, as in JSON-RPC.
type stdioLoop struct {
	server  *tools.Server
	session *stdioSession
	wg      sync.WaitGroup

	mu      sync.Mutex
	running map[string]context.CancelFunc
	ended   bool // nothing is begun any more
}

// begin runs f, unless the loop has ended. The caller has not locked mu.
func (l *stdioLoop) begin(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.wg.Go(f)
	}
}

// end waits for what runs. The reader may still be in the middle of a line, which comes
// too late.
func (l *stdioLoop) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.wg.Wait()
}

func (l *stdioLoop) dispatch(ctx context.Context, ln line) {
	if ln.err != nil && errors.Is(ln.err, errTooLong) {
		l.session.write(rpcError(nil, mcp.INVALID_REQUEST, "the message is longer than 64 MiB; send it in parts"))
		return
	}
	msg, text, err := parseShortened(ln.text)
	if err != nil {
		l.session.write(rpcError(msg.id, err.(*protocolError).code, err.Error()))
		return
	}
	switch {
	case msg.method == string(mcp.MethodNotificationCancelled):
		l.cancelRequest(msg.params)
	case msg.method == "":
		l.session.requests.answered(text)
	case msg.id == nil:
		// Notifications have no reply and are quick: in order.
		l.server.MCP().HandleMessage(ctx, text)
		if msg.method == string(mcp.MethodNotificationInitialized) {
			l.prepare(ctx)
		}
	default:
		l.start(withLarge(ctx, msg), msg, text)
	}
}

// prepare starts the sandbox while the model still thinks, so that the first
// command does not wait for it. A failure is only logged here: the first call
// retries and reports it.
func (l *stdioLoop) prepare(ctx context.Context) {
	l.begin(func() {
		if _, err := l.server.Manager().Get(ctx, stdioKey); err != nil {
			l.server.Options().Log.Warn("the sandbox could not be started ahead", "error", err)
		}
	})
}

func (l *stdioLoop) start(ctx context.Context, msg message, text []byte) {
	key := compactID(msg.id)
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	_, taken := l.running[key]
	full := len(l.running) >= maxInFlight
	if !taken && !full {
		l.running[key] = cancel
	}
	l.mu.Unlock()
	switch {
	case taken:
		cancel()
		l.session.write(rpcError(msg.id, mcp.INVALID_REQUEST, "a request with this id is still running; use a fresh id"))
		return
	case full:
		cancel()
		l.session.write(rpcError(msg.id, mcp.INTERNAL_ERROR, "1024 requests are running; wait for some to end"))
		return
	}
	l.begin(func() {
		resp := l.handle(ctx, msg, text)
		cancelled := l.finish(key)
		cancel()
		// A cancelled request is not answered (MCP, "Cancellation").
		if resp != nil && !cancelled {
			l.session.write(resp)
		}
	})
}

// finish takes the request off the table and tells whether it was cancelled:
// cancelRequest removes the entry it cancels.
func (l *stdioLoop) finish(key string) (cancelled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.running[key]
	delete(l.running, key)
	return !ok
}

func (l *stdioLoop) cancelRequest(params json.RawMessage) {
	var p struct {
		RequestID json.RawMessage `json:"requestId"`
	}
	if json.Unmarshal(params, &p) != nil {
		return
	}
	key := compactID(p.RequestID)
	l.mu.Lock()
	cancel, ok := l.running[key]
	delete(l.running, key)
	l.mu.Unlock()
	if ok {
		cancel()
	}
}

// drain answers what is about to end, then cancels the rest.
func (l *stdioLoop) drain(cancel context.CancelFunc) {
	done := make(chan struct{})
	go func() { l.wg.Wait(); close(done) }()
	t := time.NewTimer(eofGrace)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
	cancel()
	<-done
}

// handle runs one request; a panic in a handler ends that request, not the
// server.
func (l *stdioLoop) handle(ctx context.Context, msg message, text []byte) (resp mcp.JSONRPCMessage) {
	defer func() {
		if r := recover(); r != nil {
			l.server.Options().Log.Error("panic in a request", "method", msg.method, "panic", r)
			resp = rpcError(msg.id, mcp.INTERNAL_ERROR, "the request failed inside the server; its log has the cause")
		}
	}()
	return l.server.MCP().HandleMessage(ctx, text)
}

var (
	_ server.ClientSession         = (*stdioSession)(nil)
	_ server.SessionWithClientInfo = (*stdioSession)(nil)
)
