package tools

import "time"

// enter counts a principal's request in, false when it has enough.
func (h *HTTP) enter(principal string) bool {
	return h.countIn(h.calls, principal, h.options.MaxCalls)
}

func (h *HTTP) exit(principal string) { h.countOut(h.calls, principal) }

// enlarge counts a large body in, false when enough are arriving.
func (h *HTTP) enlarge(principal string) bool { return h.countIn(h.large, principal, maxLarge) }

func (h *HTTP) shrink(principal string) { h.countOut(h.large, principal) }

func (h *HTTP) countIn(m map[string]int, principal string, most int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m[principal] >= most {
		return false
	}
	m[principal]++
	return true
}

func (h *HTTP) countOut(m map[string]int, principal string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m[principal]--; m[principal] == 0 {
		delete(m, principal)
	}
}

// allowance is what is left of a bucket that fills with time.
type allowance struct {
	left float64
	at   time.Time
}

// mayBegin takes one new session off a principal's allowance. Beginning one is
// cheap and makes no sandbox, but ten thousand of them are work that everybody
// else waits behind. The map holds one entry a principal.
func (h *HTTP) mayBegin(principal string) bool {
	most := float64(h.options.MaxNew)
	now := h.mint.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	a, known := h.fresh[principal]
	if !known {
		a = allowance{left: most, at: now}
	}
	a.left = min(most, a.left+now.Sub(a.at).Seconds()*most/8)
	a.at = now
	ok := a.left >= 1
	if ok {
		a.left--
	}
	h.fresh[principal] = a
	return ok
}
