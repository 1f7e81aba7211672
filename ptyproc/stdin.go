package ptyproc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"mcp-sandbox/sandbox"
)

// endOfFile is what Ctrl-D types: the line discipline's VEOF character, termios(3).
const endOfFile = 0x04

// WriteRequest is text for a process and how to wait for what it does with it.
type WriteRequest struct {
	ID    int
	Chars []byte
	// Keys are typed after Chars; they need a terminal.
	Keys []Key
	// Cols and Rows, unless 0, resize the terminal first.
	Cols, Rows uint16
	// Close closes stdin after Chars; on a terminal it types the end-of-file
	// character.
	Close bool
	// Yield bounds the wait, clamped; 0 is 10 s, for a poll 30 s.
	Yield time.Duration
	// WaitFor ends the wait sooner, see ParseWaitFor.
	WaitFor  *WaitFor
	Progress func(Progress)
}

// Write sends chars to a process and waits until it waits for input again, has
// ended, WaitFor is met or the yield is over. Without Chars and Close it only
// waits. Where the system does not tell whether a process waits for input, the
// wait ends when output has settled: about 50 ms of quiet, after a write not
// before 100 ms.
//
// What the process would not take within the yield is not sent, and a notice
// says so.
//
// Codes: process_not_found, stdin_closed, invalid_argument, cancelled.
func (t *Table) Write(ctx context.Context, r WriteRequest) (Result, error) {
	p, past, err := t.lookup(r.ID)
	if err != nil {
		return Result{}, err
	}
	if past != nil {
		res := t.pastResult(past)
		if len(r.Chars)+len(r.Keys) > 0 {
			res.Notices = append(res.Notices, "nothing was sent: the process has ended")
		}
		return res, nil
	}
	// From now on no other call prunes it.
	defer p.enter()()
	w := waitFor{yield: t.clamp(r.Yield), unseenYield: t.o.MaxYield, input: p.interactive, fallback: true, progress: r.Progress, until: r.WaitFor}
	var notice string
	resized, err := t.resizeFirst(p, r)
	if err != nil {
		return Result{}, err
	}
	switch writes := len(r.Chars)+len(r.Keys) > 0 || r.Close; {
	case writes || resized:
		if r.Yield == 0 {
			w.yield, w.unseenYield = t.clamp(writeYield), t.clamp(unseenYield)
		}
		w.began = time.Now()
		if r.WaitFor != nil {
			p.mu.Lock()
			w.echo.at = p.out.buf.len()
			p.mu.Unlock()
			w.echo.typed = p.echoOf(r.Chars)
		}
		if notice, err = p.write(ctx, r, w.yield); err != nil {
			return Result{}, err
		}
		w.yield -= time.Since(w.began)
		w.floor = settleFloor
	case r.Yield == 0:
		w.yield, w.unseenYield = t.clamp(pollYield), t.clamp(unseenPollYield)
	}
	res, err := t.await(ctx, p, w)
	if err != nil {
		if stopping(ctx) {
			return t.cutShort(p), nil
		}
		return Result{}, stoppedWaiting(err, r.ID)
	}
	if notice != "" {
		res.Notices = append(res.Notices, notice)
	}
	return res, nil
}

// resizeFirst checks what only a terminal has, and gives it its new size.
func (t *Table) resizeFirst(p *process, r WriteRequest) (resized bool, err error) {
	switch {
	case !p.tty && len(r.Keys) > 0:
		return false, errorf("invalid_argument", nil, "process %d has no terminal, which keys need; send chars, for C-c use kill_process signal INT", p.id)
	case r.Cols == 0 && r.Rows == 0:
		return false, nil
	case !p.tty:
		return false, errorf("invalid_argument", nil, "process %d has no terminal to resize; start the command with tty", p.id)
	}
	cols, rows := p.screen.size()
	return true, t.Resize(p.id, cmp.Or(r.Cols, uint16(cols)), cmp.Or(r.Rows, uint16(rows)))
}

func lengthOf(parts []inputPart) (n int) {
	for _, p := range parts {
		n += len(p.data)
	}
	return n
}

// pause waits between two parts of the input.
func (p *process) pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	case <-p.child.Done():
	case <-p.t.closing:
	}
}

// stoppedWaiting is the error of a call that was cancelled while the process it
// asked about was started by an earlier one: that call's work is not undone.
func stoppedWaiting(err error, id int) error {
	var own *sandbox.Error
	if errors.As(err, &own) {
		return err
	}
	return errorf("cancelled", err, "the call was cancelled; process %d still runs and keeps its output for the next call", id)
}

// pastResult repeats what is known of an ended process.
func (t *Table) pastResult(e *ended) Result {
	r := Result{
		Exit: e.info.Exit, TimedOut: e.timedOut, Killed: e.killed, KilledAfter: e.killedAfter, Output: []byte{}, OutputID: e.outputID,
		Started: e.info.Started, Wall: e.wall, TTY: e.info.TTY, Notices: t.takeNotices(),
	}
	if e.separate {
		r.Stderr = &Output{OutputID: e.errID}
	}
	return r
}

