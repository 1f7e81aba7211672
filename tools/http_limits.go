package tools

import "time"

// share is what one principal has of the server. There is one a principal, and
// one more for all who have no token.
type share struct {
	calls  int       // requests at work
	large  int       // bodies past smallBody arriving
	fresh  allowance // sessions it may begin
	prompt allowance // refusals it is given at once
	bytes  allowance // of bodies past freeBody
}

// share is the principal's; callers hold mu.
func (h *HTTP) share(principal string) *share {
	s := h.shares[principal]
	if s == nil {
		now := h.mint.now()
		s = &share{fresh: allowance{float64(h.options.MaxNew), now}, prompt: allowance{promptRefusals, now}, bytes: allowance{MaxBody, now}}
		h.shares[principal] = s
	}
	return s
}

// enter counts a principal's request in, false when it has enough.
func (h *HTTP) enter(principal string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.share(principal)
	if s.calls >= h.options.MaxCalls {
		return false
	}
	s.calls++
	return true
}

func (h *HTTP) exit(principal string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.share(principal).calls--
}

// enlarge counts a large body in, false when enough are arriving.
func (h *HTTP) enlarge(principal string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.share(principal)
	if s.large >= maxLarge {
		return false
	}
	s.large++
	return true
}

func (h *HTTP) shrink(principal string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.share(principal).large--
}

// allowance is what is left of a bucket that fills with time.
type allowance struct {
	left float64
	at   time.Time
}

func (a *allowance) fill(now time.Time, most, perSecond float64) {
	a.left = min(most, a.left+now.Sub(a.at).Seconds()*perSecond)
	a.at = now
}

// take has one from the bucket, false when there is none.
func (a *allowance) take(now time.Time, most, perSecond float64) bool {
	a.fill(now, most, perSecond)
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// owe has n from the bucket, whatever is in it, and tells after how long it is no
// longer short of them.
func (a *allowance) owe(n int, now time.Time, most, perSecond float64) time.Duration {
	a.fill(now, most, perSecond)
	a.left -= float64(n)
	if a.left >= 0 {
		return 0
	}
	return time.Duration(-a.left / perSecond * float64(time.Second))
}

// mayBegin takes one new session off a principal's allowance. Beginning one is
// cheap and makes no sandbox, but ten thousand of them are work that everybody
// else waits behind.
func (h *HTTP) mayBegin(principal string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	most := float64(h.options.MaxNew)
	return h.share(principal).fresh.take(h.mint.now(), most, most/8)
}

// pause waits for d, but not past the server's stop or gone, which may be nil.
func (h *HTTP) pause(d time.Duration, gone <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-gone:
	case <-h.stop.Done():
	}
}
