package ptyproc

import (
	"os"

	"golang.org/x/sys/unix"
)

// widen gives a pipe room for a flood. It is refused where the user's pipes have as
// much as they may (pipe-user-pages-soft, pipe(7)), and of a file that is none: then it
// stays as it is.
func widen(f *os.File) {
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, floodPipe) })
}
