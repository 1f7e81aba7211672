package ptyproc

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// process is one record of the table. Lock order: Table.mu before process.mu.
type process struct {
	t       *Table
	id      int
	command string
	tty     bool
	child   sandbox.Process
	started time.Time
	screen  *screen // nil without a terminal
	timer   *time.Timer

	// idShown is set once a reply has named the id.
	idShown atomic.Bool
	// eof is closed when the output has ended: nobody holds its other end.
	eof  chan struct{}
	once sync.Once

	// reading is held from a read of the output until it is kept. Taken before mu.
	reading sync.Mutex
	// fullScreen is the state of the terminal where the unread output begins, as
	// of the last reply. Needs mu.
	fullScreen bool

	mu       sync.Mutex
	lastUsed time.Time
	waiters  int
	buf      outputBuffer
	text     joiner
	// history is what replies have carried so far, for a spool that may yet
	// begin; history and buf together never exceed the buffer's bound.
	history []byte
	spool   *spool
	total   int64
	// newest is when output last came, wake is closed then if anybody asked.
	newest       time.Time
	wake         chan struct{}
	matchers     []*matcher
	exitReported bool
	timedOut     bool
	// killed is set when the tree had to be sent KILL, over when a kill has ended.
	killed bool
	over   time.Time
	// cancelled is set when the call that started it was cancelled; keptID then
	// names its output.
	cancelled bool
	keptID    string
	// denied is what the sandbox refused and no reply has explained yet.
	denied  []sandbox.Denial
	killing chan struct{} // closed when the kill has done its work

	// lineTyped is how much of a line the terminal has been sent. Needs writing.
	lineTyped int
	// writing is held by the one caller that writes to stdin.
	writing   chan struct{}
	stdinOpen atomic.Bool
	neverOpen bool
	// interactive is set when calls may send it input.
	interactive bool
}

func newProcess(t *Table, id int, r StartRequest, child sandbox.Process, started time.Time) *process {
	p := &process{
		t: t, id: id, command: r.Title, tty: r.TTY, child: child, started: started,
		eof: make(chan struct{}), lastUsed: t.o.Now(), writing: make(chan struct{}, 1),
		buf: outputBuffer{headCap: t.o.HeadBytes, tailCap: t.o.TailBytes},
		// Start waits for it from before it is in the table.
		waiters: 1,
	}
	if p.command == "" {
		p.command = strings.Join(r.Argv, " ")
	}
	p.neverOpen = !r.TTY && r.Stdin != sandbox.StdinPipe
	p.interactive = r.TTY || r.Stdin == sandbox.StdinPipe && r.KeepStdin
	p.stdinOpen.Store(!p.neverOpen)
	if r.TTY {
		p.screen = newScreen(int(r.Cols), int(r.Rows))
	}
	return p
}

// run starts what works for the process in the background. Needs Table.mu, so
// that Close either sees the process or keeps it from starting.
func (p *process) run(r StartRequest) {
	p.t.work.Go(p.pump)
	if !r.TTY && r.Stdin == sandbox.StdinPipe && (r.StdinText != "" || !r.KeepStdin) {
		p.writing <- struct{}{}
		p.t.work.Go(func() { p.feed(r.StdinText, !r.KeepStdin) })
	}
	if r.Timeout > 0 {
		p.timer = time.AfterFunc(r.Timeout, p.timeout)
	}
}

// The size of a Linux pipe: one read empties it.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// pump moves the output into the bounded buffer as fast as it comes.
func (p *process) pump() {
	out := p.child.Stdout()
	b := readBuffers.Get().(*[]byte)
	// EIO is how a terminal says that its last other end was closed, see pty(7).
	// The kernel looks for input first and at the close after it, so what was
	// written in between makes it say so too early: only a second EIO in a row,
	// with the close known before it looks, is the end.
	closed := false
	for {
		err := p.readMore(out, *b)
		if errors.Is(err, syscall.EIO) && !closed {
			closed = true
			continue
		}
		if err != nil {
			break
		}
		closed = false
	}
	readBuffers.Put(b)
	p.mu.Lock()
	close(p.eof)
	p.wakeAll()
	p.mu.Unlock()
	_ = out.Close()
	// A command may close its output and go on reading its input.
	select {
	case <-p.child.Done():
	case <-p.t.closing:
	}
	p.closeStdin()
}

