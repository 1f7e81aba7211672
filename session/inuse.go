package session

import "sync"

// inUse has the descriptors that calls use by their number wait for the calls. A session
// can end while one is in flight: its client hangs up, its time is over, an operator ends
// it. The kernel gives a number that was closed to the next file that is opened, which
// can be in another principal's workspace.
type inUse struct {
	mu    sync.Mutex
	calls int
	over  bool
	last  []func() error // what the last call closes
}

// begin counts a call until it calls end, once; false when the session has ended.
func (u *inUse) begin() (end func(), ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return nil, false
	}
	u.calls++
	return u.end, true
}

func (u *inUse) end() {
	u.mu.Lock()
	u.calls--
	var last []func() error
	if u.calls == 0 {
		last, u.last = u.last, nil
	}
	u.mu.Unlock()
	for _, f := range last {
		_ = f()
	}
}

// stop lets no further call begin.
func (u *inUse) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
}

// close closes now, or with the end of the last call, of which nobody is told an error.
func (u *inUse) close(f func() error) error {
	u.mu.Lock()
	later := u.calls > 0
	if later {
		u.last = append(u.last, f)
	}
	u.mu.Unlock()
	if later {
		return nil
	}
	return f()
}
