package session

import (
	"testing"
	"time"
)

// TestUndoCredit: calls in quick succession wait for snapshots a bounded share of
// the time, and what a pause puts off is no longer put off when it is over.
func TestUndoCredit(t *testing.T) {
	var u undo
	if c := u.credit(); c != waitCredit {
		t.Errorf("the first call may wait %s", c)
	}
	u.cost, u.ended = 10*time.Millisecond, time.Now()
	if p := u.pause(); p != 0 {
		t.Errorf("a quick snapshot is put off by %s", p)
	}
	u.waited(time.Now().Add(-waitCredit))
	if c := u.credit(); c > 0 {
		t.Errorf("after %s of waits another %s", waitCredit, c)
	}
	if p := u.pause(); p <= 0 || p > slowPause*u.cost {
		t.Errorf("calls that may not wait are followed by a pause of %s", p)
	}
	u.counted = u.counted.Add(-waitShare * waitCredit / 2)
	if c := u.credit(); c < waitCredit/3 || c > 2*waitCredit/3 {
		t.Errorf("after a while a call may wait %s", c)
	}
	u.spent, u.cost = 0, 2*quickSnapshot
	if p := u.pause(); p <= quickSnapshot {
		t.Errorf("a slow snapshot is followed by a pause of %s", p)
	}
	u.ended = time.Now().Add(-slowPause * u.cost)
	if p := u.pause(); p != 0 {
		t.Errorf("the pause goes on for %s", p)
	}
}
