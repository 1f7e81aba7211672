package confine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// Sandbox is one running confinement. Its methods are safe for concurrent use.
type Sandbox struct {
	report     sandbox.Report
	gate       Gate
	gate6      bool                                   // takes IPv6
	seesConns  bool                                   // init looks at them
	connDenied func(to netip.AddrPort) sandbox.Denial // see ExplainConns; nil without
	env        []string
	log        *slog.Logger
	uid        int // of the commands
	gid        int
	// hostUID and hostGID are whose rights on the host the session stands for.
	hostUID, hostGID int
	// writable is what commands may change, readable what they may read besides at
	// the landlock level, private what of both lies in memory except for grants.
	writable, readable, private, grants, readGrants []string
	limits                                          sandbox.Limits
	pid                                             int // init, as the server sees it
	pidMu                                           sync.Mutex
	reaped                                          bool // pid is no longer ours

	sock *os.File
	control

	mu       sync.Mutex
	closed   bool // no new commands or questions
	nextID   uint32
	procs    map[uint32]*Process // until their leader ends
	pending  map[uint32]chan answer
	held     map[io.Closer]bool // listeners and sockets made inside
	cleanups []func()
	merged   int                         // the mount of a staged workspace, or a git stage in memory; -1 without
	views    map[string]int              // trees with exchanged owners, for file tools; nil without
	denials  map[uint32][]sandbox.Denial // not asked for yet, by command
	denied   int                         // how many those are

	cgroup   *cgroup
	oomKills int // seen so far; the reader's alone
	forks    int // that the control group refused, as last seen; needs mu

	done chan struct{}
}

// answer is init's reply to one question.
type answer struct {
	err   error
	value int
	data  []byte
	fds   []int
}

// errGone is what questions to a sandbox that has ended fail with.
var errGone = errors.New("the sandbox has ended")

// Report says which confinement the sandbox has.
func (s *Sandbox) Report() sandbox.Report {
	r := s.report
	r.Layers = slices.Clone(r.Layers)
	r.Warnings = slices.Clone(r.Warnings)
	return r
}

// Environ gives PATH, HOME, USER, LOGNAME, SHELL and TMPDIR as they are true
// inside: every path exists there, and HOME and TMPDIR are writable.
func (s *Sandbox) Environ() []string { return slices.Clone(s.env) }

// Done is closed when init is gone and all its processes with it.
func (s *Sandbox) Done() <-chan struct{} { return s.done }

// Close kills everything in the sandbox, waits for the end and frees what it
// held. It is idempotent.
func (s *Sandbox) Close() error {
	s.end()
	<-s.done
	return nil
}

// end makes init stop. At the namespaces level the kernel kills all of the pid
// namespace with it; at the landlock level init does so itself when the socket
// closes, and is killed should it not.
func (s *Sandbox) end() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		return
	}
	if s.report.Level == sandbox.LevelNamespaces || s.report.Level == sandbox.LevelNamespacesNoProc {
		s.kill()
		return
	}
	s.rc.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
	go func() {
		select {
		case <-s.done:
		case <-time.After(initPatience):
			s.kill()
		}
	}()
}

// initPatience is how long init may hunt the processes of a session without a
// pid namespace; it needs tenths of a second, and seconds when the kernel holds
// one up.
const initPatience = 30 * time.Second

// kill ends init, unless it has been reaped and its pid may be another's.
func (s *Sandbox) kill() {
	s.pidMu.Lock()
	defer s.pidMu.Unlock()
	if !s.reaped {
		unix.Kill(s.pid, unix.SIGKILL)
	}
}

