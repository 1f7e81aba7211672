package serve

import (
	"cmp"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// waitedInput is a file that is read when an epoll says that it can be.
//
// A goroutine that waits in read(2) keeps a processor of the Go runtime, and the
// runtime's monitor wakes every 20 us to see whether to take it away: a fifth of what
// a call takes. Waiting in the runtime's poller needs a descriptor that does not block,
// but that is a property of the open file, which whoever started the server may share
// and use later. So the poller waits for an epoll instance of the server, and that for the
// file (epoll(7): an epoll can be watched by another).
type waitedInput struct {
	file  *os.File
	epoll *os.File
}

// waitable gives in as something whose Read waits in the poller, where that can be, and
// a function that ends a Read that waits. The file itself stays as it is and open.
func waitable(in io.Reader) (_ io.Reader, end func()) {
	asItIs := func() {}
	f, ok := in.(*os.File)
	if !ok || f.SetReadDeadline(time.Time{}) == nil { // the poller has it
		return in, asItIs
	}
	rc, err := f.SyscallConn()
	if err != nil {
		return in, asItIs
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return in, asItIs
	}
	watch := func(in uintptr) {
		// EPERM: a regular file, of which a read does not wait.
		err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, int(in), &unix.EpollEvent{Events: unix.EPOLLIN})
	}
	if cerr := rc.Control(watch); cerr != nil || err != nil || unix.SetNonblock(fd, true) != nil {
		unix.Close(fd)
		return in, asItIs
	}
	w := &waitedInput{f, os.NewFile(uintptr(fd), "epoll of "+f.Name())}
	return w, func() { w.epoll.Close() }
}

func (w *waitedInput) Read(b []byte) (int, error) {
	rc, err := w.epoll.SyscallConn()
	if err != nil {
		return 0, err
	}
	waited := rc.Read(func(fd uintptr) bool {
		var e [1]unix.EpollEvent
		n := 0
		for n, err = unix.EpollWait(int(fd), e[:], 0); err == unix.EINTR; n, err = unix.EpollWait(int(fd), e[:], 0) {
		}
		return n > 0 || err != nil
	})
	if waited != nil || err != nil {
		return 0, os.NewSyscallError("epoll_wait", cmp.Or(waited, err))
	}
	return w.file.Read(b)
}
