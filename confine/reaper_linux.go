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
	expected expected
}

// expected is what a kill waits for.
type expected struct {
	of   *command
	pids map[int]bool // not collected yet
	over chan bool    // nil when nobody waits
}

// A death is one collected process.
type death struct {
	pid    int
	status unix.WaitStatus
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
	const most = 64 // taken together
	dead := make([]death, 0, most)
	take := func(options int) error {
		var d death
		var err error
		if d.pid, err = unix.Wait4(-1, &d.status, options, nil); err == nil && d.pid > 0 && (d.status.Exited() || d.status.Signaled()) {
			dead = append(dead, d)
		}
		if err == nil && d.pid == 0 {
			err = unix.EAGAIN
		}
		return err
	}
	for {
		dead = dead[:0]
		err := take(0)
		// What has ended with it goes first, so that the word of a leader's end can
		// say that nothing is left.
		for err == nil && len(dead) < most {
			err = take(unix.WNOHANG)
		}
		r.collected(dead)
		if err == unix.ECHILD {
			// Orphans come only from living children, so until something is
			// spawned there is nothing to wait for.
			r.mu.Lock()
			for len(r.leaders) == 0 {
				r.spawned.Wait()
			}
			r.mu.Unlock()
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

// gone reports that nothing of a command lives whose leader has ended. Its
// processes descend from the leader, and the kernel gives them to init when what
// is between dies: one of them would be a child of init, with the command's
// mark. The reaper asks, with the lock held, so nothing is forked or reaped
// meanwhile and the list is whole (proc_pid_task(5) warns of one that shrinks).
func (r *reaper) gone(c *command) bool {
	if len(r.leaders) == 0 && childless() {
		return true
	}
	var b [4096]byte
	n, err := unix.Pread(r.s.children, b[:], 0)
	if err != nil || n == len(b) {
		return false
	}
	if bytes.Count(b[:n], []byte(" ")) == len(r.leaders) {
		return true
	}
	// Others have left some behind.
	for pid := range bytes.FieldsSeq(b[:n]) {
		if mark := r.s.readMark(task{dir: "/proc/" + string(pid)}); mark <= 0 || mark == c.mark {
			return false
		}
	}
	return true
}

// collected takes note of what has been reaped.
func (r *reaper) collected(dead []death) {
	if len(dead) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var ended []*command
	var status []unix.WaitStatus
	for _, d := range dead {
		delete(r.expected.pids, d.pid)
		if c := r.leaders[d.pid]; c != nil { // else an orphan
			delete(r.leaders, d.pid)
			c.done = true
			ended, status = append(ended, c), append(status, d.status)
		}
	}
	for i, c := range ended {
		m := newFrame(evExit)
		m.u32(c.id)
		m.u32(uint32(status[i]))
		// Most commands leave nothing behind: saying so here saves the server the
		// question, and init the walk through /proc.
		m.flag(r.gone(c))
		r.s.send(m) // fails only when the server has gone, and init with it
	}
	if e := &r.expected; e.over != nil && len(e.pids) == 0 {
		e.over <- e.of.done && r.gone(e.of)
		e.over = nil
	}
	if r.ended += len(ended); r.ended >= sweepEvery {
		select {
		case r.s.ops <- r.sweep:
			r.ended = 0
		default: // the queue is full: tried again with the next end
		}
	}
}

// expect gives a channel that says, when all of the tasks and the leader of c
// have been collected, whether nothing of c lives any more. One caller at a time.
func (r *reaper) expect(c *command, tasks []task) <-chan bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := expected{of: c, pids: make(map[int]bool, len(tasks)+1), over: make(chan bool, 1)}
	for _, t := range tasks {
		e.pids[t.pid] = true
	}
	if !c.done {
		e.pids[c.pid] = true
	}
	r.expected = e
	return e.over
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
