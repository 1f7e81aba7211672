package confine

import (
	"os"
	"runtime"
	"runtime/debug"
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
// addition to the main one, the runtime's monitor and the one that makes threads.
func TestInitThreads(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		tasks, err := os.ReadDir("/proc/" + itoa(s.pid) + "/task")
		if err != nil {
			t.Fatal(err)
		}
		if least := spareThreads + 3; len(tasks) < least {
			t.Errorf("init has %d threads, fewer than %d", len(tasks), least)
		}
	})
}
