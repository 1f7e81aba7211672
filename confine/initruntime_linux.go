package confine

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The Go runtime of an init: there is one for each session, so what it keeps is paid
// for as often.

// initGC is the GOGC of an init. It collects at 2 MB, by default it would at 4.
const initGC = 50

// initEnv is the environment of an init. It is never the server's: that holds secrets,
// and init is the one process commands share a namespace with. The settings keep the
// runtime from opening cgroup files, whose descriptors would be mistaken for leaked
// ones, and from keeping room for profiles in each thread.
//
// One of init's threads runs Go code at a time. Each processor of the runtime has its own
// pages for every size it allocates, so a second one would cost 200 KB. Most of what init
// does is in the kernel, where any number of threads can be: the runtime takes the
// processor from a thread that waits there (Go 1.26).
func initEnv() []string {
	return []string{"GODEBUG=containermaxprocs=0,updatemaxprocs=0,profstackdepth=0", "GOMAXPROCS=1", "GOGC=" + itoa(initGC)}
}

// inKernel lists the goroutines of an init that can be in a system call, or hold their
// thread, at the same time: each needs a thread of its own. The last two entries are the
// thread that runs Go code and one that is about to become idle. Init starts no other
// goroutine once commands run.
var inKernel = [...]string{
	"the reaper", "what the server asks", "the collector's watch", "signals", "the watch over protected paths",
	"a supervisor", "another supervisor", "opens that wait", "moves of directories in a stage",
	"timers of the runtime", "running", "becoming idle",
}

// spareThreads is how many operating system threads init has for them once the process
// limit is set. Under a fork bomb no more can be made, and the Go runtime dies when it cannot
// make one it needs.
const spareThreads = len(inKernel)

// threadCount is how many tasks init itself is, which count against the limit.
func threadCount() int {
	n := 0
	var st unix.Stat_t
	// proc_task(5): a link for each thread in addition to those of any directory.
	if unix.Stat("/proc/self/task", &st) == nil {
		n = int(st.Nlink) - 2
	}
	return max(n, spareThreads+6)
}

// quietAfter is how long nothing must have been asked of init before it gives up
// memory.
const quietAfter = 10 * time.Second

// leftover gives back what commands have left in the heap of an init when nothing has
// been asked of it for a while. A collector that has run once runs every two minutes
// for ever, also where nothing was allocated; it is off until init is asked for
// something, so that idle sessions take no processor time.
type leftover struct {
	asked atomic.Bool // since the last look
	wake  chan struct{}
	off   atomic.Bool // the collector is
	mu    sync.Mutex  // of turning it on or off
}

func newLeftover() *leftover {
	l := &leftover{wake: make(chan struct{}, 1)}
	go l.watch()
	return l
}

// used is told of everything that is asked of init, before it is done.
func (l *leftover) used() {
	if !l.asked.Swap(true) {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	if l.off.Load() {
		l.mu.Lock()
		if l.off.Swap(false) {
			debug.SetGCPercent(initGC)
		}
		l.mu.Unlock()
	}
}

func (l *leftover) watch() {
	for range l.wake {
		for l.asked.Swap(false) {
			pauseFor(quietAfter)
		}
		l.giveUp(childless)
	}
}

// giveUp returns memory to the kernel where a collection has run, which takes a
// megabyte for itself the first time, and turns the collector off while idle says that
// no process is there to have calls carried out.
func (l *leftover) giveUp(idle func() bool) {
	// runtime.ReadMemStats hands all spans back to their lists first, for which it takes
	// 400 KB.
	var ran debug.GCStats
	if debug.ReadGCStats(&ran); ran.NumGC == 0 {
		return
	}
	debug.FreeOSMemory()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off.Store(true)
	if l.asked.Load() || !idle() {
		l.off.Store(false)
		return
	}
	debug.SetGCPercent(-1)
}

// pauseFor sleeps without a timer of the runtime, for which that would open a poller and
// keep a thread waiting.
func pauseFor(d time.Duration) {
	left := unix.NsecToTimespec(int64(d))
	for unix.Nanosleep(&left, &left) == unix.EINTR {
	}
}
