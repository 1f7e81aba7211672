package confine

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// shortWait is the longest timeout of a program that works and looks at its
// input now and then, such as a spinner that can be stopped with a key.
const shortWait = 1000 // ms

// leastWait is the shortest timeout of a program that only looks for keys, such
// as a line editor; what looks more often works in between.
const leastWait = 50 // ms

// pollReadable are POLLIN and POLLRDNORM, which epoll shares.
const pollReadable = 0x1 | 0x40

// blocked is a line of /proc/PID/task/TID/syscall.
type blocked struct {
	nr   int
	args [6]uint64
}

// parseBlocked returns ok false for a thread that runs or is blocked outside of
// a system call.
func parseBlocked(line []byte) (b blocked, ok bool) {
	f := bytes.Fields(line)
	if len(f) < 7 {
		return b, false
	}
	var err error
	if b.nr, err = strconv.Atoi(string(f[0])); err != nil || b.nr < 0 {
		return b, false
	}
	for i := range b.args {
		if b.args[i], err = strconv.ParseUint(strings.TrimPrefix(string(f[i+1]), "0x"), 16, 64); err != nil {
			return b, false
		}
	}
	return b, true
}

// waitsFor classifies a thread. fd is its descriptor of the source, -1 unless it
// waits for that.
func (t task) waitsFor(tid string, source *inputSource) (threadWait, int) {
	thread := t.dir + "/task/" + tid
	var buf [512]byte
	fd, err := unix.Open(thread+"/syscall", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	n := 0
	if err == nil {
		n, err = unix.Read(fd, buf[:])
		unix.Close(fd)
	}
	switch {
	case err == unix.ENOENT || err == unix.ESRCH:
		return threadRuns, -1 // ended just now: what it was waited for goes on
	case err != nil:
		return t.hidden(tid), -1
	}
	b, ok := parseBlocked(buf[:n])
	if !ok {
		return threadRuns, -1
	}
	if b.nr == unix.SYS_RESTART_SYSCALL {
		b.nr = restarted(thread)
	}
	w, at := t.classify(b, source)
	if w == threadHidden {
		return t.hidden(tid), -1
	}
	if at >= 0 {
		// A stopped thread shows the call it was in.
		if f := (task{dir: thread}).stat(); len(f) == 0 || f[0][0] != 'S' {
			return threadRuns, -1
		}
	}
	return w, at
}

// restarted tells the call that a thread went on with after it was stopped, see
// restart_syscall(2): its arguments are still those of that call, and where it
// sleeps tells which one it was, proc_pid_wchan(5): poll, futex, or by exclusion
// nanosleep, whose functions count as the scheduler's and are not named. A
// kernel without symbols says 0.
func restarted(thread string) int {
	var buf [64]byte
	switch where := string(buf[:readSmall(thread+"/wchan", buf[:])]); {
	case where == "" || where == "0":
		return unix.SYS_RESTART_SYSCALL
	case strings.Contains(where, "futex"):
		return unix.SYS_FUTEX
	case strings.Contains(where, "poll"):
		return sysPoll // ppoll and select are started again under their own number
	}
	return unix.SYS_NANOSLEEP
}

// pfExiting is PF_EXITING of the flags in proc_pid_stat(5).
const pfExiting = 0x4

// hidden is for a thread that could not be looked at. One that is ending has lost
// its memory, and with it its owner: its files in /proc then belong to the host's
// root (task_dump_owner in fs/proc/base.c).
func (t task) hidden(tid string) threadWait {
	f := task{dir: t.dir + "/task/" + tid}.stat()
	if len(f) < 7 || f[0][0] == 'Z' || f[0][0] == 'X' {
		return threadRuns
	}
	flags, err := strconv.ParseUint(string(f[6]), 10, 64)
	if err == nil && flags&pfExiting != 0 {
		return threadRuns
	}
	return threadHidden
}

func (t task) classify(b blocked, source *inputSource) (threadWait, int) {
	arg := func(i int) int { return int(int32(b.args[i])) }
	switch b.nr {
	case unix.SYS_READ, unix.SYS_READV:
		return t.reads(arg(0), source)
	case unix.SYS_WRITE, unix.SYS_WRITEV:
		if strings.HasPrefix(t.target(arg(0)), "pipe:") {
			return threadNeutral, -1
		}
		return threadRuns, -1
	case unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_FUTEX, unix.SYS_RT_SIGSUSPEND, unix.SYS_RT_SIGTIMEDWAIT, sysPause:
		return threadNeutral, -1
	case unix.SYS_RESTART_SYSCALL:
		return threadHidden, -1 // which call it was is not told
	case sysPoll:
		return t.polls(t.pollSet(b.args[0], b.args[1]), arg(2), source)
	case unix.SYS_PPOLL:
		return t.polls(t.pollSet(b.args[0], b.args[1]), t.timespec(b.args[2], 1e6), source)
	case sysSelect:
		return t.polls(t.selectSet(arg(0), b.args[1]), t.timespec(b.args[4], 1e3), source)
	case unix.SYS_PSELECT6:
		return t.polls(t.selectSet(arg(0), b.args[1]), t.timespec(b.args[4], 1e6), source)
	case sysEpollWait, unix.SYS_EPOLL_PWAIT:
		return t.polls(t.epollSet(arg(0), 0), arg(3), source)
	case unix.SYS_EPOLL_PWAIT2:
		return t.polls(t.epollSet(arg(0), 0), t.timespec(b.args[3], 1e6), source)
	}
	return threadOther, -1
}

// target is what a descriptor stands for, such as pipe:[42]; "" when unknown.
func (t task) target(fd int) string {
	var b [256]byte
	n, err := unix.Readlink(t.dir+"/fd/"+itoa(fd), b[:])
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// isSource says whether fd is the source. err is set when that is not known.
func (t task) isSource(fd int, source *inputSource) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(t.dir+"/fd/"+itoa(fd), &st); err != nil {
		return false, err
	}
	return source.is(&st), nil
}

func (t task) reads(fd int, source *inputSource) (threadWait, int) {
	is, err := t.isSource(fd, source)
	switch target := t.target(fd); {
	case err == unix.ENOENT:
		return threadRuns, -1 // closed meanwhile
	case err != nil:
		return threadHidden, -1
	case is:
		return threadReads, fd
	case strings.HasPrefix(target, "pipe:"), strings.HasPrefix(target, "anon_inode:"):
		return threadNeutral, -1
	default:
		return threadOther, -1
	}
}

// polls judges a thread that waits for several descriptors, or milliseconds; a
// negative number is for ever. A nil set cannot be read.
func (t task) polls(set []int, timeout int, source *inputSource) (threadWait, int) {
	if set == nil {
		return threadHidden, -1
	}
	at, foreign, serves := -1, false, false
	for _, fd := range set {
		is, err := t.isSource(fd, source)
		switch {
		case err == unix.ENOENT:
			continue
		case err != nil:
			return threadHidden, -1
		case is:
			at = fd
		case !t.own(fd):
			foreign = true
			serves = serves || t.listens(fd)
		}
	}
	switch {
	case at < 0 && (foreign || timeout >= 0 && len(set) == 0):
		return threadOther, -1
	case at < 0:
		return threadNeutral, -1
	case serves:
		// A server that takes keys as well serves: it does not wait for them.
		return threadRuns, -1
	case timeout >= 0 && timeout < shortWait:
		if foreign || timeout < leastWait {
			return threadRuns, -1
		}
		return threadPolls, at
	case foreign:
		return threadShared, at
	case timeout >= 0:
		return threadTimed, at
	}
	return threadReads, at
}

// mostDescriptors bounds what is read of a set; no terminal program has more.
const mostDescriptors = 1024

// pollSet reads an array of struct pollfd.
func (t task) pollSet(addr, n uint64) []int {
	if n > mostDescriptors {
		return nil
	}
	b := t.memory(addr, int(n)*8)
	if b == nil {
		return nil
	}
	set := []int{}
	for ; len(b) >= 8; b = b[8:] {
		fd := int(int32(binary.LittleEndian.Uint32(b)))
		if events := binary.LittleEndian.Uint16(b[4:]); fd >= 0 && events&pollReadable != 0 {
			set = append(set, fd)
		}
	}
	return set
}

// selectSet reads an fd_set of n bits.
func (t task) selectSet(n int, addr uint64) []int {
	set := []int{}
	if addr == 0 || n <= 0 {
		return set
	}
	if n > mostDescriptors {
		return nil
	}
	b := t.memory(addr, (n+63)/64*8)
	if b == nil {
		return nil
	}
	for fd := range n {
		if b[fd/8]&(1<<(fd%8)) != 0 {
			set = append(set, fd)
		}
	}
	return set
}

// epollSet reads what an epoll descriptor watches, see proc_pid_fdinfo(5).
func (t task) epollSet(fd, depth int) []int {
	if depth > 3 {
		return nil
	}
	var buf [64 << 10]byte
	n := readSmall(t.dir+"/fdinfo/"+itoa(fd), buf[:])
	if n == 0 {
		return nil
	}
	set := []int{}
	for line := range bytes.Lines(buf[:n]) {
		f := bytes.Fields(line)
		if len(f) < 4 || string(f[0]) != "tfd:" {
			continue
		}
		target, err := strconv.Atoi(string(f[1]))
		events, eerr := strconv.ParseUint(string(f[3]), 16, 64)
		if err != nil || eerr != nil || events&pollReadable == 0 {
			continue
		}
		if t.target(target) == "anon_inode:[eventpoll]" {
			inner := t.epollSet(target, depth+1)
			if inner == nil {
				return nil
			}
			set = append(set, inner...)
			continue
		}
		set = append(set, target)
	}
	return set
}

// timespec reads a timeout as milliseconds, -1 for none: two words, the second
// in units of perMilli to the millisecond.
func (t task) timespec(addr uint64, perMilli int64) int {
	if addr == 0 {
		return -1
	}
	b := t.memory(addr, 16)
	if b == nil {
		return 0
	}
	sec, rest := int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:]))
	if sec < 0 || sec > math.MaxInt32/1000 {
		return -1
	}
	return int(sec*1000 + rest/perMilli)
}

// memory reads n bytes of the process, nil unless all of them can be read.
func (t task) memory(addr uint64, n int) []byte {
	b := make([]byte, n)
	if n == 0 {
		return b
	}
	local := []unix.Iovec{{Base: &b[0], Len: uint64(n)}}
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: n}}
	if m, err := unix.ProcessVMReadv(t.pid, local, remote, 0); err != nil || m != n {
		return nil
	}
	return b
}
