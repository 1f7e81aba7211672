package confine

import "golang.org/x/sys/unix"

// keptTasks are the callers a thread has lately done calls for, the latest
// first. A build makes thousands of files in a few processes, and files of /proc
// that stay open are read in half the time.
type keptTasks [8]keptTask

// keptTask is what stays open of one task. The kernel ties each descriptor to
// the task and not to its number: once it is gone they answer ESRCH or ENOENT,
// whoever has the number then. So nothing read by them is of somebody else, and
// nothing is remembered that the task could have changed.
type keptTask struct {
	tid    int // 0: none
	open   bool
	dir    int // its directory in /proc
	status int
	pidfd  int // none of a thread before Linux 6.9
}

func (k *keptTask) close() {
	if k.open {
		unix.Close(k.dir)
		unix.Close(k.status)
		if k.pidfd >= 0 {
			unix.Close(k.pidfd)
		}
	}
	*k = keptTask{}
}

// kept returns what is open of the caller, nil for one that has made no call
// before: many programs make but one.
func (c *caller) kept() *keptTask {
	tasks := &c.t.tasks
	for i := range tasks {
		if tasks[i].tid != c.tid {
			continue
		}
		k := tasks[i]
		copy(tasks[1:], tasks[:i])
		tasks[0] = k
		if c.fresh {
			return nil
		}
		if !k.open && !c.keep(&tasks[0]) {
			return nil
		}
		return &tasks[0]
	}
	tasks[len(tasks)-1].close()
	copy(tasks[1:], tasks[:])
	tasks[0] = keptTask{tid: c.tid}
	c.fresh = true
	return nil
}

// keep opens what is kept of the caller. As it still waits when that is done, it
// had its number all the time.
func (c *caller) keep(k *keptTask) bool {
	dir, err := c.dir()
	if err != nil {
		return false
	}
	n := keptTask{tid: c.tid, open: true, pidfd: none}
	if n.dir, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return false
	}
	if n.status, err = unix.Openat(n.dir, "status", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		unix.Close(n.dir)
		return false
	}
	if h, err := c.handle(); err == nil {
		n.pidfd, c.pidfd = h, none
	}
	if !c.t.waits(c.id) {
		n.close()
		return false
	}
	*k = n
	return true
}
