package confine

import (
	"errors"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFailedClones bounds a leak: when the clone of syscall.ForkExec fails with id
// mappings asked for, Go (seen in 1.26) forgets both ends of the pipe that would
// have carried them. A server on a host without user namespaces would lose two
// descriptors with every session it starts.
const maxFailedClones = 8

// failedClones remembers the host's refusals of user namespaces. After some of
// them the last is given again without another try: a host that lends namespaces
// later needs a new server.
type failedClones struct {
	mu    sync.Mutex
	count int
	last  unix.Errno
}

var refusedClones failedClones

// refused gives the remembered answer, nil while trying is worth it.
func (f *failedClones) refused() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count < maxFailedClones {
		return nil
	}
	return f.last
}

// note takes the outcome of a clone with CLONE_NEWUSER.
func (f *failedClones) note(err error) {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return
	}
	switch errno {
	case unix.ENOSPC, unix.EPERM, unix.EUSERS, unix.EINVAL:
		f.mu.Lock()
		f.count, f.last = f.count+1, errno
		f.mu.Unlock()
	}
}
