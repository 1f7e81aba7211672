package session

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSaveTurns: of many sessions that end at once some take their last snapshot, and
// the others wait for them.
func TestSaveTurns(t *testing.T) {
	saving := make(chan struct{}, savingAtOnce)
	var now, most atomic.Int32
	var wg sync.WaitGroup
	for range 10 * savingAtOnce {
		s := &Session{saving: saving}
		wg.Go(func() {
			defer s.saveTurn()()
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Millisecond)
			now.Add(-1)
		})
	}
	wg.Wait()
	if n := most.Load(); n < 1 || n > savingAtOnce || len(saving) != 0 {
		t.Errorf("%d at once, %d places left taken", n, len(saving))
	}
	(&Session{}).saveTurn()()
}
