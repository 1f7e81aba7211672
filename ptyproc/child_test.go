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
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// puppet is a child whose every event the test decides.
type puppet struct {
	in, out *os.File // ours
	write   *os.File // what the process writes to
	read    *os.File // what the process reads from
	done    chan struct{}
	exit    sandbox.ExitStatus
	end     time.Time

	alive    atomic.Int64
	broken   atomic.Bool // TreeAlive fails
	immortal atomic.Bool
	mu       sync.Mutex
	signals  []syscall.Signal
}

func newPuppet(t *testing.T) *puppet {
	t.Helper()
	p := &puppet{done: make(chan struct{})}
	var err error
	if p.out, p.write, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	if p.read, p.in, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	p.alive.Store(1)
	t.Cleanup(func() { _, _ = p.write.Close(), p.read.Close() })
	return p
}

func (p *puppet) die(e sandbox.ExitStatus) {
	p.exit, p.end = e, time.Now()
	p.alive.Add(-1)
	close(p.done)
}

func (p *puppet) Pid() int                    { return 42 }
func (p *puppet) Stdin() *os.File             { return p.in }
func (p *puppet) Stdout() *os.File            { return p.out }
func (p *puppet) Stderr() *os.File            { return nil }
func (p *puppet) Done() <-chan struct{}       { return p.done }
func (p *puppet) Wait() sandbox.ExitStatus    { <-p.done; return p.exit }
func (p *puppet) Ended() time.Time            { <-p.done; return p.end }
func (p *puppet) Resize(uint16, uint16) error { return nil }

func (p *puppet) SignalTree(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signals = append(p.signals, s)
	if s == syscall.SIGKILL && !p.immortal.Load() && !isClosed(p.done) {
		p.die(sandbox.ExitStatus{Code: 137, Signal: s})
		_ = p.write.Close()
	}
	return nil
}

func (p *puppet) got(s syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.signals {
		if g == s {
			return true
		}
	}
	return false
}

func (p *puppet) TreeAlive() (int, error) {
	if p.broken.Load() {
		return 0, errors.New("no answer")
	}
	return int(p.alive.Load()), nil
}

type spawnFunc func(context.Context, sandbox.Command) (sandbox.Process, error)

func (f spawnFunc) Spawn(ctx context.Context, s sandbox.Command) (sandbox.Process, error) {
	return f(ctx, s)
}

func puppetTable(t *testing.T, p *puppet, o Options) *Table {
	t.Helper()
	table := NewTable(spawnFunc(func(context.Context, sandbox.Command) (sandbox.Process, error) { return p, nil }), o)
	t.Cleanup(table.Close)
	return table
}

var someCommand = StartRequest{Command: sandbox.Command{Argv: []string{"x"}, Stdin: sandbox.StdinPipe}, KeepStdin: true, Yield: time.Minute}

