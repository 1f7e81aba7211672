package confine

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Every process of a command must be found again, also after setsid, a double
// fork and the death of everything between, while jobs of other commands live
// on. Process groups, sessions and parents are all left behind by a daemon, and
// a cgroup per command is not available everywhere.
//
// So each command carries a mark that every task inherits from its creator over
// fork, clone and execve, that commands can neither change nor copy, and that
// init can read in /proc:
//
//   - with namespaces, the timer slack in nanoseconds (prctl(2),
//     PR_SET_TIMERSLACK). The spawner thread sets its own just before each fork,
//     through a descriptor of timerslack_ns opened before the sandbox closed.
//     The filter refuses commands the prctl, and their /proc is read-only.
//     Commands differ by at most 16 microseconds of slack, less than scheduling
//     noise. Reading another task's takes CAP_SYS_NICE in its user namespace,
//     which init's unrestricted threads have.
//   - at the landlock level, where nobody has that, the soft limit of bytes in
//     POSIX message queues (RLIMIT_MSGQUEUE), which the filter refuses to set.
//     It is a property of the process, so an unrestricted thread sets it.
//
// Without the filter (level none) a command can change its mark and so stay
// alive when its tree is killed; it still dies with the sandbox.

const (
	// slackBase is the kernel's default slack: marks stay close to it.
	slackBase = 50_000
	// queueBase is below the usual limit of 819200 and above what anyone sets.
	queueBase = 700_000
	maxMarks  = 1 << 14
)

// markSet hands out marks not in use.
type markSet struct {
	used [maxMarks / 64]uint64
	next int
}

// take returns a free mark, or 0, which marks nothing, when all are in use.
func (m *markSet) take() int {
	for range maxMarks {
		m.next = m.next%(maxMarks-1) + 1
		if m.used[m.next/64]&(1<<(m.next%64)) == 0 {
			m.used[m.next/64] |= 1 << (m.next % 64)
			return m.next
		}
	}
	return 0
}

func (m *markSet) release(mark int) { m.used[mark/64] &^= 1 << (mark % 64) }

// openMark opens the slack of the calling thread, which is to be the spawner. It
// goes through the host's /proc, as the one of the new root is read-only.
func (s *initState) openMark() error {
	if !s.cfg.Namespaces {
		return nil
	}
	if err := leaveRealTime(); err != nil {
		return err
	}
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(proc)
	// thread-self says which number this thread has there; its own directory
	// below task lacks the file.
	var b [64]byte
	n, err := unix.Readlinkat(proc, "thread-self", b[:])
	if err != nil {
		return err
	}
	tid := string(b[bytes.LastIndexByte(b[:n], '/')+1 : n])
	s.mark, err = unix.Openat(proc, tid+"/timerslack_ns", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	return err
}

// leaveRealTime makes an ordinary thread of the calling one. A real-time thread
// has no slack on kernels of today, so the commands of a server that is one would have
// no marks. No command becomes one, see setLimits.
func leaveRealTime() error {
	now, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return err
	}
	switch now.Policy {
	case unix.SCHED_FIFO, unix.SCHED_RR, unix.SCHED_DEADLINE:
		return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
	}
	return nil
}

// setMark marks what the calling thread forks next.
func (s *initState) setMark(mark int) error {
	if s.cfg.Namespaces {
		_, err := unix.Write(s.mark, []byte(itoa(slackBase+mark)))
		return err
	}
	var err error
	s.onPrivilegedThread(func() {
		var l unix.Rlimit
		if err = unix.Getrlimit(unix.RLIMIT_MSGQUEUE, &l); err == nil {
			l.Cur = uint64(queueBase + mark)
			err = unix.Setrlimit(unix.RLIMIT_MSGQUEUE, &l)
		}
	})
	return err
}

// task is a process: pid is its number in init's namespace, dir its directory
// in /proc, whose number is the host's where /proc is.
type task struct {
	pid int
	dir string
}

// tasks lists the processes of /proc that carry a mark of this sandbox.
func (s *initState) tasks() []markedTask {
	return s.walk(func(mark int) bool { return mark > 0 && mark < maxMarks })
}

// walk lists the living processes of /proc whose mark is wanted.
func (s *initState) walk(wanted func(mark int) bool) []markedTask {
	var out []markedTask
	for _, pid := range s.candidates() {
		t := task{pid: pid, dir: "/proc/" + itoa(pid)}
		mark := s.readMark(t)
		if !wanted(mark) || t.ended() {
			continue
		}
		if s.foreignProc {
			t.pid = t.innerPid()
		}
		// Init itself: its spawner carries the mark of the latest command.
		if s.cfg.Namespaces && t.pid <= 1 {
			continue
		}
		out = append(out, markedTask{t, mark})
	}
	return out
}

