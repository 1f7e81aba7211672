package session

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mcp-sandbox/sandbox"
)

func TestMain(m *testing.M) {
	// Opens the runtime's poller, whose descriptors no test has leaked.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	goleak.VerifyTestMain(m)
}

// fakeLauncher runs commands on the host without any confinement: what package
// session does around a sandbox is tested here, the sandbox itself in confine.
type fakeLauncher struct {
	fail error
	mu   sync.Mutex
	made []*fakeSandbox
	seen []sandbox.Policy
}

func (l *fakeLauncher) Start(_ context.Context, c sandbox.Policy, _ Callbacks) (sandbox.Sandbox, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, c)
	if l.fail != nil {
		return nil, l.fail
	}
	s := &fakeSandbox{done: make(chan struct{}), home: c.Workspace}
	l.made = append(l.made, s)
	return s, nil
}

type fakeSandbox struct {
	home string
	once sync.Once
	done chan struct{}
	mu   sync.Mutex
	kids []*fakeChild
}

func (s *fakeSandbox) Environ() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "TMPDIR=" + os.TempDir()}
}
func (s *fakeSandbox) Report() sandbox.Report { return sandbox.Report{Level: "namespaces"} }
func (s *fakeSandbox) Done() <-chan struct{}  { return s.done }
func (s *fakeSandbox) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		kids := s.kids
		s.mu.Unlock()
		for _, k := range kids {
			_ = k.SignalTree(syscall.SIGKILL)
			<-k.done
		}
		close(s.done)
	})
	return nil
}

func (s *fakeSandbox) Dial(ctx context.Context, port int) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

func (s *fakeSandbox) Listen(network, addr string) (net.Listener, error) {
	return net.Listen(network, addr)
}

func (s *fakeSandbox) Spawn(_ context.Context, spec sandbox.Command) (sandbox.Process, error) {
	path, err := exec.LookPath(spec.Argv[0])
	if err != nil {
		return nil, errorf("exec_failed", err, "exec_failed")
	}
	cmd := &exec.Cmd{Path: path, Args: spec.Argv, Env: spec.Env, Dir: spec.Dir, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	c := &fakeChild{cmd: cmd, out: r, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		c.ended = time.Now()
		close(c.done)
	}()
	s.mu.Lock()
	s.kids = append(s.kids, c)
	s.mu.Unlock()
	return c, nil
}

type fakeChild struct {
	cmd   *exec.Cmd
	out   *os.File
	done  chan struct{}
	ended time.Time
}

func (c *fakeChild) Pid() int              { return c.cmd.Process.Pid }
func (c *fakeChild) Stdin() *os.File       { return nil }
func (c *fakeChild) Stdout() *os.File      { return c.out }
func (c *fakeChild) Stderr() *os.File      { return nil }
func (c *fakeChild) Done() <-chan struct{} { return c.done }
func (c *fakeChild) Ended() time.Time      { <-c.done; return c.ended }
func (c *fakeChild) Wait() sandbox.ExitStatus {
	<-c.done
	if ws := c.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return sandbox.ExitStatus{Code: 128 + int(ws.Signal()), Signal: ws.Signal()}
	}
	return sandbox.ExitStatus{Code: c.cmd.ProcessState.ExitCode()}
}
func (c *fakeChild) SignalTree(sig syscall.Signal) error {
	if err := syscall.Kill(-c.Pid(), sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
func (c *fakeChild) TreeAlive() (int, error) {
	select {
	case <-c.done:
		return 0, nil
	default:
		return 1, nil
	}
}
func (c *fakeChild) Resize(uint16, uint16) error { return nil }

// world is a manager's surroundings: a state directory, a temporary directory for
// owned workspaces, and checks of what is left in both.
type world struct {
	t           *testing.T
	state, temp string
	launcher    *fakeLauncher
}

func newWorld(t *testing.T) *world {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, state: filepath.Join(base, "state"), temp: filepath.Join(base, "tmp"), launcher: &fakeLauncher{}}
	if err := os.Mkdir(w.temp, 0o755); err != nil {
		t.Fatal(err)
	}
	fds := openFDs(t)
	t.Cleanup(func() {
		// The other end of a closed connection may take a moment to notice.
		now := openFDs(t)
		for end := time.Now().Add(10 * time.Second); now > fds && time.Now().Before(end); now = openFDs(t) {
			runtime.GC() // splice(2) between connections keeps its pipes in a pool
			time.Sleep(10 * time.Millisecond)
		}
		if now > fds {
			t.Errorf("%d descriptors are open, %d were", now, fds)
		}
	})
	return w
}

// openFDs counts descriptors where the system shows them.
func openFDs(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		return 0
	}
	return len(names)
}

func (w *world) manager(c Config) *Manager {
	w.t.Helper()
	c.StateDir, c.TempDir, c.Log = w.state, w.temp, slog.New(slog.DiscardHandler)
	m, err := NewManager(c, w.launcher)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = m.Close() })
	return m
}

func (w *world) empty(dir string) {
	w.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	if len(entries) > 0 {
		w.t.Errorf("left in %s: %v", filepath.Base(dir), entries)
	}
}

func run(t *testing.T, s *Session, cmd string) string {
	t.Helper()
	r, err := s.Exec(t.Context(), ExecRequest{Cmd: cmd, Yield: 10 * time.Second})
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	if r.Exit == nil || r.Exit.Code != 0 {
		t.Fatalf("%s: %+v %s", cmd, r.Exit, r.Output)
	}
	return string(r.Output)
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if codeOf(err) != code {
		t.Errorf("%v, want %s", err, code)
	}
}

// Create makes a client's session without starting it, for tests of what comes
// before a start: nothing runs and the manifest is not applied.
func (m *Manager) Create(ctx context.Context, key string) (*Session, error) {
	e := &entry{ready: make(chan struct{}), lastUsed: m.config.now()}
	m.mu.Lock()
	_, taken := m.sessions[key]
	_, err := m.room(key)
	switch {
	case m.closed:
		err = errorf("session_not_found", nil, "the server is stopping; start it again")
	case taken:
		err = errorf("already_exists", nil, "this client has a session, end it first")
	}
	if err != nil {
		m.mu.Unlock()
		return nil, err
	}
	m.sessions[key] = e
	m.mu.Unlock()
	e.session, e.err = m.open(ctx, key, nil)
	if e.err != nil {
		m.drop(key, e)
	}
	close(e.ready)
	return e.session, e.err
}

// savedFile is where a state directory has a named session's state.
func savedFile(m *Manager, name string) string {
	return filepath.Join(m.state.dir, filepath.FromSlash(savedKey(name)))
}
