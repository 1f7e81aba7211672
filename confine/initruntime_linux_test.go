package confine

import (
	"runtime"
	"runtime/debug"
	"testing"
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
