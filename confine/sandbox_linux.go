package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sandbox is one running confinement. Its methods are safe for concurrent use.
type Sandbox struct {
	report Report
	env    []string
	log    *slog.Logger
	uid    int // of the commands
	pid    int // init, as the server sees it
	pidMu  sync.Mutex
	reaped bool // pid is no longer ours

	sock   *os.File
	rc     syscall.RawConn
	sendMu sync.Mutex

	mu       sync.Mutex
	closed   bool // no new commands or questions
	nextID   uint32
	procs    map[uint32]*Process // until their leader ends
	pending  map[uint32]chan answer
	held     map[io.Closer]bool // listeners and sockets made inside
	cleanups []func()

	cgroup   *cgroup
	oomKills int // seen so far; the reader's alone

	done chan struct{}
}

// answer is init's reply to one question.
type answer struct {
	err   error
	value int
	fds   []int
}

// errGone is what questions to a sandbox that has ended fail with.
var errGone = errors.New("the sandbox has ended")

// startTimeout bounds how long init may take; a start is a few milliseconds.
const startTimeout = 30 * time.Second

// Start makes a sandbox. The levels that Level and MinLevel allow are tried
// strongest first. It fails with code confinement_unavailable when none starts,
// and with invalid_argument, not_found or not_a_directory for a bad Policy.
func Start(ctx context.Context, p Policy) (*Sandbox, error) {
	if err := p.normalise(); err != nil {
		return nil, err
	}
	id, err := identify(&p)
	if err != nil {
		return nil, err
	}
	var failures []string
	for _, level := range p.levels() {
		s, err := startLevel(ctx, &p, id, level)
		if err == nil {
			s.report.Warnings = append(failures, s.report.Warnings...)
			return s, nil
		}
		var un *unavailable
		if !errors.As(err, &un) {
			return nil, err
		}
		p.Log.Warn("confinement level did not start", "level", string(level), "step", un.step, "error", un.err)
		failures = append(failures, fmt.Sprintf("the level %s did not start: %s: %s", level, un.step, errnoText(un.err)))
	}
	return nil, errorf("confinement_unavailable", nil, "%s; run the doctor command, which says what this host lacks", strings.Join(failures, "; "))
}

// unavailable is a level this host cannot give.
type unavailable struct {
	step string
	err  error
}

func (u *unavailable) Error() string { return u.step + ": " + u.err.Error() }
func (u *unavailable) Unwrap() error { return u.err }

// weaker says whether l is below least; nothing is below "".
func weaker(l, least Level) bool {
	have, _ := levelRank(l)
	need, _ := levelRank(least)
	return least != "" && have < need
}

// levels are the levels to try, strongest first. LevelNamespacesNoProc is not
// tried by itself: it is what LevelNamespaces becomes on a host with a masked
// /proc.
func (p *Policy) levels() []Level {
	if p.Level != LevelAuto {
		return []Level{p.Level}
	}
	ls := []Level{LevelNamespaces}
	if !weaker(LevelLandlock, p.MinLevel) {
		ls = append(ls, LevelLandlock)
	}
	return ls
}

