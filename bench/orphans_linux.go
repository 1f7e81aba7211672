package main

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of every descendant that loses
// its own, prctl(2) PR_SET_CHILD_SUBREAPER, so that a peer that leaves
// processes behind cannot leave them with the machine.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// endOrphans kills and reaps all descendants and tells how many were alive.
func endOrphans() int {
	found := 0
	for range 50 {
		alive := tree(os.Getpid())[1:]
		if len(alive) == 0 {
			break
		}
		found = max(found, len(alive))
		for _, pid := range alive {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err != nil || pid <= 0 {
			return found
		}
	}
}
