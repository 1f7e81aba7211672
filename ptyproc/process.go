package ptyproc

import (
	"context"
	"os"
	"strings"
	"sync"
	"sync/atomic"
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
	out      stream
	errs     *stream // nil unless standard error is apart
	joined   *stream // both in one, nil unless asked for
	latest   *stream // that wrote last
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
	keptErrID string
	// denied is what the sandbox refused and no reply has explained yet.
	denied  []sandbox.Denial
	killing chan struct{} // closed when the kill has done its work

	// lineTyped is how much of a line the terminal has been sent. Needs writing.
	lineTyped int
	// writing is held by the one caller that writes to stdin; writes counts them.
	writing   chan struct{}
	writes    atomic.Int64
	stdinOpen atomic.Bool
	neverOpen bool
	// interactive is set when calls may send it input.
	interactive bool
}

func newProcess(t *Table, id int, r StartRequest, child sandbox.Process, started time.Time) *process {
	p := &process{
		t: t, id: id, command: r.Title, tty: r.TTY, child: child, started: started,
		eof: make(chan struct{}), lastUsed: t.o.Now(), writing: make(chan struct{}, 1),
		out: newStream(t),
		// Start waits for it from before it is in the table.
		waiters: 1,
	}
	if p.command == "" {
		p.command = strings.Join(r.Argv, " ")
	}
	p.latest = &p.out
	if child.Stderr() != nil {
		errs := newStream(t)
		p.errs = &errs
		if r.Joined {
			// The other two are kept whole on disk where they are long.
			joined := newStream(t)
			joined.memoryOnly = true
			joined.asIs = r.Bytes
			p.joined = &joined
		}
		p.errs.asIs = r.Bytes
	}
	p.out.asIs = r.Bytes
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
		p.writes.Add(1)
		p.t.work.Go(func() { p.feed(r.StdinText, !r.KeepStdin) })
	}
	if r.Timeout > 0 {
		p.timer = time.AfterFunc(r.Timeout, p.timeout)
	}
}

// drained reports that everything the process has written is in the buffer. Poll
// makes a terminal's driver hand over what it still holds (n_tty_poll), and the
// lock keeps what was read and is not yet kept from being missed.
func (p *process) drained() bool {
	p.reading.Lock()
	defer p.reading.Unlock()
	return drainedFile(p.child.Stdout()) && (p.errs == nil || drainedFile(p.child.Stderr()))
}

func drainedFile(f *os.File) bool {
	rc, err := f.SyscallConn()
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

func (p *process) add(b []byte, to *stream) {
	if p.screen != nil {
		p.screen.write(b, p.answer)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	to.add(p.t, b)
	if p.joined != nil {
		p.joined.add(p.t, b)
	}
	p.latest = to
	p.newest = time.Now()
	for _, m := range p.matchers {
		m.feed(b)
	}
	p.wakeAll()
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
	out := p.out.take(p.t, last)
	r.Output, r.Dropped, r.DroppedLines, r.Cut, r.OutputID = out.Text, out.Dropped, out.DroppedLines, out.Cut, out.OutputID
	if p.errs != nil {
		out := p.errs.take(p.t, last)
		r.Stderr = &out
	}
	if p.joined != nil {
		out := p.joined.take(p.t, last)
		r.Joined = &out
	}
	r.TimedOut, r.Killed, r.KilledAfter = p.timedOut, p.killed, p.killedAfterLocked()
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
	p.writes.Add(1)
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
		for _, f := range []*os.File{p.child.Stdout(), p.child.Stderr()} {
			if f != nil {
				_ = f.Close()
			}
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

// spoolIDs name the kept output and standard error, "" when none is kept.
func (p *process) spoolIDs() (out, errs string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.errs != nil {
		errs = p.errs.spoolID()
	}
	return p.out.spoolID(), errs
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
		Started: p.started, LastUsed: p.lastUsed, TTY: p.tty, Unread: p.out.unread(),
	}
	if p.errs != nil {
		i.Unread += p.errs.unread()
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
	e := &ended{info: p.basicInfo(), wall: p.wall(), at: p.t.o.Now(), separate: p.errs != nil}
	e.outputID, e.errID = p.spoolIDs()
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
	if p.keptErrID != "" {
		e.errID = p.keptErrID
	}
	e.info.OutputID, e.info.StderrID = e.outputID, e.errID
	return e
}
