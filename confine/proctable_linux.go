package confine

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// procEntry is one process as its stat file has it.
type procEntry struct {
	parent int
	start  uint64 // clock ticks since boot
	ended  bool   // a zombie, which no signal reaches
}

// procTable is one pass over /proc. A chain of a thousand processes, each the
// child of the one before, costs no more than a thousand children of one: the
// line of parents is climbed in memory, and what is known of a process on the
// way is not climbed again.
type procTable map[int]procEntry

func readProcTable() procTable {
	numbers := procNumbers()
	t := make(procTable, len(numbers))
	for _, n := range numbers {
		if pid, err := strconv.Atoi(n); err == nil {
			t.read(pid)
		}
	}
	return t
}

// read takes the entry of pid, or forgets it when the process has gone.
func (t procTable) read(pid int) (procEntry, bool) {
	f := task{dir: "/proc/" + itoa(pid)}.stat()
	// Fields 3, 4 and 22 of proc_pid_stat(5): the state, the parent, the start.
	if len(f) < 20 {
		delete(t, pid)
		return procEntry{}, false
	}
	e := procEntry{ended: f[0][0] == 'Z' || f[0][0] == 'X'}
	e.parent, _ = strconv.Atoi(string(f[1]))
	e.start, _ = strconv.ParseUint(string(f[19]), 10, 64)
	t[pid] = e
	return e, true
}

// below lists the processes that descend from ancestor. A subreaper keeps
// orphans below it. Where a parent ended while the table was read, its child has
// a new one, so the child is read again.
func (t procTable) below(ancestor int) []int {
	known := map[int]bool{ancestor: true} // false: not below it
	var found, path []int
	for pid := range t {
		if pid == ancestor {
			continue
		}
		path = path[:0]
		below, rereads := false, 0
		for p := pid; ; {
			if b, ok := known[p]; ok {
				below = b
				break
			}
			e, ok := t[p]
			if !ok || p <= 1 {
				break
			}
			up, ok := t[e.parent]
			// A parent cannot be younger: the number is another process's by now.
			if e.parent > 1 && e.parent != ancestor && (!ok || up.start > e.start) && rereads < 64 {
				rereads++
				if again, alive := t.read(p); !alive {
					break
				} else if again.parent != e.parent {
					continue
				}
				t.read(e.parent)
				continue
			}
			path = append(path, p)
			p = e.parent
			if len(path) > len(t)+64 {
				break // a circle, which stale entries could make
			}
		}
		for _, p := range path {
			known[p] = below
		}
		if below {
			found = append(found, pid)
		}
	}
	return found
}

// userTasks counts the threads of this host that have the real user uid, as
// RLIMIT_NPROC does.
func userTasks(uid int) int {
	count := 0
	var b [4096]byte
	for _, n := range procNumbers() {
		text := b[:readSmall("/proc/"+n+"/status", b[:])]
		if real, ok := statusNumber(text, "\nUid:"); ok && real == uid {
			threads, _ := statusNumber(text, "\nThreads:")
			count += max(threads, 1)
		}
	}
	return count
}

// killSession kills every process of a session that has no pid namespace. It
// returns when nothing lives, or when all that does has been killed and is held
// up by the kernel (an uninterruptible sleep): such a process can start nothing.
func (s *initState) killSession() {
	if s.killDomain() {
		return
	}
	self := os.Getpid()
	doomed := map[int]uint64{} // by start, as numbers come again
	for calm, empty := 0, 0; empty < 3 && calm < calmRounds; calm++ {
		empty++
		t := readProcTable()
		for _, pid := range t.below(self) {
			e := t[pid]
			if e.ended {
				continue
			}
			empty = 0
			if start, ok := doomed[pid]; !ok || start != e.start {
				doomed[pid], calm = e.start, 0
			}
			unix.Kill(pid, unix.SIGKILL)
		}
		pauseFor(time.Millisecond)
	}
}

// calmRounds is how many looks without a new process, a millisecond and more
// apart, show that what still lives is only held up.
const calmRounds = 2000

// killDomain kills all of the session at once where Landlock keeps signals
// inside: kill(2) of -1 reaches what this thread may signal, which is its own
// domain, and no process can be born while the kernel walks its list. So nothing
// that forks faster than /proc can be read gets away. It says whether all have
// gone.
func (s *initState) killDomain() bool {
	if !s.scoped {
		return false
	}
	everybody := -1
	for range calmRounds {
		if childless() {
			return true
		}
		unix.RawSyscall6(unix.SYS_KILL, uintptr(everybody), uintptr(unix.SIGKILL),
			uintptr(s.killKey[0]), uintptr(s.killKey[1]), uintptr(s.killKey[2]), uintptr(s.killKey[3]))
		pauseFor(time.Millisecond)
	}
	return false
}