func errStdinClosed(id int, cause error, why string) error {
	return errorf("stdin_closed", cause, "process %d %s; start the command again with keep_stdin or tty to send it text", id, why)
}

// write sends chars within the time given. An ended process is not an error: the
// exit that the caller is about to be told says more.
func (p *process) write(ctx context.Context, r WriteRequest, within time.Duration) (notice string, err error) {
	size := len(r.Chars) + len(r.Keys)
	limit := time.Now().Add(within)
	if held, notice, err := p.holdStdin(ctx, size, within); !held {
		return notice, err
	}
	defer func() { <-p.writing }()
	p.writes.Add(1)

	f := p.child.Stdin()
	switch {
	case f != nil && p.stdinOpen.Load():
	case size == 0: // closing what is closed
		return "", nil
	case p.exited():
		return nothingSent(size), nil
	case signalKey(r.Chars) != nil:
		k := signalKey(r.Chars)
		return "", errorf("stdin_closed", nil, "process %d has no terminal and no open stdin, where %s does nothing; use %s", p.id, k.name, k.advice)
	case f == nil || p.neverOpen:
		return "", errStdinClosed(p.id, nil, "was started without stdin")
	default:
		return "", errStdinClosed(p.id, nil, "has its stdin closed")
	}

	parts := []inputPart{{data: r.Chars}}
	switch {
	case p.tty:
		parts = p.typed(r)
		size = lengthOf(parts)
	default:
		notice = noticePipe(r.Chars)
	}
	sent := 0
	for _, part := range parts {
		if p.tty && notice == "" {
			notice = p.noticeLine(part.data)
		}
		n := 0
		n, err = p.writeUntil(ctx, f, part.data, limit)
		if sent += n; err != nil {
			break
		}
		p.pause(ctx, part.pause)
	}
	if r.Close && !p.tty {
		p.closeStdin()
	}
	switch {
	case err == nil:
		return notice, nil
	case ctx.Err() != nil:
		return "", stoppedWaiting(ctx.Err(), p.id)
	case p.exited():
		if sent >= size {
			return notice, nil
		}
		return nothingSent(size - sent), nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return notRead(min(sent, size), size), nil
	case errors.Is(err, os.ErrNoDeadline):
		return "", errorf("internal", err, "the stdin of process %d cannot be written with a time limit; start the command again", p.id)
	}
	// EPIPE, or EIO on a terminal: nobody has the other end open.
	p.closeStdin()
	return "", errStdinClosed(p.id, err, "no longer has its stdin open")
}

// holdStdin waits for its turn: two calls must not mix their text.
func (p *process) holdStdin(ctx context.Context, size int, within time.Duration) (held bool, notice string, err error) {
	select {
	case p.writing <- struct{}{}:
		return true, "", nil
	default:
	}
	limit := time.NewTimer(within)
	defer limit.Stop()
	select {
	case p.writing <- struct{}{}:
		return true, "", nil
	case <-limit.C:
		return false, notRead(0, size), nil
	case <-p.child.Done():
		return false, nothingSent(size), nil
	case <-ctx.Done():
		return false, "", stoppedWaiting(ctx.Err(), p.id)
	case <-p.t.closing:
		return false, "", errClosing()
	}
}

// writeUntil writes all of data or as much as is taken before the limit, the
// cancelling, the process's end or the close.
func (p *process) writeUntil(ctx context.Context, f *os.File, data []byte, limit time.Time) (int, error) {
	if err := f.SetWriteDeadline(limit); err != nil {
		return 0, err
	}
	written, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-written:
			return
		case <-ctx.Done():
		case <-p.child.Done():
		case <-p.t.closing:
		}
		_ = f.SetWriteDeadline(time.Unix(1, 0))
	}()
	n, err := f.Write(data)
	close(written)
	<-watched
	_ = f.SetWriteDeadline(time.Time{})
	return n, err
}

// feed writes the text given at the start. It runs concurrently: a
// process that fills its output before it reads its input must not deadlock.
func (p *process) feed(text string, closing bool) {
	if _, err := p.child.Stdin().WriteString(text); err != nil {
		p.t.o.Log.Debug("stdin not taken whole", "id", p.id, "error", err)
	}
	if closing {
		p.closeStdin()
	}
	<-p.writing
}

// typedEnd is chars and an end of file: the character ends the input only at
// the start of a line, elsewhere the first one just hands over what was typed.
func typedEnd(chars []byte) []byte {
	data := append([]byte(nil), chars...)
	if n := len(data); n > 0 && data[n-1] != '\n' && data[n-1] != '\r' {
		data = append(data, endOfFile)
	}
	return append(data, endOfFile)
}

func notRead(sent, size int) string {
	return fmt.Sprintf("only %d of %d bytes were sent: the process does not read its stdin; send the rest later", sent, size)
}

func nothingSent(size int) string {
	if size == 0 {
		return ""
	}
	return fmt.Sprintf("%d bytes were not sent: the process has ended", size)
}
