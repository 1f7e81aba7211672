package confine

import (
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"
)

// Standby keeps one init booted and waiting for the next Start, which then takes
// half the time. A waiting init is an empty process: it has its namespaces, but
// nothing of a session, which it becomes for good when it is given one. Nothing
// is ever shared or used twice. It dies with the server.
//
// The zero value is ready to use; a nil *Standby keeps nothing. Close it after
// the last Start.
type Standby struct {
	mu     sync.Mutex
	next   *standing
	closed bool
	failed bool // this host gave no namespaces, so none are tried again
	work   sync.WaitGroup
}

// standing is an init on its way up or waiting.
type standing struct {
	key    bootKey
	log    *slog.Logger
	mounts int           // mountinfo(5), to hear of changes; -1 when it cannot be had
	up     chan struct{} // closed when the following is set
	init   *booted
}

// Prepare boots an init for a Start with p, in the background. What is wrong
// with p, Start will say.
func (s *Standby) Prepare(p Policy) {
	if s == nil || p.normalise() != nil {
		return
	}
	id, err := identify(&p)
	if err != nil {
		return
	}
	level := p.levels()[0]
	s.refill(newBootKey(&p, id, level), p.Log)
}

// Close ends the waiting init. Later Starts boot their own.
func (s *Standby) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	next := s.next
	s.next, s.closed = nil, true
	s.mu.Unlock()
	next.discard()
	s.work.Wait()
}

// refill boots an init for another sandbox like the one of k.
func (s *Standby) refill(k bootKey, log *slog.Logger) {
	// Without namespaces an init could not leave what it was forked in.
	if s == nil || !k.namespaces {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.failed || s.next != nil {
		return
	}
	n := &standing{key: k, log: log, up: make(chan struct{})}
	s.next = n
	s.work.Go(func() {
		defer close(n.up)
		// Opened first: a change between this and the clone is heard of too.
		var err error
		if n.mounts, err = unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			n.mounts = -1
			return
		}
		if n.init, err = boot(k, log); err != nil {
			s.mu.Lock()
			s.failed = true
			s.mu.Unlock()
		}
	})
}

// take gives the waiting init for k, nil where a new one is needed.
func (s *Standby) take(k bootKey) *booted {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	n := s.next
	s.next = nil
	if n != nil && n.key != k {
		s.work.Go(n.discard)
		n = nil
	}
	s.mu.Unlock()
	if n == nil {
		return nil
	}
	<-n.up // further on than a new one would be
	b := n.init
	if b == nil || n.stale() || b.ended() {
		n.discard()
		return nil
	}
	unix.Close(n.mounts)
	return b
}

// stale says whether the host mounted or unmounted anything since n was forked:
// unless the host shares its mounts, n would show what lay there before
// (mount_namespaces(7)).
func (n *standing) stale() bool {
	fds := []unix.PollFd{{Fd: int32(n.mounts), Events: unix.POLLPRI}}
	for {
		changed, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return changed != 0 || err != nil
		}
	}
}

// ended says whether the init was killed while it waited.
func (b *booted) ended() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, b.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil || info.Signo != 0
}

func (n *standing) discard() {
	if n == nil {
		return
	}
	<-n.up
	if n.mounts >= 0 {
		unix.Close(n.mounts)
	}
	if n.init != nil {
		n.init.discard(n.log)
	}
}
