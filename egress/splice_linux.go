package egress

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// smallestPipe is the pipe below which moving costs more than copying: the
// kernel lends an ordinary user 64 MiB of pipes in all and then gives crumbs
// (pipe(7), pipe-user-pages-soft).
const smallestPipe = 64 << 10

// bulk moves bytes from one connection to another inside the kernel, through a
// pipe (splice(2)). It is for one goroutine.
//
// package net does the same behind io.Copy, but there a deadline that ends the
// wait of the receiving side drops what is in the pipe and looks like one that
// ended the wait for more: a stream with a hole in it would go on.
type bulk struct {
	dst     net.Conn
	out, in syscall.RawConn
	r, w    int
	size    int
}

// newBulk gives nil where the kernel cannot do it.
func newBulk(dst, src net.Conn) *bulk {
	to, ok := dst.(*net.TCPConn)
	from, also := src.(*net.TCPConn)
	if !ok || !also {
		return nil
	}
	b := &bulk{dst: dst}
	var err, err2 error
	if b.out, err = to.SyscallConn(); err != nil {
		return nil
	}
	if b.in, err2 = from.SyscallConn(); err2 != nil {
		return nil
	}
	var p [2]int
	if unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	b.r, b.w = p[0], p[1]
	if b.size, err = unix.FcntlInt(uintptr(b.w), unix.F_SETPIPE_SZ, burst); err != nil {
		b.size, err = unix.FcntlInt(uintptr(b.w), unix.F_GETPIPE_SZ, 0)
	}
	if err != nil || b.size < smallestPipe {
		b.close()
		return nil
	}
	return b
}

func (b *bulk) close() {
	if b != nil {
		_ = unix.Close(b.r)
		_ = unix.Close(b.w)
	}
}

// move takes what has come, up to most bytes, and hands all of it on. It waits
// for bytes until the source's read deadline, and for room at each step no longer
// than idle. io.EOF is the end of the stream. An error without errLost left
// nothing behind.
func (b *bulk) move(most int64, idle time.Duration) (int64, error) {
	got, err := b.take(min(most, int64(b.size)))
	if err != nil {
		return 0, err
	}
	for left := got; left > 0; {
		n, err := b.give(left, idle)
		if err != nil {
			return got - left, errors.Join(errLost, err)
		}
		left -= n
	}
	return got, nil
}

func (b *bulk) take(most int64) (n int64, err error) {
	waited := b.in.Read(func(fd uintptr) bool {
		n, err = splice(int(fd), b.w, most)
		return err != unix.EAGAIN
	})
	switch {
	case waited != nil:
		return 0, waited
	case err != nil:
		return 0, os.NewSyscallError("splice", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (b *bulk) give(most int64, idle time.Duration) (n int64, err error) {
	_ = b.dst.SetWriteDeadline(time.Now().Add(idle))
	waited := b.out.Write(func(fd uintptr) bool {
		n, err = splice(b.r, int(fd), most)
		return err != unix.EAGAIN
	})
	switch {
	case waited != nil:
		return 0, waited
	case err != nil:
		return 0, os.NewSyscallError("splice", err)
	case n == 0:
		return 0, io.ErrShortWrite
	}
	return n, nil
}

func splice(from, to int, most int64) (int64, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, int(most), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return n, err
		}
	}
}
