package tools

import "time"

// principalQuota is what one principal has of the server. There is one a principal, and
// one more for all who have no token.
type principalQuota struct {
	calls          int         // requests at work
	large          int         // bodies past largeBody arriving
	newSessions    tokenBucket // sessions it may begin
	promptRefusals tokenBucket // refusals it is given at once
	bytes          tokenBucket // of bodies past unpacedBytes
}

// quota is the principal's; callers hold mu.
func (h *HTTP) quota(principal string) *principalQuota {
	s := h.quotas[principal]
	if s == nil {
		now := h.signer.now()
		s = &principalQuota{newSessions: tokenBucket{float64(h.options.MaxNew), now}, promptRefusals: tokenBucket{promptRefusals, now}, bytes: tokenBucket{MaxBody, now}}
		h.quotas[principal] = s
	}
	return s
}

// enter counts a principal's request in, false when it has enough.
func (h *HTTP) enter(principal string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.quota(principal)
	if s.calls >= h.options.MaxCalls {
		return false
	}
	s.calls++
	return true
}

func (h *HTTP) exit(principal string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quota(principal).calls--
}

// acquireLargeBody counts a large body in, false when enough are arriving.
func (h *HTTP) acquireLargeBody(principal string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.quota(principal)
	if s.large >= maxLarge {
		return false
	}
	s.large++
	return true
}

func (h *HTTP) releaseLargeBody(principal string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quota(principal).large--
}

// tokenBucket is what is left of a bucket that fills with time.
type tokenBucket struct {
	left float64
	at   time.Time
}

func (a *tokenBucket) fill(now time.Time, most, perSecond float64) {
	a.left = min(most, a.left+now.Sub(a.at).Seconds()*perSecond)
	a.at = now
}

// allow takes one from the bucket, false when there is none.
func (a *tokenBucket) allow(now time.Time, most, perSecond float64) bool {
	a.fill(now, most, perSecond)
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// reserve takes n from the bucket, whatever is in it, and returns how long until
// it has refilled.
func (a *tokenBucket) reserve(n int, now time.Time, most, perSecond float64) time.Duration {
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
	return h.quota(principal).newSessions.allow(h.signer.now(), most, most/8)
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
