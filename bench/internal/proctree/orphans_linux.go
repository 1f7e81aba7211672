package proctree

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// AdoptOrphans makes this process the parent of every descendant that loses its
// own, prctl(2) PR_SET_CHILD_SUBREAPER: what outlives its server is then found
// here, whoever started it, and does not stay with the machine.
func AdoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// EndOrphans kills and reaps all descendants and tells how many were alive.
func EndOrphans() (found int) {
	for range 50 {
		alive := Descendants(os.Getpid())
		if len(alive) == 0 {
			break
		}
		found = max(found, len(alive))
		for _, pid := range alive {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
	Reap()
	return found
}

// Reap takes the status of every child that has ended.
func Reap() {
	for {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
			return
		}
	}
}
