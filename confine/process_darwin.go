package confine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
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
	return errorf("process_not_found", os.ErrProcessDone, "the process has ended, there is nothing to signal")
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
		return errorf("invalid_argument", nil, "the process has no terminal, start it with tty")
	}
	if err := setTerminalSize(p.stdin, cols, rows); err != nil {
		return errorf("internal", err, "the terminal cannot be resized (%s), start the command again", errnoText(err))
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

// Spawn starts a command under a profile of its own. Errors are as on Linux:
// exec_failed, not_found or not_a_directory for Dir, cancelled.
func (s *Sandbox) Spawn(ctx context.Context, c sandbox.Command) (sandbox.Process, error) {
	p, err := s.spawn(ctx, c)
	if err != nil {
		return nil, err // not a nil *Process, which would be a Process
	}
	return p, nil
}

func (s *Sandbox) spawn(ctx context.Context, c sandbox.Command) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, errorf("cancelled", err, "the call was cancelled before the command started")
	}
	if err := checkCommand(c); err != nil {
		return nil, err
	}
	// sandbox-exec tells a missing program only by its exit status, so look first.
	program, err := findProgram(c)
	if err != nil {
		return nil, err
	}
	io, err := openCommandIO(c)
	if err != nil {
		return nil, errorf("limit_reached", err, "the server has no descriptors or terminals left, end other commands first")
	}
	defer io.closeTheirs()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		io.closeOurs()
		return nil, errSandboxGone()
	}
	argv, err := s.commandLine(append([]string{program}, c.Argv[1:]...), io.tty)
	if err != nil {
		io.closeOurs()
		return nil, err
	}
	attr := &syscall.SysProcAttr{Setsid: true, Credential: s.cred}
	if c.TTY {
		attr.Setctty, attr.Ctty = true, 0
	}
	leader, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Dir: c.Dir, Env: c.Env, Files: io.files(), Sys: attr})
	if err != nil {
		io.closeOurs()
		if errors.Is(err, unix.E2BIG) {
			return nil, errTooLong(c)
		}
		return nil, errorf("exec_failed", err, "the command cannot be started (%s), check its name and permissions", errnoText(err))
	}
	p := &Process{s: s, leader: leader, stdin: io.stdin, stdout: io.stdout, stderr: io.stderr, done: make(chan struct{}),
		tree: newProcessTree(leader.Pid)}
	s.procs[p] = struct{}{}
	go p.reap()
	return p, nil
}

// commandLine puts argv under the profile. Between the two a shell sets the
// limits, for Go has no hook between fork and exec. It must stand inside the
// profile: it reads the command's environment, and an exported function in there
// is code (CVE-2014-6271). RLIMIT_NPROC is left alone, since macOS counts all processes
// of the user; a limit that is lower already stays.
func (s *Sandbox) commandLine(argv []string, tty string) ([]string, error) {
	const blocks = 512 // of ulimit -f
	limits := "ulimit -c 0; ulimit -f " + strconv.FormatInt(max(s.lim.FileSize/blocks, 1), 10) +
		" 2>/dev/null; ulimit -n " + strconv.Itoa(s.lim.OpenFiles) + ` 2>/dev/null; exec "$@"`
	argv = append([]string{"/bin/sh", "-c", limits, "sh"}, argv...)
	if s.level == sandbox.LevelNone {
		return argv, nil
	}
	spec := s.spec
	spec.TTY = tty
	profile, params, err := seatbeltProfile(spec)
	if err != nil {
		return nil, err
	}
	return seatbeltArgs(profile, params, argv), nil
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

// check refuses what no kernel would take, before anything is made.
func checkCommand(c sandbox.Command) error {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return errorf("invalid_argument", nil, "the command is empty, name a program")
	}
	for _, ss := range [][]string{c.Argv, c.Env, {c.Dir}} {
		for _, v := range ss {
			if strings.IndexByte(v, 0) >= 0 {
				return errorf("invalid_argument", nil, "the command, its environment or its directory holds a NUL byte, remove it")
			}
		}
	}
	if !filepath.IsAbs(c.Dir) {
		return errorf("invalid_argument", nil, "the working directory is not absolute, give its whole path")
	}
	fi, err := os.Stat(c.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errorf("not_found", err, "the working directory does not exist, make it first")
	case err != nil:
		return errorf("permission_denied", err, "the working directory cannot be entered (%s)", errnoText(err))
	case !fi.IsDir():
		return errorf("not_a_directory", nil, "the working directory is not a directory, name one")
	}
	return nil
}

