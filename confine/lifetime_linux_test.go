package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// AC-47: limits hold and say so.
func TestLimits(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		p.Limits = sandbox.Limits{Procs: 60, FileSize: 1 << 20, OpenFiles: 100, Tmp: 2 << 20, Shm: 1 << 20}
		s := start(t, p)
		want(t, s, p.Workspace, "ulimit -n; ulimit -c; head -c 3000000 /dev/zero > big 2>/dev/null; stat -c %s big; rm big; head -c 900000 /dev/zero > /tmp/a; cat /tmp/a /tmp/a > /tmp/b 2>/dev/null; cat /tmp/a > /tmp/c 2>/dev/null; stat -c %s /tmp/c", "100\n0\n1048576\n"+map[bool]string{true: ""}[false]+statOf(t, s, p))
		if os.Geteuid() == 0 && !s.cgroup.Has("pids") && strings.Contains(t.Name(), "self") {
			return // uid 0 without a control group: reported, not enforced
		}
		out, _ := sh(t, s, p.Workspace, "for i in $(seq 200); do sleep 5 & done 2>/dev/null; echo end; kill $(jobs -p) 2>/dev/null; true")
		_ = out
		// The bomb is contained, init lives and so does the next command.
		c := spawn(t, s, sandbox.Command{Argv: []string{"/bin/bash", "-c", "b() { b | b & }; b; b; wait"}, Dir: p.Workspace})
		eventually(t, "the bomb has grown to the limit", func() bool { n, _ := c.TreeAlive(); return n > 20 })
		if n, _ := c.TreeAlive(); n > 80 {
			t.Errorf("%d processes under a limit of 60", n)
		}
		if err := c.SignalTree(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the bomb is gone", func() bool { n, _ := c.TreeAlive(); return n == 0 })
		want(t, s, p.Workspace, "echo alive", "alive\n")
	})
}

// statOf is the size the third file of TestLimits gets: what is left of /tmp.
func statOf(t *testing.T, s *Sandbox, p sandbox.Policy) string {
	out, _ := sh(t, s, p.Workspace, "head -c 900000 /dev/zero > /tmp/a; cat /tmp/a /tmp/a > /tmp/b 2>/dev/null; cat /tmp/a > /tmp/c 2>/dev/null; stat -c %s /tmp/c; rm -f /tmp/?")
	n, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || n >= 900000 {
		t.Errorf("/tmp is not limited: %q", out)
	}
	return out
}

// AC-46: nothing is left of a sandbox whose server is killed, and nothing of
// one that is closed.
func TestNothingIsLeft(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		// A place of its own: tests of other packages run at the same time.
		own := filepath.Join(filepath.Dir(p.Workspace), "tmp")
		if err := os.Mkdir(own, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", own)
		start(t, p).Close() // what is made once and kept
		fds, routines := fdCount(t), runtime.NumGoroutine()
		for range 3 {
			s := start(t, p)
			c, err := s.Spawn(context.Background(), sandbox.Command{Argv: []string{"sh", "-c", "for i in 1 2 3 4; do setsid nohup sh -c 'trap \"\" TERM; while :; do sleep 1; done' & done; kill -STOP $$"}, Env: s.Environ(), Dir: p.Workspace})
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "its children run", func() bool { n, _ := c.TreeAlive(); return n >= 5 })
			pid := s.pid
			s.Close()
			if st := c.Wait(); st.Signal != syscall.SIGKILL {
				t.Errorf("status %+v", st)
			}
			c.Stdout().Close()
			if err := unix.Kill(pid, 0); err != unix.ESRCH {
				t.Errorf("init %d is still there: %v", pid, err)
			}
			if _, err := s.Spawn(context.Background(), sandbox.Command{Argv: []string{"true"}, Dir: "/"}); err == nil {
				t.Error("a closed sandbox started a command")
			}
		}
		eventually(t, "all descriptors closed", func() bool { return fdCount(t) <= fds })
		eventually(t, "all goroutines ended", func() bool { return runtime.NumGoroutine() <= routines })
		if after, _ := os.ReadDir(own); len(after) > 0 {
			t.Errorf("left %v", after)
		}
	})
}

// A spawn or start that is cancelled leaves nothing behind.
func TestCancel(t *testing.T) {
	p := testPolicy(t)
	s := start(t, p)
	sh(t, s, p.Workspace, "true")
	fds := fdCount(t)
	for i := range 100 {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			time.Sleep(time.Duration(i) * 20 * time.Microsecond)
			cancel()
		}()
		c, err := s.Spawn(ctx, sandbox.Command{Argv: []string{"sleep", "1000"}, Env: s.Environ(), Dir: p.Workspace, TTY: i%2 == 0})
		if err == nil {
			c.SignalTree(syscall.SIGKILL)
			c.Stdout().Close()
		}
		cancel()
	}
	eventually(t, "no sleep is left", func() bool {
		out, _ := sh(t, s, p.Workspace, "cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep")
		return out == "0\n"
	})
	eventually(t, "all descriptors closed", func() bool { return fdCount(t) <= fds })
	for i := range 10 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Millisecond)
		if s, err := Start(ctx, p); err == nil {
			s.Close()
		}
		cancel()
	}
	eventually(t, "all descriptors closed", func() bool { return fdCount(t) <= fds })
}

