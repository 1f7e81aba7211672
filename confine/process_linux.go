package confine

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// Process is one command in a sandbox. Its methods are safe for concurrent use.
type Process struct {
	s  *Sandbox
	id uint32

	program               string // what the caller asked for, for the refusal
	pid                   int
	stdin, stdout, stderr *os.File

	started chan struct{} // closed when init has answered the spawn
	failed  error         // set before started is closed
	master  int           // the terminal's master until the spawner takes it; -1

	done   chan struct{}
	empty  atomic.Bool // init has said that nothing of the command lives any more
	status sandbox.ExitStatus
	ended  time.Time

	mu        sync.Mutex
	abandoned bool // the caller went away before init answered
}

// Pid is the leader's process id as the sandbox sees it.
func (p *Process) Pid() int { return p.pid }

// Stdin is the write end of the pipe, the terminal's master, or nil. The caller
// closes it, as Stdout and Stderr.
func (p *Process) Stdin() *os.File { return p.stdin }

// Stdout is the read end of the pipe, or the terminal's master, which is the
// same file as Stdin. Reads of a master whose terminal has no more users end in
// EIO. The kernel looks for input before it looks for users, so a first EIO may
// come with input still to be read: only a second one in a row is the end.
func (p *Process) Stdout() *os.File { return p.stdout }

// Stderr is the read end of the separate pipe of SplitStderr, or nil.
func (p *Process) Stderr() *os.File { return p.stderr }

// Done is closed when the leader has ended and been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait blocks until Done. When the sandbox itself ended the status is SIGKILL.
func (p *Process) Wait() sandbox.ExitStatus {
	<-p.done
	return p.status
}

// Ended is when the end of the leader became known; zero while it runs.
func (p *Process) Ended() time.Time {
	select {
	case <-p.done:
		return p.ended
	default:
		return time.Time{}
	}
}

// SignalTree signals every living process the command has started, also those
// that left its session and process group. With SIGKILL it stops all of them
// before it kills, so that none can fork its way out.
func (p *Process) SignalTree(sig syscall.Signal) error {
	if sig < 0 || sig > 64 {
		return errorf("invalid_argument", nil, "%d is not a signal; use 1 to 64", int(sig))
	}
	gone, err := p.s.ask(context.Background(), opSignal, func(e *encoder) {
		e.u32(p.id)
		e.u32(uint32(sig))
	})
	if err == unix.ESRCH || err == errGone {
		return errorf("process_not_found", os.ErrProcessDone, "the process has ended; there is nothing to signal")
	}
	if err != nil {
		return errorf("internal", err, "the signal could not be sent (%s); try again", errnoText(err))
	}
	if gone == 1 {
		p.empty.Store(true)
	}
	return nil
}

// TreeAlive counts the living processes the command has started, its leader
// included.
func (p *Process) TreeAlive() (int, error) {
	select {
	case <-p.done:
		// An empty tree stays empty: only its own members could add to it.
		if p.empty.Load() {
			return 0, nil
		}
	default:
	}
	n, err := p.s.ask(context.Background(), opTree, func(e *encoder) { e.u32(p.id) })
	if err == unix.ESRCH || err == errGone {
		return 0, nil
	}
	if err != nil {
		return 0, errorf("internal", err, "the processes could not be counted (%s); try again", errnoText(err))
	}
	return n, nil
}

// Resize sets the terminal's size; its foreground process group gets SIGWINCH.
func (p *Process) Resize(cols, rows uint16) error {
	if p.stdin == nil || p.stdin != p.stdout {
		return errorf("invalid_argument", nil, "the process has no terminal; start it with tty")
	}
	rc, err := p.stdin.SyscallConn()
	if err != nil {
		return errorf("internal", err, "the terminal is closed; start the command again")
	}
	var ierr error
	if err := rc.Control(func(fd uintptr) {
		ierr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows})
	}); err != nil {
		ierr = err
	}
	if ierr != nil {
		return errorf("internal", ierr, "the terminal cannot be resized (%s); start the command again", errnoText(ierr))
	}
	return nil
}

// stdio holds the ends of a command's pipes while it is being started.
type stdio struct {
	ours   [3]int // of stdin, stdout, stderr; -1 without
	theirs []int  // in the order of the wire
}

func openStdio(c *sandbox.Command, uid int) (*stdio, error) {
	s := &stdio{ours: [3]int{-1, -1, -1}}
	open := func(i int) error {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		our, their := p[0], p[1]
		if i == 0 {
			our, their = p[1], p[0]
		}
		s.ours[i] = our
		s.theirs = append(s.theirs, their)
		// /dev/stdout is opened again by its user, who must own the pipe.
		if uid != os.Geteuid() {
			if err := unix.Fchown(their, uid, -1); err != nil {
				return err
			}
		}
		// Each end has a description of its own: only ours becomes nonblocking,
		// which is what gives deadlines.
		return unix.SetNonblock(our, true)
	}
	var err error
	if c.Stdin == sandbox.StdinPipe {
		err = open(0)
	}
	if err == nil && !c.TTY {
		err = open(1)
	}
	if err == nil && c.SplitStderr {
		err = open(2)
	}
	if err == nil && c.Script != "" {
		err = s.openScript(c.Script)
	}
	if err != nil {
		s.closeTheirs()
		s.closeOurs()
		return nil, err
	}
	return s, nil
}

