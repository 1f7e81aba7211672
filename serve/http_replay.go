package serve

import "sync"

// replays remembers which requests other servers have sent, so that one that was
// overheard does nothing when it is sent again. It needs no clock: a server numbers
// what it sends since its start, and a number counts once.
type replays struct {
	mu      sync.Mutex
	turn    int64
	senders map[string]*numbers
}

const (
	// maxSenders bounds the servers that are remembered, those that were silent the
	// longest go first; each start of a server counts.
	maxSenders = 1024
	// numbersKept is how far behind the newest a request may arrive.
	numbersKept = 1 << 14
)

// numbers are those of one sender: the newest, and which of the last came.
type numbers struct {
	newest uint64
	came   [numbersKept / 64]uint64
	used   int64
}

// first says whether a request's number comes for the first time.
func (p *replays) first(sender string, number uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.senders[sender]
	if n == nil {
		if len(p.senders) >= maxSenders {
			oldest := ""
			for s, n := range p.senders {
				if oldest == "" || n.used < p.senders[oldest].used {
					oldest = s
				}
			}
			delete(p.senders, oldest)
		}
		if p.senders == nil {
			p.senders = map[string]*numbers{}
		}
		n = &numbers{}
		p.senders[sender] = n
	}
	p.turn++
	n.used = p.turn
	return n.take(number)
}

func (n *numbers) take(number uint64) bool {
	if number == 0 || number+numbersKept <= n.newest {
		return false
	}
	if number >= n.newest+numbersKept {
		clear(n.came[:])
	} else {
		for i := n.newest + 1; i < number; i++ {
			n.came[i%numbersKept/64] &^= 1 << (i % 64)
		}
	}
	word, bit := &n.came[number%numbersKept/64], uint64(1)<<(number%64)
	if number <= n.newest {
		if *word&bit != 0 {
			return false
		}
	} else {
		n.newest = number
	}
	*word |= bit
	return true
}