// A command that has run is returned, though its call was cancelled before init's
// answer was read; one whose start hangs is given up, and nothing of it remains.
func TestCancelWhileStarting(t *testing.T) {
	p := testPolicy(t)
	s := start(t, p)
	fds := fdCount(t)
	spawn := func(ctx context.Context, argv ...string) (sandbox.Process, error) {
		return s.Spawn(ctx, sandbox.Command{Argv: argv, Env: s.Environ(), Dir: p.Workspace})
	}
	for i := range 300 {
		name := fmt.Sprint("ran", i)
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
		c, err := spawn(ctx, "touch", name)
		if err == nil {
			<-c.Done()
			c.Stdout().Close()
			continue
		}
		// What another command sees is what has happened by now.
		if out, _ := sh(t, s, p.Workspace, "ls "+name+" 2>&1"); out == name+"\n" {
			t.Fatalf("cancelled after %d us: the command ran, and %v", i*10, err)
		}
	}

	unix.Kill(s.pid, unix.SIGSTOP)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err := spawn(ctx, "sleep", "1000")
	unix.Kill(s.pid, unix.SIGCONT)
	if sandbox.CodeOf(err) != "cancelled" {
		t.Errorf("a start that hangs: %v", err)
	}
	eventually(t, "no sleep is left", func() bool {
		out, _ := sh(t, s, p.Workspace, "cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep")
		return out == "0\n"
	})
	eventually(t, "all descriptors closed", func() bool { return fdCount(t) <= fds })
}

// Every way a spawn can fail has its own code and leaves the sandbox usable.
func TestSpawnErrors(t *testing.T) {
	p := testPolicy(t)
	s := start(t, p)
	os.WriteFile(filepath.Join(p.Workspace, "data"), []byte("x"), 0o644)
	for _, c := range []struct {
		argv []string
		dir  string
		code string
	}{
		{[]string{"no-such-program"}, p.Workspace, "exec_failed"},
		{[]string{"/no/such/program"}, p.Workspace, "exec_failed"},
		{[]string{p.Workspace + "/data"}, p.Workspace, "exec_failed"},
		{[]string{"true"}, p.Workspace + "/missing", "not_found"},
		{[]string{"true"}, p.Workspace + "/data", "not_a_directory"},
		{[]string{"true"}, "relative", "invalid_argument"},
		{nil, p.Workspace, "invalid_argument"},
		{[]string{"a\x00b"}, p.Workspace, "invalid_argument"},
		{[]string{"true", strings.Repeat("x", 5<<20)}, p.Workspace, "too_large"},
		{[]string{"true", strings.Repeat("x", 1<<20)}, p.Workspace, "too_large"},
	} {
		_, err := s.Spawn(context.Background(), sandbox.Command{Argv: c.argv, Env: s.Environ(), Dir: c.dir})
		var e *sandbox.Error
		if !errors.As(err, &e) || e.Code() != c.code {
			t.Errorf("%.40q in %s: %v, want %s", c.argv, c.dir, err, c.code)
		}
	}
	want(t, s, p.Workspace, "echo alive", "alive\n")
}

// AC-71: the binary cannot be written through init's exe link, and a sandbox
// starts although the binary has been removed.
func TestBinaryIsOutOfReach(t *testing.T) {
	p := testPolicy(t)
	s := start(t, p)
	want(t, s, p.Workspace, "cat /proc/1/exe 2>/dev/null | head -c 4; (echo x > /proc/1/exe) 2>/dev/null; readlink /proc/1/exe; echo done", "done\n")
}

// AC-54: 64 at a time, each with its own output, error and status.
func TestParallelSpawns(t *testing.T) {
	p := testPolicy(t)
	s := start(t, p)
	errs := make(chan error, 64)
	for i := range 64 {
		go func() {
			line := fmt.Sprintf("echo out%d; echo err%d >&2; exit %d", i, i, i)
			c, err := s.Spawn(context.Background(), sandbox.Command{Argv: []string{"/bin/sh", "-c", line}, Env: s.Environ(), Dir: p.Workspace, SplitStderr: true})
			if err != nil {
				errs <- err
				return
			}
			out, _ := io.ReadAll(c.Stdout())
			errOut, _ := io.ReadAll(c.Stderr())
			c.Stdout().Close()
			c.Stderr().Close()
			if st := c.Wait(); string(out) != fmt.Sprintf("out%d\n", i) || string(errOut) != fmt.Sprintf("err%d\n", i) || st.Code != i {
				err = fmt.Errorf("%d: %q %q %+v", i, out, errOut, st)
			}
			errs <- err
		}()
	}
	for range 64 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
