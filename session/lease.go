package session

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mcp-sandbox/directory"
)

// Servers that share nothing but a directory.Directory hold sessions by leases.
//
// Each server has one entry, serversPrefix+id, which it writes again every third of
// the lease's time: one write for all its sessions. A session's entry names the
// server that holds it, and an epoch. It is taken by a conditional write when it
// names nobody or a server whose lease is past, and every later write of the holder
// has the condition that the entry is the one it wrote: a holder that was passed
// over loses.
//
// Clocks are never compared. A lease is past when its entry was not seen to change
// for its whole time, by the clock of who looks. Its holder ends its sandboxes a
// quarter earlier, at most 5 s, counted from the start of the last write that
// succeeded, so a session never runs twice.

const (
	serversPrefix = "servers/"
	// leaseTTL is how long a server may be silent.
	leaseTTL = 20 * time.Second
	// forgetAfter is after how many times of a lease the entry of a silent server is
	// removed.
	forgetAfter = 30
)

// Holder is a server that holds sessions.
type Holder struct {
	ID  string // random, another after each start
	URL string // where other servers reach it
}

type lease struct {
	Holder
	former  string // the id of the server that was killed in this state directory
	entries directory.Directory
	key     []byte // signs
	ttl     time.Duration
	log     *slog.Logger
	fence   func()       // ends everything that the lease covers
	fences  atomic.Int64 // how often it was; a claim from before the last counts no more

	mu      sync.Mutex
	version string        // of the own entry
	renewed time.Duration // when the last write began that succeeded
	held    bool          // there was one
	writes  int
	peers   map[string]*peer

	once sync.Once
	quit chan struct{}
	wg   sync.WaitGroup
}

// peer is another server, as it was last seen.
type peer struct {
	url, version string
	changed      time.Duration // when that version was first seen
	looked       time.Duration
}

// serverEntry is what a server's entry says. Count makes each version another.
type serverEntry struct {
	ID    string `json:"id"`
	URL   string `json:"url"`
	Count int    `json:"count"`
}

// signed carries text with its MAC: who can write to the bucket could otherwise have
// calls sent to any address.
type signed struct {
	Text string `json:"text"`
	MAC  string `json:"hmac_sha256"`
}

const serverLabel = "mcp-sandbox server 1\n"

func newLease(entries directory.Directory, key []byte, url string, ttl time.Duration, log *slog.Logger) *lease {
	if ttl <= 0 {
		ttl = leaseTTL
	}
	return &lease{Holder: Holder{ID: randomHex(8), URL: url}, entries: entries, key: key, ttl: ttl, log: log,
		peers: map[string]*peer{}, quit: make(chan struct{})}
}

// valid says whether what is held may still be used.
func (l *lease) valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held && sinceBoot() < l.renewed+l.ttl-min(l.ttl/4, 5*time.Second)
}

// own says whether an entry's holder is this server, or the one before it, whose
// workspaces are here.
func (l *lease) own(id string) bool { return id == l.ID || id != "" && id == l.former }

// begin takes the lease and keeps it until close. Its errors are the directory's.
func (l *lease) begin(fence func()) error {
	l.fence = fence
	ctx, cancel := context.WithTimeout(context.Background(), entryTime)
	defer cancel()
	if err := l.renew(ctx); err != nil {
		return err
	}
	l.wg.Go(l.keep)
	l.wg.Go(func() {
		for l.wait(l.ttl / 3) {
			ctx, cancel := context.WithTimeout(context.Background(), l.ttl)
			l.watch(ctx)
			cancel()
		}
	})
	return nil
}

// wait sleeps; false when the lease ends.
func (l *lease) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.quit:
		return false
	}
}

// keep renews the lease, and fences when that fails for too long.
func (l *lease) keep() {
	pause, fenced := l.ttl/3, false
	for l.wait(pause) {
		within := l.ttl / 3
		if left := l.left(); left > 0 {
			within = min(within, left)
		} else if !fenced {
			fenced = true
			l.fences.Add(1)
			l.log.Error("the session directory could not be reached for the time of the lease: all sessions are ended here, and go on when it is back")
			l.fence()
		}
		ctx, cancel := context.WithTimeout(context.Background(), max(within, 50*time.Millisecond))
		err := l.renew(ctx)
		cancel()
		pause = l.ttl / 3
		switch {
		case err == nil:
			fenced = false
		default:
			l.log.Warn("the lease could not be renewed", "error", err)
			// Soon again, and on time for the end.
			pause = l.ttl / 20
			if left := l.left(); left > 0 {
				pause = min(pause, left)
			}
		}
	}
}