// normalise fills defaults and refuses what cannot be meant.
func (p *Policy) normalise() error {
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	if p.Level == "" {
		p.Level = LevelAuto
	}
	if p.Network == "" {
		p.Network = NetworkLoopback
	}
	if _, ok := levelRank(p.Level); !ok && p.Level != LevelAuto {
		return errorf("invalid_argument", nil, "the confinement level %q does not exist, use auto, namespaces, namespaces-noproc, landlock or none", string(p.Level))
	}
	if p.MinLevel == LevelAuto {
		p.MinLevel = ""
	}
	if _, ok := levelRank(p.MinLevel); !ok && p.MinLevel != "" {
		return errorf("invalid_argument", nil, "the minimum confinement level %q does not exist, use namespaces, namespaces-noproc, landlock or none", string(p.MinLevel))
	}
	if p.Level != LevelAuto && weaker(p.Level, p.MinLevel) {
		return errorf("invalid_argument", nil, "the level %s is below the minimum %s, change one of them", p.Level, p.MinLevel)
	}
	if p.Level == LevelSeatbelt {
		return errorf("confinement_unavailable", nil, "Seatbelt exists on macOS only, use auto, namespaces or landlock")
	}
	if !slices.Contains([]Network{NetworkNone, NetworkLoopback, NetworkAllow, NetworkHost}, p.Network) {
		return errorf("invalid_argument", nil, "the network mode %q does not exist, use none, loopback, allow or host", string(p.Network))
	}
	l := p.Limits
	if l.Procs < 0 || l.FileSize < 0 || l.OpenFiles < 0 || l.Tmp < 0 || l.Shm < 0 || l.Memory < 0 || l.CPU < 0 {
		return errorf("invalid_argument", nil, "a limit is negative, use 0 for the default")
	}
	if !(l.CPU <= 1<<16) {
		return errorf("invalid_argument", nil, "the CPU limit is no number of processors, give one such as 1.5")
	}
	p.Limits = l.withDefaults()
	for _, list := range []struct {
		what  string
		paths []string
	}{{"workspace", []string{p.Workspace}}, {"read grant", p.Read}, {"write grant", p.Write}, {"deny-read path", p.DenyRead}, {"state directory", p.StateDirs}} {
		for _, v := range list.paths {
			if !filepath.IsAbs(v) || strings.IndexByte(v, 0) >= 0 {
				return errorf("invalid_argument", nil, "a %s is not an absolute path, give the whole path", list.what)
			}
		}
	}
	p.Workspace = filepath.Clean(p.Workspace)
	if p.Home != "" {
		p.Home = filepath.Clean(p.Home)
	}
	// Every parent of the workspace is made anew inside, so these would hide
	// what the sandbox itself needs.
	for _, bad := range []string{"/", "/usr", "/etc", "/dev", "/proc", "/sys", "/run", "/tmp", "/var", "/home", "/bin", "/lib"} {
		if p.Workspace == bad {
			return errorf("invalid_argument", nil, "the workspace is a system directory, use a directory of your own")
		}
	}
	if within(p.Workspace, "/proc", "/sys", "/dev", "/etc") {
		return errorf("invalid_argument", nil, "the workspace lies in a system directory, use a directory of your own")
	}
	for i, rel := range p.Protect {
		if !filepath.IsLocal(rel) || rel == "." {
			return errorf("invalid_argument", nil, "a protected path leaves the workspace, give it relative to the workspace")
		}
		if i == 0 {
			p.Protect = slices.Clone(p.Protect)
		}
		p.Protect[i] = filepath.Clean(rel)
	}
	return nil
}

// startLevel starts one level and checks what came of it.
func startLevel(ctx context.Context, p *Policy, id identity, level Level) (*Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, errorf("cancelled", err, "the call was cancelled before the sandbox started")
	}
	key := newBootKey(p, id, level)
	var b *booted
	var bootErr error
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		if b = p.Standby.take(key); b == nil {
			b, bootErr = boot(key, p.Log)
		}
	}()
	l, err := newLevelLayout(p, id, level)
	<-waiting
	if err == nil {
		defer l.close()
		if err = bootErr; err != nil {
			l.undo()
		}
	}
	if err != nil {
		if b != nil {
			b.discard(p.Log)
		}
		return nil, err
	}
	s, err := launch(ctx, p, l, b, level)
	if err != nil {
		return nil, err
	}
	min := p.MinLevel
	if p.Level == LevelNamespaces {
		min = LevelNamespaces
	}
	if weaker(s.report.Level, min) {
		s.Close()
		return nil, errorf("confinement_unavailable", nil, "this host gives the level %s, below the %s asked for; lower the minimum or run the doctor command for the remedy", s.report.Level, min)
	}
	p.Standby.refill(key, p.Log)
	return s, nil
}

// launch sends init its configuration and waits until it is ready. It takes b
// over, and removes what l made when it fails.
func launch(ctx context.Context, p *Policy, l *layout, b *booted, level Level) (*Sandbox, error) {
	go logPanics(p.Log, b.stderr)
	cg, sock := b.cgroup, b.sock
	rc, _ := sock.SyscallConn()
	s := &Sandbox{
		log: p.Log, uid: l.id.uid, pid: b.pid, sock: sock, rc: rc,
		procs: map[uint32]*Process{}, pending: map[uint32]chan answer{}, held: map[io.Closer]bool{},
		done: make(chan struct{}), cgroup: cg,
		cleanups: []func(){l.undo, func() {
			if err := cg.Remove(); err != nil {
				p.Log.Warn("control group not removed", "error", err)
			}
		}},
	}
	in := newFrameReader(s.recv)
	// Whatever ends the wait early kills init, which ends the read below.
	stop := context.AfterFunc(ctx, s.kill)
	timeout := time.AfterFunc(startTimeout, s.kill)
	defer timeout.Stop()
	gaps, err := s.handshake(in, l, func() {
		s.report = l.report(level, nil, cg)
		s.env = l.environ()
	})
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.kill()
		s.reapInit()
		in.close()
		sock.Close()
		l.undo()
		cg.Remove()
		close(s.done)
		if ctx.Err() != nil {
			return nil, errorf("cancelled", ctx.Err(), "the call was cancelled while the sandbox started")
		}
		return nil, err
	}
	if len(gaps) > 0 {
		s.report = l.report(level, gaps, cg)
	}
	go s.read(in)
	return s, nil
}