func start(t *testing.T, table *Table, r StartRequest) Result {
	t.Helper()
	res, err := table.Start(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestLateOutput: the exit is known long before a busy machine gets to read the
// output. Nothing may be lost for that.
func TestLateOutput(t *testing.T) {
	p := newPuppet(t)
	table := puppetTable(t, p, Options{})
	go func() {
		p.die(sandbox.ExitStatus{Code: 3})
		time.Sleep(3 * drainMost)
		_, _ = io.WriteString(p.write, "late")
		_ = p.write.Close()
	}()
	if r := start(t, table, someCommand); string(r.Output) != "late" || r.ID != 0 || r.Exit.Code != 3 {
		t.Errorf("%+v %q", r, r.Output)
	}
}

// TestExitAtDeadline: the wait is over and the process ends at the same moment.
func TestExitAtDeadline(t *testing.T) {
	p := newPuppet(t)
	table := puppetTable(t, p, Options{MinYield: time.Millisecond})
	r := someCommand
	r.Yield = time.Millisecond
	res := start(t, table, r)
	if !res.Running {
		t.Fatalf("%+v", res)
	}
	proc, _, err := table.lookup(res.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(p.write, "last")
	_ = p.write.Close()
	p.die(sandbox.ExitStatus{})
	if res = table.result(proc); string(res.Output) != "last" || res.ID != 0 {
		t.Errorf("%+v %q", res, res.Output)
	}
}

func TestOutOfMemory(t *testing.T) {
	p := newPuppet(t)
	table := puppetTable(t, p, Options{})
	_ = p.write.Close()
	p.die(sandbox.ExitStatus{Code: 137, Signal: syscall.SIGKILL, OOM: true})
	if r := start(t, table, someCommand); !r.Exit.OOM || r.Exit.Code != 137 {
		t.Errorf("%+v", r.Exit)
	}
}

// TestUncountedTree: a confinement that cannot say what lives must neither keep
// a record for good nor lose output that is still to come.
func TestUncountedTree(t *testing.T) {
	p := newPuppet(t)
	table := puppetTable(t, p, Options{})
	p.broken.Store(true)
	p.die(sandbox.ExitStatus{Code: 5})
	r := start(t, table, someCommand)
	if r.ID == 0 || r.Running || r.BackgroundChildren == 0 {
		t.Fatalf("%+v", r)
	}
	_, _ = io.WriteString(p.write, "more")
	_ = p.write.Close()
	for range 10 {
		id := r.ID
		out := r.Output
		var err error
		if r, err = table.Write(context.Background(), WriteRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		r.Output = append(out, r.Output...)
		if r.ID == 0 {
			break
		}
	}
	if r.ID != 0 || string(r.Output) != "more" || r.Exit.Code != 5 {
		t.Errorf("%+v %q", r, r.Output)
	}
}

// TestUnkillable: a process that waits in the kernel is told of, and neither a
// kill nor the close waits for it for good.
func TestUnkillable(t *testing.T) {
	p := newPuppet(t)
	table := puppetTable(t, p, Options{KillGrace: 10 * time.Millisecond, MinYield: time.Millisecond})
	p.immortal.Store(true)
	r := someCommand
	r.Yield = time.Millisecond
	res := start(t, table, r)
	id := res.ID
	res, err := table.Kill(context.Background(), id, 0)
	if err != nil || !res.Running || len(res.Notices) == 0 || !strings.Contains(res.Notices[0], "KILL") {
		t.Errorf("%v %+v", err, res)
	}
	if !p.got(syscall.SIGTERM) || !p.got(syscall.SIGCONT) || !p.got(syscall.SIGKILL) {
		t.Errorf("signals %v", p.signals)
	}
	// A second kill tries again and finds it gone.
	p.immortal.Store(false)
	if res, err = table.Kill(context.Background(), id, 0); err != nil || res.Exit == nil || res.ID != 0 {
		t.Errorf("%v %+v", err, res)
	}

	p = newPuppet(t)
	table = puppetTable(t, p, Options{KillGrace: 10 * time.Millisecond, MinYield: time.Millisecond})
	p.immortal.Store(true)
	start(t, table, r)
	table.Close()
	if _, err := p.out.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("output after close: %v", err)
	}
	p.die(sandbox.ExitStatus{})
}

func TestSpawnFails(t *testing.T) {
	own := errorf("confinement_unavailable", nil, "nothing confines here, ask the administrator")
	for _, c := range []struct {
		err        error
		code, text string
	}{
		{own, "confinement_unavailable", "nothing confines"},
		{&os.PathError{Op: "fork/exec", Path: "/host/secret/x", Err: syscall.ENOENT}, "exec_failed", "no such file"},
		{errors.New("strange /host/secret"), "exec_failed", "could not be started"},
	} {
		table := NewTable(spawnFunc(func(context.Context, sandbox.Command) (sandbox.Process, error) { return nil, c.err }), Options{MaxProcesses: 1})
		for range 3 { // a failed start gives its place back
			_, err := table.Start(context.Background(), someCommand)
			if sandbox.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "/host") {
				t.Errorf("%v became %v", c.err, err)
			}
		}
		table.Close()
	}
}

// TestCloseDuringSpawn: a process that comes up while the table goes down is
// killed by the call that started it.
func TestCloseDuringSpawn(t *testing.T) {
	p := newPuppet(t)
	spawning, closed := make(chan struct{}), make(chan struct{})
	table := NewTable(spawnFunc(func(context.Context, sandbox.Command) (sandbox.Process, error) {
		close(spawning)
		<-closed
		return p, nil
	}), Options{})
	failed := make(chan error)
	go func() {
		_, err := table.Start(context.Background(), someCommand)
		failed <- err
	}()
	<-spawning
	table.Close()
	close(closed)
	if err := <-failed; err == nil || !p.got(syscall.SIGKILL) {
		t.Errorf("%v, signals %v", err, p.signals)
	}
	if _, err := p.out.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("output left open: %v", err)
	}
}

// TestIDsRunOut: the reference looks for a free id for ever.
func TestIDsRunOut(t *testing.T) {
	table := NewTable(nil, Options{})
	defer table.Close()
	for id := firstID; id <= lastID; id++ {
		table.finished[id] = &ended{}
	}
	if id, ok := table.newID(); ok {
		t.Errorf("got %d", id)
	}
	delete(table.finished, 54321)
	if id, ok := table.newID(); !ok || id != 54321 {
		t.Errorf("got %d %v", id, ok)
	}
	clear(table.finished)
	seen := map[int]bool{}
	for range 1000 {
		id, ok := table.newID()
		if !ok || id < firstID || id > lastID {
			t.Fatalf("got %d %v", id, ok)
		}
		seen[id] = true
	}
	if len(seen) < 900 {
		t.Errorf("only %d different ids of 1000", len(seen))
	}
}

func TestNotices(t *testing.T) {
	for in, want := range map[string]string{
		"sleep  5\n":                      "sleep 5",
		"a\x1b[31m\x00b\u202e":            "a [31m b",
		strings.Repeat("é", 100):          strings.Repeat("é", 60) + "...",
		"x); process 1 (y) ended (normal": "x); process 1 (y) ended (normal",
	} {
		if got := shorten(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
