package confine

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// Process is one command in a sandbox. Its methods are safe for concurrent use.
type Process struct {
	s                     *Sandbox
	leader                *os.Process
	stdin, stdout, stderr *os.File
	tree                  *processTree

	done   chan struct{}
	status sandbox.ExitStatus
	ended  time.Time
}

// Pid is the leader's process id.
func (p *Process) Pid() int { return p.leader.Pid }

// Stdin is the write end of the pipe, the terminal's master, or nil. The caller
// closes it, as Stdout and Stderr.
func (p *Process) Stdin() *os.File { return p.stdin }

// Stdout is the read end of the pipe, or the terminal's master.
func (p *Process) Stdout() *os.File { return p.stdout }

// Stderr is the read end of the separate pipe of SplitStderr, or nil.
func (p *Process) Stderr() *os.File { return p.stderr }

// Done is closed when the leader has ended and been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait blocks until Done.
func (p *Process) Wait() sandbox.ExitStatus {
	<-p.done
	return p.status
}

// Ended is when the leader ended; zero while it runs.
func (p *Process) Ended() time.Time {
	select {
	case <-p.done:
		return p.ended
	default:
		return time.Time{}
	}
}

func errProcessEnded() error {
	return errorf("process_not_found", os.ErrProcessDone, "the process has ended; there is nothing to signal")
}

// SignalTree signals every living process known to come from the command, also
// those that left its session and group. A process that leaves both and loses
// its parent between two looks at the process table (a few times a second)
// escapes it; macOS keeps no record of it.
func (p *Process) SignalTree(sig syscall.Signal) error { return p.tree.signal(sig) }

// TreeAlive counts the living processes known to come from the command.
func (p *Process) TreeAlive() (int, error) { return p.tree.alive() }

// Resize sets the terminal's size.
func (p *Process) Resize(cols, rows uint16) error {
	if p.stdin == nil || p.stdin != p.stdout {
		return errorf("invalid_argument", nil, "the process has no terminal; start it with tty")
	}
	if err := setTerminalSize(p.stdin, cols, rows); err != nil {
		return errorf("internal", err, "the terminal cannot be resized (%s); start the command again", errnoText(err))
	}
	return nil
}

func setTerminalSize(f *os.File, cols, rows uint16) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ierr error
	if err := rc.Control(func(fd uintptr) {
		ierr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows})
	}); err != nil {
		return err
	}
	return ierr
}

// reap waits for the leader.
func (p *Process) reap() {
	state, err := p.leader.Wait()
	p.ended = time.Now()
	switch {
	case err != nil:
		p.status = sandbox.ExitStatus{Code: 128 + int(syscall.SIGKILL), Signal: syscall.SIGKILL}
	default:
		ws := state.Sys().(syscall.WaitStatus)
		if ws.Signaled() {
			p.status = sandbox.ExitStatus{Code: 128 + int(ws.Signal()), Signal: ws.Signal()}
		} else {
			p.status = sandbox.ExitStatus{Code: ws.ExitStatus()}
		}
	}
	close(p.done)
	// The sandbox forgets a command when the last of its processes has gone.
	p.tree.wait()
	p.s.mu.Lock()
	delete(p.s.procs, p)
	p.s.mu.Unlock()
}
