package main

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of every descendant that loses its
// own, prctl(2) PR_SET_CHILD_SUBREAPER: what outlives the server is then found
// here, whoever started it.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// endOrphans kills and reaps all descendants and tells how many were alive.
func endOrphans() (found int) {
	for range 50 {
		alive := descendants(os.Getpid())
		if len(alive) == 0 {
			break
		}
		found = max(found, len(alive))
		for _, pid := range alive {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
	reap()
	return found
}

func reap() {
	for {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
			return
		}
	}
}
