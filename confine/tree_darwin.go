package confine

import (
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processTree knows the processes that come from one leader. macOS has neither
// pid namespaces nor subreapers, so the process table is looked at regularly
// and every process seen below a known one is remembered.
type processTree struct {
	mu     sync.Mutex
	leader int
	known  map[int]syscall.Timeval // pid -> start time, which tells a reused pid
	over   bool                    // none is left; pids may mean others from now on
	gone   chan struct{}           // closed when over
}

// treeInterval is how often the table is looked at while a command lives.
const treeInterval = 100 * time.Millisecond

func newProcessTree(leader int) *processTree {
	t := &processTree{leader: leader, known: map[int]syscall.Timeval{}, gone: make(chan struct{})}
	t.look() // the leader is not reaped yet, so this look finds it or its group
	go t.watch()
	return t
}

func (t *processTree) watch() {
	tick := time.NewTicker(treeInterval)
	defer tick.Stop()
	for range tick.C {
		if n, err := t.look(); err == nil && n == 0 {
			return
		}
	}
}

func (t *processTree) wait() { <-t.gone }

// look takes in the descendants of known processes and forgets the dead, and
// returns how many live.
func (t *processTree) look() (int, error) {
	table, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return 0, nil
	}
	const zombie = 5 // SZOMB of sys/proc.h
	alive := map[int]syscall.Timeval{}
	// Groups with a known member; a group's number is not reused while it has
	// one. The leader's counts at the first look alone.
	groups := map[int]bool{}
	if len(t.known) == 0 {
		groups[t.leader] = true
	}
	for i := range table {
		k := &table[i]
		if k.Proc.P_stat == zombie {
			continue
		}
		pid, start := int(k.Proc.P_pid), syscall.Timeval{Sec: k.Proc.P_starttime.Sec, Usec: k.Proc.P_starttime.Usec}
		if old, ok := t.known[pid]; ok && old == start {
			alive[pid] = start
			groups[int(k.Eproc.Pgid)] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for i := range table {
			k := &table[i]
			pid := int(k.Proc.P_pid)
			if _, ok := alive[pid]; ok || k.Proc.P_stat == zombie {
				continue
			}
			_, parent := alive[int(k.Eproc.Ppid)]
			if pid == t.leader && len(t.known) == 0 || parent || groups[int(k.Eproc.Pgid)] {
				alive[pid] = syscall.Timeval{Sec: k.Proc.P_starttime.Sec, Usec: k.Proc.P_starttime.Usec}
				groups[int(k.Eproc.Pgid)] = true
				grown = true
			}
		}
	}
	t.known = alive
	if len(alive) == 0 {
		t.over = true
		close(t.gone)
	}
	return len(alive), nil
}

func (t *processTree) alive() (int, error) {
	n, err := t.look()
	if err != nil {
		return 0, errorf("internal", err, "the processes could not be counted (%s); try again", errnoText(err))
	}
	return n, nil
}

// signal signals all. SIGKILL stops them first and looks again until no new one
// appears, so that none forks its way out.
func (t *processTree) signal(sig syscall.Signal) error {
	seen := map[int]bool{}
	for range 50 {
		n, err := t.look()
		if err != nil {
			return errorf("internal", err, "the processes could not be listed (%s); try again", errnoText(err))
		}
		if n == 0 {
			return errProcessEnded()
		}
		fresh := false
		t.mu.Lock()
		for pid := range t.known {
			if !seen[pid] {
				seen[pid], fresh = true, true
				if sig == syscall.SIGKILL {
					syscall.Kill(pid, syscall.SIGSTOP)
				}
			}
		}
		t.mu.Unlock()
		if sig != syscall.SIGKILL || !fresh {
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for pid := range t.known {
		syscall.Kill(pid, sig)
	}
	return nil
}