// handshake configures init; meanwhile runs while init works.
func (s *Sandbox) handshake(in *frameReader, l *layout, meanwhile func()) ([]string, error) {
	for trees := l.trees; len(trees) > 0; {
		n := min(len(trees), maxFrameFDs)
		if err := s.send(newFrame(opMounts), trees[:n]...); err != nil {
			return nil, &unavailable{"configure init", err}
		}
		trees = trees[n:]
	}
	if err := s.send(l.cfg.encode()); err != nil {
		return nil, &unavailable{"configure init", err}
	}
	meanwhile()
	f, err := in.next()
	if err != nil {
		return nil, &unavailable{"start init", err}
	}
	defer f.close()
	switch f.op {
	case evReady:
		gaps := f.strs()
		return gaps, f.done()
	case evFailed:
		step, errno, text := f.str(), unix.Errno(f.u32()), f.str()
		s.log.Debug("init failed", "step", step, "error", text)
		if errno == 0 {
			return nil, &unavailable{step, errors.New(text)}
		}
		return nil, &unavailable{step + " (" + text + ")", errno}
	}
	return nil, &unavailable{"start init", errWire}
}

// Report says which confinement the sandbox has.
func (s *Sandbox) Report() Report {
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
	if s.report.Level == LevelNamespaces || s.report.Level == LevelNamespacesNoProc {
		s.kill()
		return
	}
	s.rc.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
	go func() {
		select {
		case <-s.done:
		case <-time.After(5 * time.Second):
			s.kill()
		}
	}()
}

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
	s.mu.Lock()
	s.closed = true
	procs, pending, held := s.procs, s.pending, s.held
	s.procs, s.pending, s.held = nil, nil, nil
	s.mu.Unlock()
	s.sock.Close()
	for _, p := range procs {
		p.end(ExitStatus{Code: 128 + int(unix.SIGKILL), Signal: unix.SIGKILL}, s.gone())
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
			p.failed = spawnError(code, errno)
			close(p.started)
			close(p.done)
		}
	case evExit:
		id, ws, alone := f.u32(), unix.WaitStatus(f.u32()), f.flag()
		if p := s.take(id); p != nil {
			p.alone = alone
			st := exitStatus(ws)
			// A shell passes its child's end on as an exit code.
			killed := st.Signal == unix.SIGKILL || st.Code == 128+int(unix.SIGKILL)
			st.OOM = killed && s.oomKilled()
			p.end(st, nil)
		}
	case evAnswer:
		req, errno, value := f.u32(), unix.Errno(f.u32()), f.num()
		a := answer{value: value, fds: f.fds}
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
func (p *Process) end(st ExitStatus, failed error) {
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

// spawnError words a refusal.
func spawnError(code string, errno unix.Errno) error {
	switch code {
	case "not_found":
		return errorf(code, errno, "the working directory does not exist, make it or choose another")
	case "not_a_directory":
		return errorf(code, errno, "the working directory is not a directory, choose another")
	case "permission_denied":
		return errorf(code, errno, "the working directory cannot be entered (%s), choose one inside the workspace", errno.Error())
	case "limit_reached":
		return errorf(code, errno, "no further process can be started (%s), end some of the session's processes first", errno.Error())
	case "exec_failed":
		if errno == unix.ENOENT {
			return errorf(code, errno, "command not found (%s), check its name and PATH", errno.Error())
		}
		return errorf(code, errno, "the command cannot be executed (%s), check the program", errno.Error())
	}
	return errorf("internal", errno, "the command could not be started (%s), try again", errno.Error())
}

func (s *Sandbox) gone() error {
	return errorf("session_not_found", errGone, "the sandbox has ended, start a new session")
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

func (s *Sandbox) send(e *encoder, fds ...int) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	return sendFrame(func(p, oob []byte) (n int, err error) {
		werr := s.rc.Write(func(fd uintptr) bool {
			n, err = rawSend(int(fd))(p, oob)
			return err != unix.EAGAIN
		})
		if werr != nil {
			return 0, werr
		}
		return n, err
	}, e, fds...)
}

func (s *Sandbox) recv(p, oob []byte) (n, oobn, flags int, err error) {
	rerr := s.rc.Read(func(fd uintptr) bool {
		n, oobn, flags, err = rawRecv(int(fd))(p, oob)
		return err != unix.EAGAIN
	})
	if rerr != nil {
		return 0, 0, 0, rerr
	}
	return n, oobn, flags, err
}
