package confine

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"

	"mcp-sandbox/sandbox"
)

// TestLeftover holds when the collector of an init is off: while nothing is asked of it
// and it has no process.
func TestLeftover(t *testing.T) {
	before := debug.SetGCPercent(initGC)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	runtime.GC()
	for _, c := range []struct {
		name        string
		asked, idle bool
		off         bool
	}{
		{"nothing asked, no process", false, true, true},
		{"asked meanwhile", true, true, false},
		{"a process lives", false, false, false},
	} {
		l := &leftover{wake: make(chan struct{}, 1)}
		if c.asked {
			l.used()
		}
		l.giveUp(func() bool { return c.idle })
		want := initGC
		if c.off {
			want = -1
		}
		if got := debug.SetGCPercent(want); got != want {
			t.Errorf("%s: GOGC is %d, not %d", c.name, got, want)
		}
		l.used()
		if got := debug.SetGCPercent(initGC); got != initGC {
			t.Errorf("%s: GOGC is %d when something is asked, not %d", c.name, got, initGC)
		}
		if len(l.wake) != 1 {
			t.Errorf("%s: the next look is not asked for", c.name)
		}
	}
}

// TestInitThreads: init has its spare threads before a command can use up the limit, in
// addition to the main one, the runtime's monitor, the one that makes threads and the one
// that masks signals.
func TestInitThreads(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		tasks, err := os.ReadDir("/proc/" + itoa(s.pid) + "/task")
		if err != nil {
			t.Fatal(err)
		}
		if least := spareThreads + 4; len(tasks) < least {
			t.Errorf("init has %d threads, fewer than %d", len(tasks), least)
		}
	})
}

// TestInitMakesNoThreads: whatever commands do and the server asks meanwhile, init gets
// by with the threads that it had before the first one.
func TestInitMakesNoThreads(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		p.Protect = []string{"kept"}
		s := start(t, p)
		threads := func() int {
			t.Helper()
			tasks, err := os.ReadDir("/proc/" + itoa(s.pid) + "/task")
			if err != nil {
				t.Fatal(err)
			}
			return len(tasks)
		}
		before := threads()
		// Opens that wait, all the time.
		for range 3 {
			spawn(t, s, sandbox.Command{Argv: []string{"/bin/sh", "-c", "mkfifo f$$; echo x > f$$"}, Dir: p.Workspace})
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 40 {
					c, err := s.Spawn(context.Background(), sandbox.Command{Argv: []string{"/bin/sh", "-c", ": > g$$; mv g$$ h$$; (exec sleep 100) & "}, Dir: p.Workspace})
					if err != nil {
						t.Error(err)
						return
					}
					c.TreeAlive()
					if err := c.SignalTree(syscall.SIGKILL); err != nil {
						t.Error(err)
					}
					c.Wait()
					c.Stdout().Close()
				}
			})
		}
		wg.Wait()
		if after := threads(); after > before {
			t.Errorf("init had %d threads and has %d", before, after)
		}
	})
}