// readMore reads once and keeps what came.
func (p *process) readMore(out *os.File, b []byte) error {
	rc, err := out.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	waited := rc.Read(func(fd uintptr) bool {
		p.reading.Lock()
		defer p.reading.Unlock()
		for n, err = syscall.Read(int(fd), b); errors.Is(err, syscall.EINTR); n, err = syscall.Read(int(fd), b) {
		}
		if n > 0 {
			p.add(b[:n])
		}
		return !errors.Is(err, syscall.EAGAIN)
	})
	switch {
	case waited != nil:
		return waited
	case err == nil && n == 0:
		return io.EOF
	}
	return err
}

// drained reports that everything the process has written is in the buffer. Poll
// makes a terminal's driver hand over what it still holds (n_tty_poll), and the
// lock keeps what was read and is not yet kept from being missed.
func (p *process) drained() bool {
	p.reading.Lock()
	defer p.reading.Unlock()
	rc, err := p.child.Stdout().SyscallConn()
	if err != nil {
		return true
	}
	drained := true
	_ = rc.Control(func(fd uintptr) {
		f := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(f, 0)
		drained = err == nil && (n == 0 || f[0].Revents&unix.POLLIN == 0)
	})
	return drained
}

func (p *process) add(b []byte) {
	if p.screen != nil {
		p.screen.write(b, p.answer)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoolLocked(b)
	p.buf.append(b)
	p.total += int64(len(b))
	p.newest = time.Now()
	for _, m := range p.matchers {
		m.feed(b)
	}
	p.wakeAll()
}

// spoolLocked writes the whole output to disk from the moment that memory can
// no longer hold it: a file for every quick command would cost more than the
// command.
func (p *process) spoolLocked(b []byte) {
	if p.t.o.SpoolDir == "" {
		return
	}
	if p.spool == nil {
		if p.total+int64(len(b)) <= int64(p.t.o.HeadBytes+p.t.o.TailBytes) {
			return
		}
		p.spool = p.t.spools.create()
		p.spool.write(p.history)
		p.spool.write(p.buf.head)
		p.spool.write(p.buf.tail)
		p.history = nil
	}
	p.spool.write(b)
}

// wakeAll needs p.mu.
func (p *process) wakeAll() {
	if p.wake != nil {
		close(p.wake)
		p.wake = nil
	}
}

// take moves everything unread into r. last says that no more can come.
func (p *process) take(r *Result, last bool) {
	if p.screen != nil {
		// So that the screen has just what the buffer has. A read that takes longer
		// than one that does not block only leaves the screen a little newer.
		if p.lockReading(20 * time.Millisecond) {
			defer p.reading.Unlock()
		}
		defer p.takeScreen(r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	droppedLines := p.buf.lines
	head, tail, dropped := p.buf.take()
	if p.spool == nil && p.t.o.SpoolDir != "" && !last {
		p.history = append(append(p.history, head...), tail...)
	}
	out := make([]byte, 0, len(head)+len(tail)+len(p.text.pending))
	if dropped == 0 {
		out = p.text.next(out, head, len(tail) == 0 && last)
		if len(tail) > 0 {
			out = p.text.next(out, tail, last)
		}
	} else {
		// Halves of characters on both sides of the cut are part of the cut.
		out = p.text.next(out, head, false)
		dropped += int64(p.text.cut())
		r.Cut = len(out)
		skip := continuation(tail)
		dropped += int64(skip)
		out = p.text.next(out, tail[skip:], last)
	}
	r.Output, r.Dropped, r.DroppedLines = out, dropped, droppedLines
	r.TimedOut, r.Killed, r.KilledAfter = p.timedOut, p.killed, p.killedAfterLocked()
	if p.spool != nil {
		r.OutputID = p.spool.id
	}
}

// lockReading takes p.reading within d.
func (p *process) lockReading(d time.Duration) bool {
	for until := time.Now().Add(d); !p.reading.TryLock(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(until) {
			return false
		}
	}
	return true
}

// takeScreen adds what a full-screen program shows.
func (p *process) takeScreen(r *Result) {
	now := p.screen.alternate()
	p.mu.Lock()
	r.FullScreenBefore, p.fullScreen = p.fullScreen, now
	p.mu.Unlock()
	if now && len(r.Output) > 0 {
		s := p.screen.snapshot()
		r.Screen = &s
	}
}

// answer types the terminal's reply to a question of the program, as a real
// terminal would. It may be dropped: the pump must never wait for a program
// that does not read.
func (p *process) answer(reply []byte) {
	select {
	case p.writing <- struct{}{}:
	default:
		return
	}
	f := p.child.Stdin()
	_ = f.SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
	_, _ = f.Write(reply)
	_ = f.SetWriteDeadline(time.Time{})
	<-p.writing
}

// closeStdin closes a pipe; a terminal's master is closed with the output.
func (p *process) closeStdin() {
	if p.stdinOpen.Swap(false) && !p.tty {
		if f := p.child.Stdin(); f != nil {
			_ = f.Close()
		}
	}
}

// closeFiles ends the pump and lets go of both descriptors.
func (p *process) closeFiles() {
	p.once.Do(func() {
		if p.timer != nil {
			p.timer.Stop()
		}
		p.closeStdin()
		if f := p.child.Stdout(); f != nil {
			_ = f.Close()
		}
	})
}

func (p *process) exited() bool { return isClosed(p.child.Done()) }

// ended reports that nobody holds the output's other end.
func (p *process) ended() bool { return isClosed(p.eof) }

// background counts what still runs of an ended command. A confinement that
// cannot say has nothing to count: the open output then decides.
func (p *process) background() int {
	n, err := p.child.TreeAlive()
	if err != nil {
		p.t.o.Log.Debug("processes of a command not counted", "id", p.id, "error", err)
		if p.ended() {
			return 0
		}
		return 1
	}
	return n
}

// family lists what runs of the command, nil where that is not known.
func (p *process) family() []sandbox.Relative {
	c, ok := p.child.(FamilyChild)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	f, err := c.Family(ctx)
	if err != nil {
		p.t.o.Log.Debug("processes of a command not listed", "id", p.id, "error", err)
		return nil
	}
	return f
}

// finished reports that nothing runs any more.
func (p *process) finished() bool { return p.exited() && p.background() == 0 }

func (p *process) used() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastUsed
}

func (p *process) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiters
}

func (p *process) spoolID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spool == nil {
		return ""
	}
	return p.spool.id
}