// findProgram searches PATH of the command's own environment, as execvp(3).
func findProgram(c sandbox.Command) (string, error) {
	name := c.Argv[0]
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = nil
		for _, e := range c.Env {
			if v, ok := strings.CutPrefix(e, "PATH="); ok {
				for dir := range strings.SplitSeq(v, ":") {
					candidates = append(candidates, filepath.Join(c.Dir, relativeTo(dir), name))
					if filepath.IsAbs(dir) {
						candidates[len(candidates)-1] = filepath.Join(dir, name)
					}
				}
			}
		}
	}
	var last error = syscall.ENOENT
	for _, p := range candidates {
		look := p
		if !filepath.IsAbs(look) {
			look = filepath.Join(c.Dir, look)
		}
		fi, err := os.Stat(look)
		switch {
		case err != nil:
			if !errors.Is(err, fs.ErrNotExist) {
				last = err
			}
		case fi.IsDir() || fi.Mode()&0o111 == 0:
			last = syscall.EACCES
		default:
			return p, nil
		}
	}
	return "", errorf("exec_failed", last, "the program cannot be run (%s), check its name and PATH", errnoText(last))
}

func relativeTo(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}

// commandIO is both ends of a command's standard files.
type commandIO struct {
	stdin, stdout, stderr *os.File
	theirs                [3]*os.File
	script                *os.File // their descriptor 3, nil without
	tty                   string
}

func (io *commandIO) files() []*os.File {
	if io.script == nil {
		return io.theirs[:]
	}
	return append(io.theirs[:], io.script)
}

// openScript feeds a pipe; whoever does not read it to its end ends the feeding.
func (io *commandIO) openScript(text string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	io.script = r
	go func() {
		_, _ = w.WriteString(text)
		_ = w.Close()
	}()
	return nil
}

func openCommandIO(c sandbox.Command) (_ *commandIO, err error) {
	io := &commandIO{}
	defer func() {
		if err != nil {
			io.closeTheirs()
			io.closeOurs()
		}
	}()
	if c.Script != "" {
		if err := io.openScript(c.Script); err != nil {
			return nil, err
		}
	}
	if c.TTY {
		return io, io.openTerminal(c)
	}
	if c.Stdin == sandbox.StdinPipe {
		if io.theirs[0], io.stdin, err = os.Pipe(); err != nil {
			return nil, err
		}
	} else if io.theirs[0], err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	if io.stdout, io.theirs[1], err = os.Pipe(); err != nil {
		return nil, err
	}
	io.theirs[2] = io.theirs[1]
	if c.SplitStderr {
		io.stderr, io.theirs[2], err = os.Pipe()
	}
	return io, err
}

// openTerminal makes the master nonblocking, which is what gives deadlines.
func (io *commandIO) openTerminal(c sandbox.Command) error {
	master, slave, err := pty.Open()
	if err != nil {
		return err
	}
	io.theirs = [3]*os.File{slave, slave, slave}
	io.tty = slave.Name()
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	master.Close()
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	io.stdin = os.NewFile(uintptr(fd), "terminal")
	io.stdout = io.stdin
	cols, rows := c.Cols, c.Rows
	if cols == 0 || rows == 0 {
		cols, rows = 80, 24
	}
	return setTerminalSize(io.stdin, cols, rows)
}

func (io *commandIO) closeTheirs() {
	for i, f := range io.theirs {
		if f != nil && (i == 0 || f != io.theirs[i-1]) {
			f.Close()
		}
	}
	io.theirs = [3]*os.File{}
	if io.script != nil {
		io.script.Close()
	}
}