// candidates are the numbers of /proc that may carry a mark: all of them in a
// pid namespace of our own, else what descends from init, as other sandboxes of
// this host use the same marks.
func (s *initState) candidates() []int {
	if !s.cfg.Namespaces {
		return readProcTable().below(os.Getpid())
	}
	numbers := procNumbers()
	pids := make([]int, 0, len(numbers))
	for _, n := range numbers {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

type markedTask struct {
	task
	mark int
}

// readMark returns a task's mark, 0 for none. Tasks of other user namespaces
// cannot be read and so have none.
func (s *initState) readMark(t task) int {
	var b [2048]byte
	if s.cfg.Namespaces {
		n, _ := strconv.Atoi(string(bytes.TrimSpace(b[:readSmall(t.dir+"/timerslack_ns", b[:])])))
		return n - slackBase
	}
	text := b[:readSmall(t.dir+"/limits", b[:])]
	_, rest, ok := bytes.Cut(text, []byte("Max msgqueue size"))
	if f := bytes.Fields(rest); ok && len(f) > 0 {
		n, _ := strconv.Atoi(string(f[0]))
		return n - queueBase
	}
	return 0
}

// readSmall reads the start of a proc file, without os.File's poller.
func readSmall(name string, b []byte) int {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, b)
	if err != nil {
		return 0
	}
	return n
}

// stat returns the fields of the task's stat file from the state on. The name
// before them is in parentheses and may hold anything.
func (t task) stat() [][]byte {
	var b [1024]byte
	text := b[:readSmall(t.dir+"/stat", b[:])]
	i := bytes.LastIndexByte(text, ')')
	if i < 0 {
		return nil
	}
	return bytes.Fields(text[i+1:])
}

// ended says whether t is a zombie (or gone), which no signal reaches.
func (t task) ended() bool {
	f := t.stat()
	return len(f) == 0 || f[0][0] == 'Z' || f[0][0] == 'X'
}

// innerPid is the pid in the innermost namespace of t.
func (t task) innerPid() int {
	var b [4096]byte
	line := statusLine(b[:readSmall(t.dir+"/status", b[:])], "\nNSpid:")
	if len(line) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(string(line[len(line)-1]))
	return n
}

// statusLine gives the fields of one line of a status file.
func statusLine(text []byte, name string) [][]byte {
	_, rest, _ := bytes.Cut(text, []byte(name))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return bytes.Fields(line)
}

func statusNumber(text []byte, name string) (int, bool) {
	f := statusLine(text, name)
	if len(f) == 0 {
		return 0, false
	}
	n, err := strconv.Atoi(string(f[0]))
	return n, err == nil
}

// living is tree where to find nothing means that nothing lives: a walk can miss a
// process that hands over to a child meanwhile, so only the third empty one counts.
func (s *initState) living(c *command) (found []task) {
	for range 3 {
		if found = s.tree(c); len(found) > 0 {
			break
		}
	}
	return found
}

// tree lists the living processes of a command, as one walk finds them.
func (s *initState) tree(c *command) []task {
	var out []task
	for _, t := range s.walk(func(mark int) bool { return mark == c.mark }) {
		out = append(out, t.task)
	}
	return out
}

// signalTree sends sig to every process of c. It reports whether it is certain
// that nothing of c lives any more, which it finds out for SIGKILL only.
func (s *initState) signalTree(c *command, sig unix.Signal) (gone bool) {
	if sig == unix.SIGKILL {
		gone = s.killFew(c)
		if !gone {
			s.killAll(c)
		}
		return gone
	}
	tasks := s.living(c)
	for _, t := range tasks {
		s.signalMarked(c, t, sig)
	}
	// A stopped process acts on nothing but SIGKILL until it continues.
	if sig == unix.SIGTERM || sig == unix.SIGHUP || sig == unix.SIGINT || sig == unix.SIGQUIT {
		for _, t := range tasks {
			s.signalMarked(c, t, unix.SIGCONT)
		}
	}
	return false
}

const (
	// A tree of this size is killed at once. What forks without end is first
	// stopped as a whole: the places of the dead would be taken again.
	fewTasks = 64
	// How long killFew waits for the end of what it has killed: that of a process
	// the kernel holds up is not worth more.
	buryMost = 20 * time.Millisecond
)

// killFew kills what one look finds, which mostly is all. It reports whether it
// was: the reaper can tell when it has collected the last.
func (s *initState) killFew(c *command) (gone bool) {
	found := s.tree(c)
	if len(found) > fewTasks {
		return false
	}
	over := s.reaper.expect(c, found)
	for _, t := range found {
		s.signalMarked(c, t, unix.SIGKILL)
	}
	// Who waits for a channel leaves the processor to the reaper at once.
	select {
	case gone = <-over:
	case <-time.After(buryMost):
	}
	return gone
}

// killAll ends a tree that may be growing.
func (s *initState) killAll(c *command) {
	// Stop first, until nothing new appears: what cannot run cannot fork, so the
	// kill that follows meets a set that has ceased to grow.
	seen := map[int]bool{}
	for calm, round := 0, 0; calm < 2 && round < 256; round++ {
		calm++
		for _, t := range s.tree(c) {
			if !seen[t.pid] {
				seen[t.pid], calm = true, 0
				s.signalMarked(c, t, unix.SIGSTOP)
			}
		}
	}
	// A walk can miss a process that changes its parent under it, so only the
	// third empty one in a row counts.
	for empty, round := 0, 0; empty < 3 && round < 1024; round++ {
		tasks := s.tree(c)
		if empty++; len(tasks) > 0 {
			empty = 0
		}
		for _, t := range tasks {
			s.signalMarked(c, t, unix.SIGKILL)
		}
		runtime.Gosched()
	}
}

// signalMarked signals t if it still is what the walk saw: the descriptor pins
// the process, the second look makes sure it was pinned in time.
func (s *initState) signalMarked(c *command, t task, sig unix.Signal) {
	fd, err := unix.PidfdOpen(t.pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if s.readMark(t) == c.mark {
		unix.PidfdSendSignal(fd, sig, nil, 0)
	}
}