// left is how long the lease is valid without a renewal.
func (l *lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.renewed + l.ttl - min(l.ttl/4, 5*time.Second) - sinceBoot()
}

func (l *lease) renew(ctx context.Context) error {
	l.mu.Lock()
	version := l.version
	l.writes++
	n := l.writes
	l.mu.Unlock()
	text, err := json.Marshal(serverEntry{l.ID, l.URL, n})
	if err != nil {
		return err
	}
	value, err := json.Marshal(signed{string(text), macOf(l.key, serverLabel, string(text))})
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		began := sinceBoot()
		next, err := l.entries.PutIf(ctx, serversPrefix+l.ID, value, version)
		if errors.Is(err, directory.ErrConflict) && try == 0 {
			// An earlier write may have arrived that seemed to fail; nobody else writes
			// this entry, and who forgot this server removed it.
			before := version
			_, version, err = l.entries.Get(ctx, serversPrefix+l.ID)
			if errors.Is(err, fs.ErrNotExist) {
				if version = ""; before != "" {
					l.forgotten()
				}
				continue
			}
			if err == nil {
				continue
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if err == nil {
			l.version, l.renewed, l.held = next, began, true
		}
		return err
	}
}

// forgotten ends what the lease covers: without the entry, others may have taken it.
func (l *lease) forgotten() {
	l.mu.Lock()
	l.held, l.version = false, ""
	l.mu.Unlock()
	l.fences.Add(1)
	l.log.Error("the entry of this server in the session directory was removed: all sessions are ended here, and go on where they were unless another server has them")
	l.fence()
}

// look asks for a peer's entry.
func (l *lease) look(ctx context.Context, id string) (*peer, error) {
	value, version, err := l.entries.Get(ctx, serversPrefix+id)
	now := sinceBoot()
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(err, fs.ErrNotExist) {
		delete(l.peers, id)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := l.peers[id]
	if p == nil {
		p = &peer{}
		l.peers[id] = p
	}
	p.looked = now
	if p.version != version {
		p.version, p.changed, p.url = version, now, ""
		var s signed
		var e serverEntry
		if strictJSON(value, &s) == nil && sameMAC(s.MAC, macOf(l.key, serverLabel, s.Text)) && strictJSON([]byte(s.Text), &e) == nil && e.ID == id {
			p.url = e.URL
		} else {
			l.log.Warn("a server's entry in the session directory is not signed with our key", "server", id)
		}
	}
	out := *p
	return &out, nil
}

// alive gives the server whose lease is not past, nil when it is.
func (l *lease) alive(ctx context.Context, id string) (*Holder, error) {
	if id == l.ID {
		return &l.Holder, nil
	}
	l.mu.Lock()
	p, known := l.peers[id]
	var seen peer
	if known {
		seen = *p
	}
	l.mu.Unlock()
	if now := sinceBoot(); !known || now-seen.looked > l.ttl/8 {
		fresh, err := l.look(ctx, id)
		if err != nil {
			return nil, err
		}
		if fresh == nil {
			return nil, nil
		}
		seen = *fresh
	}
	if sinceBoot()-seen.changed >= l.ttl {
		return nil, nil
	}
	return &Holder{id, seen.url}, nil
}

// watch sees which servers there are, so that the silence of one is known by the time
// somebody asks.
func (l *lease) watch(ctx context.Context) {
	list, err := l.entries.List(ctx, serversPrefix)
	if err != nil {
		return
	}
	there := map[string]bool{}
	for _, e := range list {
		id := strings.TrimPrefix(e.Key, serversPrefix)
		there[id] = true
		if id == l.ID {
			continue
		}
		p, err := l.look(ctx, id)
		if err == nil && p != nil && sinceBoot()-p.changed > forgetAfter*l.ttl {
			_ = l.entries.Delete(ctx, e.Key)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.peers {
		if !there[id] {
			delete(l.peers, id)
		}
	}
}

// others are the servers that live.
func (l *lease) others() []Holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Holder
	for id, p := range l.peers {
		if sinceBoot()-p.changed < l.ttl && p.url != "" {
			out = append(out, Holder{id, p.url})
		}
	}
	return out
}

// close gives the lease up. Everything it covers must have ended.
func (l *lease) close() error {
	if l == nil {
		return nil
	}
	var err error
	l.once.Do(func() {
		close(l.quit)
		l.wg.Wait()
		if !l.valid() {
			return
		}
		l.mu.Lock()
		l.held = false
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), l.ttl/4)
		defer cancel()
		err = l.entries.Delete(ctx, serversPrefix+l.ID)
	})
	return err
}