func (io *commandIO) closeOurs() {
	for _, f := range []*os.File{io.stdin, io.stdout, io.stderr} {
		if f != nil {
			f.Close() // a terminal twice: the second close only fails
		}
	}
}

// processTree knows the processes that come from one leader. macOS has neither
// pid namespaces nor subreapers, so the process table is looked at regularly
// and every process seen below a known one is remembered.
type processTree struct {
	mu     sync.Mutex
	leader int
	known  map[int]syscall.Timeval // pid -> start time, which tells a reused pid
	over   bool                    // none is left; pids may mean others from now on
	gone   chan struct{}           // closed when over
}

// treeInterval is how often the table is looked at while a command lives.
const treeInterval = 100 * time.Millisecond

func newProcessTree(leader int) *processTree {
	t := &processTree{leader: leader, known: map[int]syscall.Timeval{}, gone: make(chan struct{})}
	t.look() // the leader is not reaped yet, so this look finds it or its group
	go t.watch()
	return t
}

func (t *processTree) watch() {
	tick := time.NewTicker(treeInterval)
	defer tick.Stop()
	for range tick.C {
		if n, err := t.look(); err == nil && n == 0 {
			return
		}
	}
}

func (t *processTree) wait() { <-t.gone }

// look takes in the descendants of known processes and forgets the dead, and
// returns how many live.
func (t *processTree) look() (int, error) {
	table, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return 0, nil
	}
	const zombie = 5 // SZOMB of sys/proc.h
	alive := map[int]syscall.Timeval{}
	// Groups with a known member; a group's number is not reused while it has
	// one. The leader's counts at the first look alone.
	groups := map[int]bool{}
	if len(t.known) == 0 {
		groups[t.leader] = true
	}
	for i := range table {
		k := &table[i]
		if k.Proc.P_stat == zombie {
			continue
		}
		pid, start := int(k.Proc.P_pid), syscall.Timeval{Sec: k.Proc.P_starttime.Sec, Usec: k.Proc.P_starttime.Usec}
		if old, ok := t.known[pid]; ok && old == start {
			alive[pid] = start
			groups[int(k.Eproc.Pgid)] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for i := range table {
			k := &table[i]
			pid := int(k.Proc.P_pid)
			if _, ok := alive[pid]; ok || k.Proc.P_stat == zombie {
				continue
			}
			_, parent := alive[int(k.Eproc.Ppid)]
			if pid == t.leader && len(t.known) == 0 || parent || groups[int(k.Eproc.Pgid)] {
				alive[pid] = syscall.Timeval{Sec: k.Proc.P_starttime.Sec, Usec: k.Proc.P_starttime.Usec}
				groups[int(k.Eproc.Pgid)] = true
				grown = true
			}
		}
	}
	t.known = alive
	if len(alive) == 0 {
		t.over = true
		close(t.gone)
	}
	return len(alive), nil
}

func (t *processTree) alive() (int, error) {
	n, err := t.look()
	if err != nil {
		return 0, errorf("internal", err, "the processes could not be counted (%s), try again", errnoText(err))
	}
	return n, nil
}

// signal signals all. SIGKILL stops them first and looks again until no new one
// appears, so that none forks its way out.
func (t *processTree) signal(sig syscall.Signal) error {
	seen := map[int]bool{}
	for range 50 {
		n, err := t.look()
		if err != nil {
			return errorf("internal", err, "the processes could not be listed (%s), try again", errnoText(err))
		}
		if n == 0 {
			return errProcessEnded()
		}
		fresh := false
		t.mu.Lock()
		for pid := range t.known {
			if !seen[pid] {
				seen[pid], fresh = true, true
				if sig == syscall.SIGKILL {
					syscall.Kill(pid, syscall.SIGSTOP)
				}
			}
		}
		t.mu.Unlock()
		if sig != syscall.SIGKILL || !fresh {
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for pid := range t.known {
		syscall.Kill(pid, sig)
	}
	return nil
}
