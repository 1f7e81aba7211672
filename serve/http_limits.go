package serve

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// principalQuota is what one principal may use of the server. Clients without a
// token share one more.
type principalQuota struct {
	calls          int           // requests in flight
	large          int           // bodies past largeBody arriving
	answers        chan struct{} // a place for each large answer
	newSessions    *rate.Limiter // sessions it may create
	promptRefusals *rate.Limiter // refusals sent without delay
	bytes          *rate.Limiter // of bodies past unpacedBytes
}

// quota is the principal's; callers hold mu.
func (h *HTTP) quota(principal string) *principalQuota {
	s := h.quotas[principal]
	if s == nil {
		s = &principalQuota{
			answers:        make(chan struct{}, maxLarge),
			newSessions:    rate.NewLimiter(rate.Limit(h.options.MaxNew)/8, h.options.MaxNew),
			promptRefusals: rate.NewLimiter(promptRefusalsPerSecond, promptRefusals),
			bytes:          rate.NewLimiter(bodyRate, maxBody),
		}
		h.quotas[principal] = s
	}
	return s
}

// enter counts a request of the principal as in flight; false at the limit.
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

// inFlight is what one request uses of its principal's quota until end is called.
type inFlight struct{ end func() }

// handOver gives end to whoever sends the response after the request.
func (f *inFlight) handOver() (end func()) {
	end, f.end = f.end, func() {}
	return end
}

// acquireLargeBody counts a large body as arriving; false at the limit.
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

// largeAnswer gives a request's tools.Caller.Large, and what ends it when the answer has
// been written: a client that does not read keeps its answer in memory here, several
// times its size.
func (h *HTTP) largeAnswer(principal string) (take func(context.Context) error, release func()) {
	h.mu.Lock()
	places := h.quota(principal).answers
	h.mu.Unlock()
	var mu sync.Mutex
	var taken, over bool
	take = func(ctx context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if taken || over {
			return nil
		}
		select {
		case places <- struct{}{}:
			taken = true
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-h.stop.Done():
			return context.Cause(h.stop)
		}
	}
	return take, func() {
		mu.Lock()
		defer mu.Unlock()
		if over = true; taken {
			<-places
		}
	}
}

func (h *HTTP) releaseLargeBody(principal string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quota(principal).large--
}

// mayBegin charges a principal's quota for one new session. Creating one is cheap
// and starts no sandbox, but ten thousand of them starve everybody else.
func (h *HTTP) mayBegin(principal string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.quota(principal).newSessions.AllowN(h.signer.now(), 1)
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
