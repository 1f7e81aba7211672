package egress

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxAsked bounds the hosts one session may ask its user for, and maxAsking
	// those it asks for at the same time: which hosts are tried is the client's to
	// invent, and a user who is asked endlessly eventually says yes.
	maxAsked  = 16
	maxAsking = 3
	// askWithin bounds the wait for Options.Ask.
	askWithin = 60 * time.Second
)

// Answer is what became of a question to the user.
type Answer int

const (
	Unasked Answer = iota // nobody could be asked; a later connection may try again
	Granted
	Refused // or not answered in time
)

// questions are what the user of a session was asked, each host once, and what
// was granted: one host and port each, for the life of the proxy and not for
// any other.
type questions struct {
	mu      sync.Mutex
	asked   map[string]chan struct{} // by host; closed when the answer is there
	asking  int
	granted map[endpoint]bool
}

func (q *questions) has(e endpoint) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.granted[e]
}

// hasName tells whether anything of a name was granted.
func (q *questions) hasName(name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for e := range q.granted {
		if e.name == name {
			return true
		}
	}
	return false
}

// ask puts the question, or waits with those who came first.
func (q *questions) ask(ctx context.Context, e endpoint, put func(context.Context) Answer) Answer {
	q.mu.Lock()
	done, before := q.asked[e.host()]
	if before {
		q.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return Unasked
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		switch _, still := q.asked[e.host()]; {
		case q.granted[e]:
			return Granted
		case !still:
			return Unasked
		}
		return Refused
	}
	if len(q.asked) >= maxAsked || q.asking >= maxAsking {
		q.mu.Unlock()
		return Unasked
	}
	if q.asked == nil {
		q.asked, q.granted = map[string]chan struct{}{}, map[endpoint]bool{}
	}
	done = make(chan struct{})
	q.asked[e.host()] = done
	q.asking++
	q.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	answer := Unasked
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.asking--
		switch answer {
		case Granted:
			q.granted[e] = true
		case Unasked:
			delete(q.asked, e.host())
		}
		close(done)
	}()
	answer = put(ctx)
	return answer
}

// decide is the policy's word, and after it what the user granted: a grant fills
// a gap in the list and overrides no denial.
func (p *Proxy) decide(policy *Policy, e endpoint) Decision {
	d := policy.decide(e)
	if d.gap && p.asks.has(e) {
		return Decision{Allowed: true, Reason: "the user allowed it for this session"}
	}
	return d
}

// permit decides on a new connection, asking the user where that may help.
// Nothing is resolved before the answer: a look-up alone can carry data out.
func (p *Proxy) permit(e endpoint) Decision {
	d := p.decide(p.Policy(), e)
	if d.Allowed || !d.gap || p.o.Ask == nil || !p.offerable(e) {
		return d
	}
	switch p.asks.ask(p.ctx, e, func(ctx context.Context) Answer { return p.o.Ask(ctx, e.host(), int(e.port)) }) {
	case Granted:
		return p.decide(p.Policy(), e) // as it is by now
	case Refused:
		d.Reason += ", and the user, asked once, did not allow it"
	}
	return d
}

// offerable says whether a user is asked for an endpoint at all: not for names
// that lead into the user's own network by their form. Addresses there are no
// gap in the list (see Policy.decideAddr), except this host's own.
func (p *Proxy) offerable(e endpoint) bool {
	if e.name == "" {
		own, err := p.hostAddrs()
		return err == nil && !slices.Contains(own, e.addr)
	}
	if !strings.ContainsRune(e.name, '.') {
		return false
	}
	// RFC 6761, RFC 6762, RFC 8375, and ICANN's name for private use, which
	// cloud providers use for their metadata.
	return !slices.ContainsFunc([]string{".localhost", ".local", ".home.arpa", ".internal"}, func(s string) bool {
		return strings.HasSuffix(e.name, s)
	})
}