// reapInit waits for init. By then it has been killed or has closed its socket,
// so this does not last; and when it returns, no process of the namespace is
// left.
func (s *Sandbox) reapInit() {
	for unix.Waitid(unix.P_PID, s.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	s.pidMu.Lock()
	defer s.pidMu.Unlock()
	s.reaped = true
	unix.Wait4(s.pid, nil, unix.WNOHANG, nil)
}

// read takes init's events until it ends, then tidies up.
func (s *Sandbox) read(in *frameReader) {
	for {
		f, err := in.next()
		if err != nil {
			break
		}
		s.event(&f)
		f.close()
	}
	in.close()
	s.kill()
	s.reapInit()
	// Without a pid namespace nothing ends with init. It has killed all it had
	// below it, unless it was killed first.
	if err := s.cgroup.kill(); err != nil {
		s.log.Warn("processes left in the control group", "error", err)
	}
	s.mu.Lock()
	s.closed = true
	procs, pending, held := s.procs, s.pending, s.held
	s.procs, s.pending, s.held = nil, nil, nil
	s.mu.Unlock()
	s.sock.Close()
	for _, p := range procs {
		p.end(sandbox.ExitStatus{Code: 128 + int(unix.SIGKILL), Signal: unix.SIGKILL}, s.gone())
	}
	for _, c := range pending {
		c <- answer{err: errGone}
	}
	// A listener held open keeps the network namespace, and its Accept would
	// wait for ever.
	for c := range held {
		c.Close()
	}
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
	close(s.done)
}

func (s *Sandbox) event(f *frame) {
	switch f.op {
	case evStarted:
		id, pid := f.u32(), f.num()
		if p := s.proc(id); p != nil && f.err == nil {
			p.pid = pid
			if len(f.fds) == 1 {
				p.master = f.fds[0]
				f.fds = nil
			}
			p.mu.Lock()
			abandoned := p.abandoned
			close(p.started)
			p.mu.Unlock()
			if abandoned {
				s.abandon(p)
			}
		}
	case evRefused:
		id, code, errno := f.u32(), f.str(), unix.Errno(f.u32())
		if p := s.take(id); p != nil {
			p.failed = spawnError(code, errno, p.program)
			close(p.started)
			close(p.done)
		}
	case evExit:
		id, ws, empty := f.u32(), unix.WaitStatus(f.u32()), f.flag()
		if p := s.take(id); p != nil {
			p.empty.Store(empty)
			st := exitStatus(ws)
			// A shell passes its child's end on as an exit code.
			killed := st.Signal == unix.SIGKILL || st.Code == 128+int(unix.SIGKILL)
			st.OOM = killed && s.oomKilled()
			p.end(st, nil)
		}
	case evDenied:
		id, d := f.u32(), sandbox.Denial{Subject: f.str(), Kind: sandbox.DenialKind(f.str())}
		if f.err == nil && s.explained(&d) {
			s.keepDenial(id, d)
		}
	case evAnswer:
		req, errno, value := f.u32(), unix.Errno(f.u32()), f.num()
		a := answer{value: value, data: []byte(f.str()), fds: f.fds}
		f.fds = nil
		if errno != 0 {
			a.err = errno
		}
		s.mu.Lock()
		c := s.pending[req]
		delete(s.pending, req)
		s.mu.Unlock()
		if c == nil {
			for _, fd := range a.fds {
				unix.Close(fd)
			}
			return
		}
		c <- a
	}
}

// oomKilled says whether the memory limit has killed since it was last asked.
// Which process it was the kernel does not tell; a command that fell to SIGKILL
// at that time is taken to be it.
func (s *Sandbox) oomKilled() bool {
	n, err := s.cgroup.OOMKills()
	if err != nil || n <= s.oomKills {
		return false
	}
	s.oomKills = n
	return true
}

// end records how a process ended. failed is what Spawn returns if it still
// waits.
func (p *Process) end(st sandbox.ExitStatus, failed error) {
	p.status = st
	p.ended = time.Now()
	select {
	case <-p.started:
	default:
		p.failed = failed
		close(p.started)
	}
	close(p.done)
}

// abandon kills what a cancelled Spawn had started. It must not wait: the
// reader may be the caller.
func (s *Sandbox) abandon(p *Process) {
	if p.master >= 0 {
		unix.Close(p.master)
	}
	go p.SignalTree(unix.SIGKILL)
}

// spawnError words a refusal to start program.
func spawnError(code string, errno unix.Errno, program string) error {
	switch code {
	case "not_found":
		return errorf(code, errno, "the working directory does not exist; make it or choose another")
	case "not_a_directory":
		return errorf(code, errno, "the working directory is not a directory; choose another")
	case "permission_denied":
		return errorf(code, errno, "the working directory cannot be entered (%s); choose one inside the workspace", errno.Error())
	case "limit_reached":
		return errorf(code, errno, "no further process can be started (%s); end some of the session's processes first", errno.Error())
	case "exec_failed":
		if errno == unix.ENOENT {
			return errorf(code, errno, "%.200q was not found (%s); check its name, PATH, and the interpreter a script names", program, errno.Error())
		}
		return errorf(code, errno, "%.200q cannot be executed (%s); check the program", program, errno.Error())
	}
	return errorf("internal", errno, "the command could not be started (%s); try again", errno.Error())
}

func (s *Sandbox) gone() error {
	return errorf("session_not_found", errGone, "the sandbox has ended; start a new session")
}

func (s *Sandbox) add(p *Process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.gone()
	}
	s.nextID++
	p.id = s.nextID
	s.procs[p.id] = p
	return nil
}

func (s *Sandbox) proc(id uint32) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.procs[id]
}

func (s *Sandbox) take(id uint32) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.procs[id]
	delete(s.procs, id)
	return p
}

func (s *Sandbox) drop(p *Process) { s.take(p.id) }

// ask sends a question and waits for the answer. Descriptors of an answer to a
// question nobody waits for any more are closed.
func (s *Sandbox) ask(ctx context.Context, op uint8, fill func(*encoder)) (int, error) {
	a, err := s.askFor(ctx, op, fill)
	for _, fd := range a.fds {
		unix.Close(fd)
	}
	return a.value, err
}

func (s *Sandbox) askFor(ctx context.Context, op uint8, fill func(*encoder)) (answer, error) {
	c := make(chan answer, 1)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return answer{}, errGone
	}
	s.nextID++
	req := s.nextID
	s.pending[req] = c
	s.mu.Unlock()
	e := newFrame(op)
	e.u32(req)
	fill(e)
	if err := s.send(e); err != nil {
		s.mu.Lock()
		delete(s.pending, req)
		s.mu.Unlock()
		if err == unix.E2BIG {
			return answer{}, err
		}
		return answer{}, errGone
	}
	select {
	case a := <-c:
		return a, a.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	_, waiting := s.pending[req]
	delete(s.pending, req)
	s.mu.Unlock()
	if !waiting {
		for _, fd := range (<-c).fds {
			unix.Close(fd)
		}
	}
	return answer{}, ctx.Err()
}
