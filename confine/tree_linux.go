package confine

import (
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Every process of a command must be found again, also after setsid, a double
// fork and the death of everything between, while jobs of other commands live
// on. Process groups, sessions and parents are all left behind by a daemon, and
// a cgroup per command cannot be had everywhere.
//
// So each command carries a mark in its timer slack (prctl(2),
// PR_SET_TIMERSLACK): a number of nanoseconds every task inherits from its
// creator over fork, clone and execve. Init's spawner thread sets it just before
// each fork, through a descriptor of its own timerslack_ns opened before the
// sandbox closed. Commands cannot change theirs: the filter refuses the prctl
// and /proc is read-only. Slack differs between commands by microseconds, no
// more than ordinary scheduling noise.
//
// Reading another task's slack takes CAP_SYS_NICE in its user namespace, which
// init's unrestricted threads have.

const (
	// markBase is the kernel's default slack, so the first marks are close to it.
	markBase = 50_000
	maxMarks = 1 << 14
)

// markSet hands out marks not in use.
type markSet struct {
	used [maxMarks / 64]uint64
	next int
}

// take returns a free mark, or 0, the unmarked, when all are in use.
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

// openMark opens the spawner's own slack. It must run on the spawner's thread.
func (s *initState) openMark() error {
	runtime.LockOSThread()
	fd, err := unix.Open("/proc/thread-self/timerslack_ns", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.gap("process marks", err)
		return nil
	}
	s.mark = fd
	return nil
}

func (s *initState) setMark(mark int) {
	if s.mark >= 0 {
		unix.Pwrite(s.mark, []byte(itoa(markBase+mark)), 0)
	}
}

// markFilter refuses commands PR_SET_TIMERSLACK. Other architectures' entry
// points are killed by the main filter.
func markFilter() []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: dataNr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_PRCTL, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: dataArgs},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.PR_SET_TIMERSLACK, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: retErrno(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
	}
}

// tree lists the living processes of a command.
func (s *initState) tree(c *command) []int {
	want := strconv.Itoa(markBase + c.mark)
	var pids []int
	for _, pid := range processes() {
		if pid == 1 || readMark(pid) != want || zombie(pid) {
			continue
		}
		pids = append(pids, pid)
	}
	return pids
}

// processes lists the pids of /proc.
func processes() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func readMark(pid int) string {
	var b [24]byte
	n := readSmall("/proc/"+strconv.Itoa(pid)+"/timerslack_ns", b[:])
	for n > 0 && b[n-1] == '\n' {
		n--
	}
	return string(b[:n])
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

// zombie says whether pid has ended and waits for its parent to notice.
func zombie(pid int) bool {
	var b [512]byte
	n := readSmall("/proc/"+strconv.Itoa(pid)+"/stat", b[:])
	// The name is in parentheses and may hold anything; the state follows the
	// last one.
	for i := n - 1; i >= 0; i-- {
		if b[i] == ')' {
			return i+2 < n && (b[i+2] == 'Z' || b[i+2] == 'X')
		}
	}
	return true
}

// signalTree sends sig to every process of c and returns how many there were.
func (s *initState) signalTree(c *command, sig unix.Signal) int {
	if sig != unix.SIGKILL {
		pids := s.tree(c)
		for _, pid := range pids {
			s.signalMarked(c, pid, sig)
		}
		// A stopped process acts on nothing but SIGKILL until it continues.
		if sig == unix.SIGTERM || sig == unix.SIGHUP || sig == unix.SIGINT || sig == unix.SIGQUIT {
			for _, pid := range pids {
				s.signalMarked(c, pid, unix.SIGCONT)
			}
		}
		return len(pids)
	}
	// Stop first, until nothing new appears: what cannot run cannot fork, so the
	// kill that follows meets a set that has ceased to grow.
	seen := map[int]bool{}
	for range 64 {
		fresh := false
		for _, pid := range s.tree(c) {
			if !seen[pid] {
				seen[pid], fresh = true, true
				s.signalMarked(c, pid, unix.SIGSTOP)
			}
		}
		if !fresh {
			break
		}
	}
	for range 64 {
		pids := s.tree(c)
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			s.signalMarked(c, pid, unix.SIGKILL)
		}
	}
	return len(seen)
}

// signalMarked signals pid if it still is what the walk saw: the descriptor pins
// the process, the second look makes sure it was pinned in time.
func (s *initState) signalMarked(c *command, pid int, sig unix.Signal) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if readMark(pid) == strconv.Itoa(markBase+c.mark) {
		unix.PidfdSendSignal(fd, sig, nil, 0)
	}
}
