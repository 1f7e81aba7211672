package confine

import (
	"bytes"
	"context"
	"strconv"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// A command waits for input when all of its processes sleep and one of them is
// blocked in a call that its terminal (or its stdin pipe) ends. The kernel says
// so in /proc/PID/task/TID/syscall, see proc_pid_syscall(5): the call a blocked
// thread is in, and its arguments. What poll and select wait for lies in the
// memory of the caller, what epoll waits for in /proc/PID/fdinfo.
//
// On a terminal only its foreground process group counts, as only that can read.

// AwaitsInput looks at what the command waits for. It is a moment's truth:
// output that was written before may not have been read yet.
func (p *Process) AwaitsInput(ctx context.Context) sandbox.InputState {
	n, err := p.s.ask(ctx, opInput, func(e *encoder) { e.u32(p.id) })
	if err == unix.ESRCH || err == errGone {
		return sandbox.InputBusy // it has ended, which Done tells
	}
	if err != nil || n < int(sandbox.InputUnknown) || n > int(sandbox.InputWaits) {
		return sandbox.InputUnknown
	}
	return sandbox.InputState(n)
}

// inputSource is the file that input comes from.
type inputSource struct {
	terminal bool
	major    uint32 // of the terminal
	minor    uint32
	dev, ino uint64 // of the pipe
}

// is reports whether st is the source. /dev/tty (5:0) is the terminal of
// whoever has it open.
func (i *inputSource) is(st *unix.Stat_t) bool {
	if !i.terminal {
		return uint64(st.Dev) == i.dev && st.Ino == i.ino
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return false
	}
	major, minor := unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	return major == i.major && minor == i.minor || major == 5 && minor == 0
}

// input judges what c waits for.
func (s *initState) input(c *command) sandbox.InputState {
	members, source := s.readers(c)
	if source == nil {
		return sandbox.InputBusy
	}
	first, reader := look(members, source)
	if first < sandbox.InputPolls || reader == nil {
		return first
	}
	// Input that was sent but has not arrived wakes nobody yet. Asking the
	// reader's own descriptor makes the line discipline take it in first
	// (n_tty_poll); whoever it wakes then no longer sleeps in the second look.
	if reader.hasInput() {
		return sandbox.InputBusy
	}
	// A process that started after the first list, and whose parent was then seen to sleep,
	// is on this one.
	if members, source = s.readers(c); source == nil {
		return sandbox.InputBusy
	}
	second, _ := look(members, source)
	state := min(first, second)
	// Who looks for whole lines between two pieces of work does not wait for them.
	if state == sandbox.InputPolls && (reader.canonical() || c.progressed(members)) {
		return sandbox.InputBusy
	}
	return state
}

// progressed says whether the members have used a processor or had children that
// ended since this was last asked.
func (c *command) progressed(members []task) bool {
	var sum uint64
	for _, t := range members {
		// cminflt, utime, stime, cutime and cstime of proc_pid_stat(5).
		if f := t.stat(); len(f) > 14 {
			for _, i := range []int{8, 11, 12, 13, 14} {
				n, _ := strconv.ParseUint(string(f[i]), 10, 64)
				sum += n
			}
		}
	}
	before := c.work
	c.work = sum
	return sum != before
}

// readers are the processes that can take c's input; none when it has none.
func (s *initState) readers(c *command) ([]task, *inputSource) {
	if c.pipeIno != 0 {
		return s.tree(c), &inputSource{dev: c.pipeDev, ino: c.pipeIno}
	}
	if !c.terminal {
		return nil, nil
	}
	leader := s.leader(c)
	f := leader.stat()
	if len(f) < 6 {
		return nil, nil
	}
	group := string(f[5])
	device, err := strconv.Atoi(string(f[4]))
	if err != nil || device == 0 || group == "-1" || group == "0" {
		return nil, nil
	}
	// The encoding of proc_pid_stat(5): minor in bits 31-20 and 7-0, major in 15-8.
	source := &inputSource{terminal: true, major: uint32(device) >> 8 & 0xfff, minor: uint32(device)&0xff | uint32(device)>>12&0xfff00}
	var members []task
	for _, n := range procNumbers() {
		t := task{dir: "/proc/" + n}
		g := t.stat()
		if len(g) < 6 || !bytes.Equal(g[4], f[4]) || string(g[2]) != group || g[0][0] == 'Z' || g[0][0] == 'X' {
			continue
		}
		if s.readMark(t) != c.mark {
			continue
		}
		t.pid, _ = strconv.Atoi(n)
		if s.foreignProc {
			t.pid = t.innerPid()
		}
		members = append(members, t)
	}
	return members, source
}

// dirNames does without os.File, which tries the poller first.
func dirNames(dir string) []string {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var names []string
	var b [8192]byte
	for {
		n, err := unix.ReadDirent(fd, b[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return names
		}
		_, _, names = unix.ParseDirent(b[:n], -1, names)
	}
}

func procNumbers() []string {
	names := dirNames("/proc")
	numbers := names[:0]
	for _, n := range names {
		if n[0] >= '1' && n[0] <= '9' {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// leader finds the leader of c in /proc, where its number may be the host's.
func (s *initState) leader(c *command) task {
	if !s.foreignProc {
		return task{pid: c.pid, dir: "/proc/" + itoa(c.pid)}
	}
	if c.dir == "" {
		for _, t := range s.tree(c) {
			if t.pid == c.pid {
				c.dir = t.dir
			}
		}
	}
	return task{pid: c.pid, dir: c.dir}
}

// openInput is a reader's descriptor of the source.
type openInput struct{ pid, fd int }

// hasInput says whether something can be read. Unknown counts as yes.
func (o *openInput) hasInput() bool {
	fd := borrow(o.pid, o.fd)
	if fd < 0 {
		return true
	}
	defer unix.Close(fd)
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err != nil || n > 0
}

// canonical says whether the terminal hands over whole lines. Unknown counts as yes.
func (o *openInput) canonical() bool {
	fd := borrow(o.pid, o.fd)
	if fd < 0 {
		return true
	}
	defer unix.Close(fd)
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err != nil || t.Lflag&unix.ICANON != 0
}

// borrow gives a copy of another process's descriptor, -1 when it cannot.
func borrow(pid, fd int) int {
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1
	}
	defer unix.Close(handle)
	got, err := unix.PidfdGetfd(handle, fd, 0)
	if err != nil {
		return -1
	}
	return got
}

// look judges all threads of the members.
func look(members []task, source *inputSource) (sandbox.InputState, *openInput) {
	var seen threadTally
	var reader *openInput
	for _, t := range members {
		// None when it has ended.
		for _, tid := range dirNames(t.dir + "/task") {
			w, fd := t.waitsFor(tid, source)
			seen.add(w)
			if w == threadRuns {
				return sandbox.InputBusy, nil
			}
			if fd >= 0 {
				reader = &openInput{pid: t.pid, fd: fd}
			}
		}
	}
	return seen.judge(), reader
}

// threadWait is what one thread does.
type threadWait uint8

const (
	threadRuns    threadWait = iota
	threadHidden             // cannot be looked at
	threadNeutral            // waits for others of the command
	threadOther              // waits for something else: time, a socket, a lock
	threadPolls              // waits for input for less than a second
	threadShared             // waits for input and something else
	threadTimed              // waits for input, and does something after a second or more
	threadReads              // waits for input alone
	threadWaits              // how many there are
)

type threadTally [threadWaits]int

func (n *threadTally) add(w threadWait) { n[w]++ }

func (n *threadTally) judge() sandbox.InputState {
	switch {
	case n[threadRuns] > 0:
		return sandbox.InputBusy
	case n[threadHidden] > 0:
		return sandbox.InputUnknown
	case n[threadPolls] > 0:
		return sandbox.InputPolls
	case n[threadShared]+n[threadTimed]+n[threadReads] == 0:
		return sandbox.InputBusy
	case n[threadOther] > 0:
		return sandbox.InputShared
	case n[threadReads] > 0:
		return sandbox.InputWaits
	case n[threadTimed] > 0:
		return sandbox.InputTimed
	}
	return sandbox.InputShared
}
