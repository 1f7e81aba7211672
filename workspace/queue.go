package workspace

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The tools that write take turns, so that none of them replaces what another
// has just acknowledged. A turn belongs to a directory: a rename gives a file a
// new inode, its directory stays. Inside the server a channel keeps the order;
// other servers on the same tree are kept off by flock(2) on the directory,
// which programs hardly ever lock themselves. Commands take no turns: they write
// as they do in a shell, and what they change in between is a conflict.

// patienceForTurn bounds the wait for another server, or a program that holds
// the lock.
const patienceForTurn = 10 * time.Second

// flock(2) has no order: whoever asks at the right moment has the lock, and a
// server with many writers asks at once when it has released it. So a server
// that waits announces it, and one that has had the lock for longRun lets it go
// for an announced one.
const (
	longRun = 5 * time.Millisecond
	// askAgain is how often a waiting server asks; after a while it asks less often.
	askAgain      = time.Millisecond
	askLessOften  = 10 * time.Millisecond
	mostGivingWay = 10 * time.Millisecond
)

// turn is the queue of one directory.
type turn struct {
	held  chan struct{}
	users int
	// began is when this server had the lock first since another one had it or
	// the queue was empty; for the holder of held.
	began time.Time
}

var turns = struct {
	sync.Mutex
	of map[fileID]*turn
}{of: map[fileID]*turn{}}

// takeTurn waits until nobody else writes into the directory dir.
// Codes: cancelled, conflict.
func takeTurn(ctx context.Context, dir int, given string) (done func(), err error) {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return nil, err
	}
	key := idOf(&st)
	turns.Lock()
	q := turns.of[key]
	if q == nil {
		q = &turn{held: make(chan struct{}, 1)}
		turns.of[key] = q
	}
	q.users++
	turns.Unlock()
	leave := func() {
		turns.Lock()
		if q.users--; q.users == 0 {
			delete(turns.of, key)
		}
		turns.Unlock()
	}
	select {
	case q.held <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
	unlock, err := q.lockDirectory(ctx, dir, given)
	if err != nil {
		<-q.held
		leave()
		return nil, err
	}
	return func() {
		unlock()
		<-q.held
		leave()
	}, nil
}

// lockDirectory keeps other servers off. A directory that cannot be opened, or
// a file system without locks, has the server's own order alone.
func (q *turn) lockDirectory(ctx context.Context, dir int, given string) (unlock func(), err error) {
	fd, err := retryEINTR(func() (int, error) {
		return unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return func() {}, nil
	}
	if !q.began.IsZero() && time.Since(q.began) > longRun {
		q.began = time.Time{}
		for until := time.Now().Add(mostGivingWay); anotherWaits(fd) && time.Now().Before(until); {
			time.Sleep(askAgain)
		}
	}
	began := time.Now()
	for asked := 0; ; asked++ {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			if asked > 0 {
				announceWait(fd, false)
			}
			if q.began.IsZero() {
				q.began = time.Now()
			}
			return func() { unix.Close(fd) }, nil
		}
		q.began = time.Time{}
		if time.Since(began) > patienceForTurn {
			unix.Close(fd)
			return nil, fail(codeConflict, "the directory of %s has been locked by another program for %d s; end it or try again", quote(given), int(patienceForTurn.Seconds()))
		}
		if asked == 0 {
			announceWait(fd, true)
		}
		pause := askAgain
		if asked > 500 {
			pause = askLessOften
		}
		select {
		case <-ctx.Done():
			unix.Close(fd)
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// takeTurns takes the turns of several directories, in an order that all callers
// share.
func takeTurns(ctx context.Context, dirs []int, given string) (done func(), err error) {
	type place struct {
		id fileID
		fd int
	}
	var places []place
	for _, fd := range dirs {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, err
		}
		places = append(places, place{idOf(&st), fd})
	}
	byID := func(a, b place) int { return cmp.Or(cmp.Compare(a.id.dev, b.id.dev), cmp.Compare(a.id.ino, b.id.ino)) }
	slices.SortFunc(places, byID)
	places = slices.CompactFunc(places, func(a, b place) bool { return a.id == b.id })
	var held []func()
	done = func() {
		for i := len(held) - 1; i >= 0; i-- {
			held[i]()
		}
	}
	for _, p := range places {
		leave, err := takeTurn(ctx, p.fd, given)
		if err != nil {
			done()
			return nil, err
		}
		held = append(held, leave)
	}
	return done, nil
}