// killedAfterLocked is the time from spawn to the end of a kill, 0 without one.
// Needs p.mu.
func (p *process) killedAfterLocked() time.Duration {
	if p.over.IsZero() {
		return 0
	}
	return max(0, p.over.Sub(p.started))
}

// wall is the time from spawn to exit, or to now.
func (p *process) wall() time.Duration {
	if p.exited() {
		return max(0, p.child.Ended().Sub(p.started))
	}
	return p.t.o.Now().Sub(p.started)
}

// basicInfo asks nobody, so it may be called with Table.mu held.
func (p *process) basicInfo() Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := Info{
		ID: p.id, Command: p.command, PID: p.child.Pid(), State: StateRunning,
		Started: p.started, LastUsed: p.lastUsed, TTY: p.tty, Unread: int64(p.buf.len()) + p.buf.dropped,
	}
	if p.exited() {
		e := p.child.Wait()
		i.Exit, i.State = &e, StateExited
		if e.Signal != 0 {
			i.State = StateSignaled
		}
	}
	return i
}

func (p *process) info() Info {
	i := p.basicInfo()
	if i.Exit != nil {
		if i.BackgroundChildren = p.background(); i.BackgroundChildren > 0 {
			i.State, i.Background = StateBackground, p.family()
		}
	}
	// Whoever reads the list may use the id from now on.
	p.idShown.Store(true)
	return i
}

func (p *process) summary() *ended {
	e := &ended{info: p.basicInfo(), wall: p.wall(), at: p.t.o.Now(), outputID: p.spoolID()}
	e.info.Unread = 0
	p.mu.Lock()
	defer p.mu.Unlock()
	e.timedOut, e.killed, e.killedAfter = p.timedOut, p.killed, p.killedAfterLocked()
	if p.cancelled {
		e.info.State = StateCancelled
	}
	if p.keptID != "" {
		e.outputID = p.keptID
	}
	e.info.OutputID = e.outputID
	return e
}
