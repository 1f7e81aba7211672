package ptyproc

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// The size of a Linux pipe: one read empties it.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// A program that writes much writes in small pieces, and the poller wakes for each of
// them. So from floodAfter bytes on its pipe is made larger, and a read that took
// more than a line or two, but not all there is room for, is followed by floodPause,
// in which more gathers: one read then takes hundreds of pieces.
const (
	floodAfter = 512 << 10
	floodPipe  = 1 << 20 // the most an ordinary user may have, pipe(7)
	floodPiece = 2 << 10
	floodPause = 500 * time.Microsecond
)

var floodBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// pump moves the output into the bounded buffers as fast as it comes.
func (p *process) pump() {
	var other sync.WaitGroup
	if p.errs != nil {
		other.Go(func() { p.pumpFrom(p.child.Stderr(), p.errs) })
	}
	p.pumpFrom(p.child.Stdout(), &p.out)
	other.Wait()
	p.mu.Lock()
	close(p.eof)
	p.wakeAll()
	p.mu.Unlock()
	// A command may close its output and go on reading its input.
	select {
	case <-p.child.Done():
	case <-p.t.closing:
	}
	p.closeStdin()
}

func (p *process) pumpFrom(out *os.File, to *stream) {
	pool := &readBuffers
	b := pool.Get().(*[]byte)
	// EIO is how a terminal says that its last other end was closed, see pty(7).
	// The kernel looks for input first and at the close after it, so what was
	// written in between makes it say so too early: only a second EIO in a row,
	// with the close known before it looks, is the end.
	closed := false
	for total := 0; ; {
		n, err := p.readMore(out, *b, to)
		if errors.Is(err, syscall.EIO) && !closed {
			closed = true
			continue
		}
		if err != nil {
			break
		}
		closed = false
		if total += n; p.tty || total < floodAfter {
			continue
		}
		if pool == &readBuffers {
			widen(out)
			pool.Put(b)
			pool = &floodBuffers
			b = pool.Get().(*[]byte)
		} else if n >= floodPiece && n < len(*b) {
			time.Sleep(floodPause)
		}
	}
	pool.Put(b)
	_ = out.Close()
}

// readMore reads once and keeps what came.
func (p *process) readMore(out *os.File, b []byte, to *stream) (int, error) {
	rc, err := out.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	waited := rc.Read(func(fd uintptr) bool {
		p.reading.Lock()
		defer p.reading.Unlock()
		for n, err = syscall.Read(int(fd), b); errors.Is(err, syscall.EINTR); n, err = syscall.Read(int(fd), b) {
		}
		if n > 0 {
			p.add(b[:n], to)
		}
		return !errors.Is(err, syscall.EAGAIN)
	})
	switch {
	case waited != nil:
		return 0, waited
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return n, err
}