// openScript makes a file in memory: unlike a pipe it needs nobody to feed it.
// It is sealed, as the server keeps no hold of it.
func (s *stdio) openScript(text string) error {
	fd, err := unix.MemfdCreate("script", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	s.theirs = append(s.theirs, fd)
	for at := 0; at < len(text); {
		n, err := unix.Pwrite(fd, []byte(text[at:]), int64(at))
		if err != nil && err != unix.EINTR {
			return err
		}
		at += max(n, 0)
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	return err
}

func (s *stdio) closeTheirs() {
	for _, fd := range s.theirs {
		unix.Close(fd)
	}
	s.theirs = nil
}

func (s *stdio) closeOurs() {
	for i, fd := range s.ours {
		if fd >= 0 {
			unix.Close(fd)
		}
		s.ours[i] = -1
	}
}

// Spawn starts a command. It returns when the program has been executed, or
// could not be: code exec_failed when it is not there, not_found or
// not_a_directory for Dir, limit_reached when the session has no process left,
// cancelled when ctx had ended before, and when it ends and the start takes another
// answerWithin, in which case nothing of the command remains. A command that has
// started before that is returned: ctx no longer concerns it.
func (s *Sandbox) Spawn(ctx context.Context, c sandbox.Command) (sandbox.Process, error) {
	p, err := s.spawn(ctx, c)
	if err != nil {
		return nil, err // not a nil *Process, which would be a Process
	}
	return p, nil
}

func (s *Sandbox) spawn(ctx context.Context, c sandbox.Command) (*Process, error) {
	if err := checkCommand(c); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, errorf("cancelled", err, "the call was cancelled before the command started")
	}
	if c.TTY {
		c.Stdin, c.SplitStderr = sandbox.StdinNull, false
		if c.Cols == 0 || c.Rows == 0 {
			c.Cols, c.Rows = 80, 24
		}
	}
	pipes, err := openStdio(&c, s.uid)
	if err != nil {
		return nil, errorf("limit_reached", err, "the server has no descriptors left for pipes; end other commands first")
	}
	p := &Process{s: s, program: c.Argv[0], started: make(chan struct{}), done: make(chan struct{}), master: -1}
	if err := s.add(p); err != nil {
		pipes.closeTheirs()
		pipes.closeOurs()
		return nil, err
	}
	q := spawnRequest{id: p.id, Command: c, script: c.Script != ""}
	err = s.send(q.encode(), pipes.theirs...)
	pipes.closeTheirs()
	if err != nil {
		s.drop(p)
		pipes.closeOurs()
		if err == unix.E2BIG {
			return nil, errTooLong(c)
		}
		return nil, s.gone()
	}
	if !p.answered(ctx) {
		p.mu.Lock()
		select {
		case <-p.started: // answered in between: nobody else ends it
			if p.failed == nil {
				s.abandon(p)
			}
		default: // the reader ends it when the answer comes
			p.abandoned = true
		}
		p.mu.Unlock()
		pipes.closeOurs()
		return nil, errorf("cancelled", ctx.Err(), "the call was cancelled while the command started; it was stopped")
	}
	if p.failed != nil {
		pipes.closeOurs()
		if errors.Is(p.failed, unix.E2BIG) {
			return nil, errTooLong(c)
		}
		return nil, p.failed
	}
	p.adopt(pipes)
	return p, nil
}

// answerWithin is what a start that is under way has after its call was cancelled.
const answerWithin = 2 * time.Second

// answered waits for the end of the start. A program may have run, written and ended
// before the word of its start is here, so a cancel does not come between: the caller
// would say that the command never ran.
func (p *Process) answered(ctx context.Context) bool {
	select {
	case <-p.started:
		return true
	case <-ctx.Done():
	}
	select {
	case <-p.started:
		return true
	case <-time.After(answerWithin):
		return false
	}
}

// adopt turns the descriptors into files. They are nonblocking, so the runtime
// polls them and deadlines work.
func (p *Process) adopt(s *stdio) {
	if p.master >= 0 {
		p.stdin = os.NewFile(uintptr(p.master), "terminal")
		p.stdout = p.stdin
		return
	}
	for i, f := range []**os.File{&p.stdin, &p.stdout, &p.stderr} {
		if s.ours[i] >= 0 {
			*f = os.NewFile(uintptr(s.ours[i]), "pipe")
		}
	}
}

// exitStatus translates a wait status.
func exitStatus(ws unix.WaitStatus) sandbox.ExitStatus {
	if ws.Signaled() {
		return sandbox.ExitStatus{Code: 128 + int(ws.Signal()), Signal: ws.Signal()}
	}
	return sandbox.ExitStatus{Code: ws.ExitStatus()}
}
