package confine

import (
	"bytes"
	"sync"

	"golang.org/x/sys/unix"
)

// command is what init remembers of one spawned command.
type command struct {
	id     uint32
	pid    int
	mark   int
	done   bool // the leader has been reaped
	denied int  // acts refused
	swept  bool // it had been when the last sweep ended

	terminal         bool
	pipeDev, pipeIno uint64 // of a stdin pipe, 0 without
	dir              string // of the leader in a foreign /proc once it was looked for; the control goroutine's
	work             uint64 // see progressed; the control goroutine's
}

// reaper collects every process that ends in the sandbox: leaders of commands,
// whose status the server is told, and orphans, which pid 1 adopts.
//
// The lock is held over fork, registration and the "started" message, and taken
// before a reaped pid is looked up. Without it the exit of a quick command
// overtakes its start.
type reaper struct {
	s *initState

	mu       sync.Mutex
	spawned  sync.Cond
	commands map[uint32]*command // by id
	leaders  map[int]*command    // by pid, until reaped
	marks    markSet
	ended    int // commands ended since the last sweep
}

// sweepEvery is how many commands end between two looks at which ended ones
// have left no process behind. It is far below the number of marks.
const sweepEvery = 1024

func newReaper(s *initState) *reaper {
	r := &reaper{s: s, commands: map[uint32]*command{}, leaders: map[int]*command{}}
	r.spawned.L = &r.mu
	return r
}

// run waits for children for ever. wait4 for any child is right here because
// nothing in init uses os/exec or os.Process, from which it would steal.
func (r *reaper) run() {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			// Orphans come only from living children, so until something is
			// spawned there is nothing to wait for.
			r.mu.Lock()
			for len(r.leaders) == 0 {
				r.spawned.Wait()
			}
			r.mu.Unlock()
			continue
		case err != nil:
			continue
		}
		if ws.Exited() || ws.Signaled() {
			r.reaped(pid, ws)
		}
	}
}

// childless reports that init has no child at all, not even a dead one. As every
// process of the sandbox descends from init, nothing lives then.
func childless() bool {
	var info unix.Siginfo
	return unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil) == unix.ECHILD
}

// openChildren opens the list of the calling thread's children, which is to be
// the spawner; kernels built without it (CONFIG_PROC_CHILDREN) cost a walk
// through /proc where several commands run.
func (s *initState) openChildren() error {
	s.children, _ = unix.Open("/proc/thread-self/children", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return nil
}

// alone reports that init has no child but the leaders of running commands. What
// a command that has ended left behind would be one: its processes descend from
// its leader, and the kernel gives them to init when what is between dies. With
// the lock held nothing is forked or reaped meanwhile, so the list is whole
// (proc_pid_task(5) warns of one that shrinks).
func (r *reaper) alone() bool {
	if len(r.leaders) == 0 {
		return childless()
	}
	var b [4096]byte
	n, err := unix.Pread(r.s.children, b[:], 0)
	return err == nil && n < len(b) && bytes.Count(b[:n], []byte(" ")) == len(r.leaders)
}

func (r *reaper) reaped(pid int, ws unix.WaitStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.leaders[pid]
	if c == nil {
		return // an orphan
	}
	delete(r.leaders, pid)
	c.done = true
	m := newFrame(evExit)
	m.u32(c.id)
	m.u32(uint32(ws))
	// Most commands leave nothing behind: saying so here saves the server the
	// question, and init the walk through /proc.
	m.flag(r.alone())
	r.s.send(m) // fails only when the server has gone, and init with it
	if r.ended++; r.ended >= sweepEvery {
		r.ended = 0
		go r.sweep()
	}
}

// started registers c and tells the server, with the lock held.
func (r *reaper) started(c *command) {
	r.commands[c.id] = c
	r.leaders[c.pid] = c
	r.spawned.Signal()
}

// lookup returns a command, also one that has ended.
func (r *reaper) lookup(id uint32) *command {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.commands[id]
}

// sweep forgets the ended commands of which nothing lives any more and frees
// their marks. A process that hides from both walks by handing over to a child
// in time only gets itself killed with a later command.
func (r *reaper) sweep() {
	alive := map[int]bool{}
	for range 2 {
		for _, t := range r.s.tasks() {
			alive[t.mark] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, c := range r.commands {
		if c.done && c.swept && !alive[c.mark] {
			delete(r.commands, id)
			r.marks.release(c.mark)
		}
		// Only what had ended before a walk began can be judged by it.
		c.swept = c.done
	}
}
