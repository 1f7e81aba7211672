package confine

import "golang.org/x/sys/unix"

// Calls that newer architectures have only in another form.
const (
	sysPoll      = unix.SYS_POLL
	sysSelect    = unix.SYS_SELECT
	sysEpollWait = unix.SYS_EPOLL_WAIT
	sysPause     = unix.SYS_PAUSE
)
