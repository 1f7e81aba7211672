package confine

import (
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// WarmInit keeps one init booted and waiting for its next Start, which then takes
// a third of the time. It holds one process of the session's user, a few MiB,
// until it is closed. A waiting init has its namespaces and the base of its file
// system, but nothing of a session, which it becomes for good when it is given
// one. Nothing is ever shared or used twice. It dies with the server.
//
// The zero value is ready to use; a nil *WarmInit keeps nothing. Close it after
// the last Start.
type WarmInit struct {
	// Once boots nothing after the init that Prepare asked for: one session is all
	// there will be.
	Once bool
	// NextID gives the user and group of the next session where a root server gives
	// each workspace that it makes to another; nil takes those of the session before.
	NextID func() int

	mu     sync.Mutex
	next   *readyInit
	closed bool
	failed bool // this host gave no namespaces, so none are tried again
	// starting counts the sessions that start now. Among others an init booted ahead
	// would take their time, and all but one of them would find none.
	starting int
	work     sync.WaitGroup

	forkMu sync.Mutex
	forks  int
	forked bool         // by was started, or is not to be any more
	by     *forkProcess // may be nil
}

// readyInit is an init on its way up or waiting.
type readyInit struct {
	key    bootKey
	base   *base
	log    *slog.Logger
	mounts int           // mountinfo(5), to hear of changes; -1 when unavailable
	stop   int           // a pipe whose closing ends the watch of it; -1 without one
	up     chan struct{} // closed when the following is set
	init   *initProcess
}

// Prepare boots an init for a Start with p, in the background. What is wrong
// with p, Start will say.
func (s *WarmInit) Prepare(p sandbox.Policy) {
	if s == nil || normalise(&p) != nil {
		return
	}
	id, err := identify(&p)
	if err != nil {
		return
	}
	pl, _, err := plan(p, assumed())
	if err != nil {
		return
	}
	s.boot(newBootKey(&p, id, pl.Level), planBase(&p, id), p.Log)
	if id.owner.needed() {
		// Kept for the life of the server; what is wrong with it, Start will say.
		s.work.Go(func() { _, _ = id.owner.namespace() })
	}
}

// Close ends the waiting init. Later Starts boot their own.
func (s *WarmInit) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	next := s.next
	s.next, s.closed = nil, true
	s.mu.Unlock()
	next.discard()
	s.work.Wait()
	s.forkMu.Lock()
	defer s.forkMu.Unlock()
	s.by.end()
	s.by, s.forked = nil, true
}

// firstForks are done by the server itself: one session and the init that waits for the
// next, which is all that most servers on standard input ever have.
const firstForks = 2

// forker is what forks an init for k, nil for the server itself. It is started once.
func (s *WarmInit) forker(k bootKey) *forkProcess {
	if s == nil || s.Once || !k.namespaces {
		return nil
	}
	s.forkMu.Lock()
	defer s.forkMu.Unlock()
	if s.forks++; s.forks > firstForks && !s.forked {
		s.forked = true
		s.by, _ = startForkProcess()
	}
	return s.by
}

// begin counts a session that starts.
func (s *WarmInit) begin() {
	if s != nil {
		s.mu.Lock()
		s.starting++
		s.mu.Unlock()
	}
}

// end counts one that has started, or not, and boots an init for another like it,
// where it is one.
func (s *WarmInit) end(p *sandbox.Policy, id identity, k bootKey, base *base, started bool) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.starting--
	busy := s.starting > 0
	s.mu.Unlock()
	if s.Once || busy || !started {
		return
	}
	if s.NextID != nil && os.Geteuid() == 0 && id.uid == id.gid && id.uid >= mappedIDMin && id.uid <= mappedIDMax && !id.owner.needed() {
		next := s.NextID()
		id.uid, id.gid, k.uid, k.gid = next, next, next, next
		base = planBase(p, id)
	}
	s.boot(k, base, p.Log)
}

func (s *WarmInit) boot(k bootKey, base *base, log *slog.Logger) {
	// Without namespaces an init could not leave what it was forked in.
	if !k.namespaces {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.failed || s.next != nil {
		return
	}
	n := &readyInit{key: k, base: base, log: log, mounts: -1, stop: -1, up: make(chan struct{})}
	s.next = n
	s.work.Go(func() {
		defer close(n.up)
		// Opened first: a change between this and the clone is heard of too.
		var err error
		if n.mounts, err = unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			n.mounts = -1
			return
		}
		if n.init, err = boot(k, base, s.forker(k), log); err == nil {
			if err = n.init.built(log); err != nil {
				n.init.discard(log)
				n.init = nil
			}
		}
		if err != nil {
			s.mu.Lock()
			s.failed = !s.closed && !passes(err)
			s.mu.Unlock()
			return
		}
		s.watch(n)
	})
}

// take gives the waiting init for k with the file system of base, nil where a new
// one is needed.
func (s *WarmInit) take(k bootKey, base *base) *initProcess {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	n := s.next
	s.next = nil
	if n != nil && (n.key != k || n.base.print != base.print) {
		s.work.Go(n.discard)
		n = nil
	}
	s.mu.Unlock()
	if n == nil {
		return nil
	}
	<-n.up // already booting, so waiting beats starting another
	b := n.init
	if b == nil || n.stale() || b.ended() {
		n.discard()
		return nil
	}
	n.release()
	return b
}

// watch lets n go when the host mounts or unmounts anything. It would not be
// used any more, and holds what is unmounted.
func (s *WarmInit) watch(n *readyInit) {
	// A separate descriptor: a change is reported once per open file
	// (proc_pid_mountinfo(5)).
	mounts, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	var stop [2]int
	if err := unix.Pipe2(stop[:], unix.O_CLOEXEC); err != nil {
		unix.Close(mounts)
		return
	}
	n.stop = stop[1]
	s.work.Go(func() {
		defer unix.Close(mounts)
		defer unix.Close(stop[0])
		fds := []unix.PollFd{{Fd: int32(mounts), Events: unix.POLLPRI}, {Fd: int32(stop[0])}}
		for {
			if _, err := unix.Poll(fds, -1); err != unix.EINTR {
				break
			}
		}
		if fds[1].Revents != 0 {
			return
		}
		s.mu.Lock()
		mine := s.next == n
		if mine {
			s.next = nil
		}
		s.mu.Unlock()
		if mine {
			n.discard()
		}
	})
}

// release lets go of what told of changes. n.up is closed.
func (n *readyInit) release() {
	if n.mounts >= 0 {
		unix.Close(n.mounts)
	}
	if n.stop >= 0 {
		unix.Close(n.stop)
	}
}

// stale says whether the host mounted or unmounted anything since n was forked:
// unless the host shares its mounts, n would show what lay there before
// (mount_namespaces(7)).
func (n *readyInit) stale() bool {
	fds := []unix.PollFd{{Fd: int32(n.mounts), Events: unix.POLLPRI}}
	for {
		changed, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return changed != 0 || err != nil
		}
	}
}

// ended says whether the init was killed while it waited.
func (b *initProcess) ended() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, b.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil || info.Signo != 0
}

func (n *readyInit) discard() {
	if n == nil {
		return
	}
	<-n.up
	n.release()
	if n.init != nil {
		n.init.discard(n.log)
	}
}
