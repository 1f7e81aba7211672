package confine

import (
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openFlags are all that open(2) and openat(2) know; they ignore others.
const openFlags = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC | unix.O_APPEND | unix.O_NONBLOCK |
	unix.O_DSYNC | unix.O_SYNC | unix.O_ASYNC | unix.O_DIRECT | unix.O_LARGEFILE | unix.O_DIRECTORY | unix.O_NOFOLLOW |
	unix.O_NOATIME | unix.O_CLOEXEC | unix.O_TMPFILE

// open opens or makes a file for the caller.
func (t *supervisorThread) open(q *request, how unix.OpenHow) reply {
	name, err := q.who.name(q.args[q.path])
	if err != nil {
		return failed(err)
	}
	w, err := t.newWalk(q.who, q.directory(q.dir), name)
	if err != nil {
		return failed(err)
	}
	defer w.close()
	if how.Flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 {
		if err := q.who.read(); err != nil {
			return failed(err)
		}
		t.setUmask(q.who.umask)
	}
	follow := how.Flags&unix.O_NOFOLLOW == 0 && how.Flags&(unix.O_CREAT|unix.O_EXCL) != unix.O_CREAT|unix.O_EXCL
	p, err := w.to(name)
	defer func() { p.close() }()
	for {
		if err != nil {
			return failed(err)
		}
		if p.object >= 0 {
			return t.reopen(q, &p, how)
		}
		// What init would read there is its own.
		if p.proc && how.Flags&(unix.O_ACCMODE|unix.O_TRUNC) == unix.O_RDONLY {
			return reply{err: unix.EACCES, fd: none}
		}
		if r := t.makeGitFile(q, &p, &how); r.err != 0 {
			return r
		}
		if r := t.permit(q, verbOpen, &p); r.err != 0 {
			return r
		}
		r := t.openAt(q, &p, how)
		if how.Flags&(unix.O_ACCMODE|unix.O_CREAT|unix.O_TRUNC) != unix.O_RDONLY {
			r = t.explain(q, r, &p)
		}
		if (r.err != unix.ELOOP && r.err != unix.ENOTDIR) || !follow {
			return r
		}
		target, ok := w.link(&p)
		if !ok {
			return r
		}
		var next place
		next, err = w.again(&p, target)
		p.close()
		p = next
	}
}

// openAt opens the last component of p.
func (t *supervisorThread) openAt(q *request, p *place, how unix.OpenHow) reply {
	if p.path == "/dev/tty" {
		return t.openTerminal(q, how)
	}
	if dir, at := t.s.gitDir(p.path); at {
		return t.openStaged(q, p, dir, how)
	}
	// Unlike O_NOFOLLOW this leaves no trace in the flags of the file.
	how.Resolve = unix.RESOLVE_NO_SYMLINKS
	return t.finish(q, p.dir, p.name, how)
}

// finish opens a name whose way has been judged. Init must not wait for what a
// command controls, such as the other end of a fifo or a lease on a file: those
// opens are tried again by a thread of their own.
func (t *supervisorThread) finish(q *request, dir int, name string, how unix.OpenHow) reply {
	try := how
	// Init's own table and terminal are not the caller's.
	try.Flags |= unix.O_CLOEXEC | unix.O_NOCTTY
	// A new regular file has nobody else to wait for.
	isNew := how.Flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL || how.Flags&unix.O_TMPFILE == unix.O_TMPFILE
	if !isNew {
		try.Flags |= unix.O_NONBLOCK
	}
	r := reply{fd: none, cloexec: how.Flags&unix.O_CLOEXEC != 0}
	var err error
	done := t.act(q, func() error {
		r.fd, err = openat2Once(dir, name, &try)
		return nil
	})
	if done.err != 0 {
		return done
	}
	if err != nil {
		if how.Flags&unix.O_NONBLOCK == 0 && (err == unix.EAGAIN || err == unix.ENXIO && isFifo(dir, name, how.Flags)) {
			return t.wait(q, dir, name, how, none)
		}
		return failed(err)
	}
	if how.Flags&unix.O_NONBLOCK == 0 && !isNew {
		if how.Flags&unix.O_ACCMODE == unix.O_RDONLY && isFifo(r.fd, "", 0) {
			// It stays open: a writer may have come in already.
			return t.wait(q, dir, name, how, r.fd)
		}
		block(r.fd, how.Flags)
	}
	return r
}

// block takes back that the open itself did not wait.
func block(fd int, flags uint64) {
	const settable = unix.O_APPEND | unix.O_ASYNC | unix.O_DIRECT | unix.O_NOATIME
	unix.FcntlInt(uintptr(fd), unix.F_SETFL, int(flags&settable))
}

func openat2Once(dir int, name string, how *unix.OpenHow) (int, error) {
	for range 64 {
		fd, err := openHow(dir, name, how)
		if err != unix.EINTR {
			return fd, err
		}
	}
	return none, unix.EINTR
}

func isFifo(dir int, name string, flags uint64) bool {
	var st unix.Stat_t
	at := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		at = unix.AT_EMPTY_PATH
	}
	return flags&unix.O_DIRECTORY == 0 && unix.Fstatat(dir, name, &st, at) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// reopen opens what one of the caller's own descriptors refers to (/dev/fd/3).
func (t *supervisorThread) reopen(q *request, p *place, how unix.OpenHow) reply {
	if how.Flags&unix.O_NOFOLLOW != 0 {
		return reply{err: unix.ELOOP, fd: none}
	}
	if how.Flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL {
		return reply{err: unix.EEXIST, fd: none}
	}
	path, err := t.pathOf(p.object)
	if err != nil {
		return failed(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(p.object, &st); err != nil {
		return failed(err)
	}
	if st.Dev == t.procDev {
		return reply{err: unix.EACCES, fd: none}
	}
	// A file replaced meanwhile keeps the rules of its name.
	if why := t.s.protected.Load().judge(verbOpen, strings.TrimSuffix(path, " (deleted)")); why != "" {
		t.s.denied(q.who, path, why)
		return reply{err: unix.EPERM, fd: none}
	}
	if r := t.permitGitObject(q, p.object, path); r.err != 0 {
		return r
	}
	how.Flags &^= unix.O_CREAT
	if how.Flags&unix.O_TMPFILE != unix.O_TMPFILE {
		how.Mode = 0
	}
	// Files without a name in the tree (pipes, memory) are the caller's already.
	if path[0] == '/' && st.Mode&unix.S_IFMT != unix.S_IFIFO && !t.writable(path) && !unnamed(path) {
		var fs unix.Statfs_t
		if unix.Fstatfs(p.object, &fs) != nil || fs.Flags&unix.ST_RDONLY == 0 {
			return reply{err: unix.EACCES, fd: none}
		}
	}
	return t.finish(q, unix.AT_FDCWD, "/proc/self/fd/"+itoa(p.object), how)
}

// unnamed says whether a path read in /proc is that of a file in memory.
func unnamed(path string) bool { return len(path) > 7 && path[:7] == "/memfd:" }

// openTerminal opens the terminal /dev/tty is for the caller.
func (t *supervisorThread) openTerminal(q *request, how unix.OpenHow) reply {
	tty, err := q.who.terminal()
	if err != nil {
		return failed(err)
	}
	if how.Flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL {
		return reply{err: unix.EEXIST, fd: none}
	}
	how.Flags &^= unix.O_CREAT | unix.O_NOFOLLOW
	how.Mode, how.Resolve = 0, unix.RESOLVE_NO_SYMLINKS
	return t.finish(q, unix.AT_FDCWD, tty, how)
}

// waitingOpen is an open that waits for another program, or a call that waits for a
// file tool.
type waitingOpen struct {
	listener int
	id       uint64
	proc     string
	dir      int // its own copy
	name     string
	how      unix.OpenHow
	reader   int // a fifo opened for reading that nobody writes to yet; none
	alone    *request
}

// maxWaiting bounds the opens that wait, each of which costs init a descriptor.
const maxWaiting = 512

// wait hands an open over to the thread that tries again.
func (t *supervisorThread) wait(q *request, dir int, name string, how unix.OpenHow, reader int) reply {
	proc, err := q.who.dir()
	w := &waitingOpen{listener: t.listener, id: q.id, proc: proc, dir: none, name: name, how: how, reader: reader}
	if err != nil {
		w.close()
		return failed(err)
	}
	if dir == unix.AT_FDCWD {
		// A copy of a descriptor of the caller, whose number ends with this call.
		w.dir, err = unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
		w.name = ""
	} else {
		w.dir, err = unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0)
	}
	if err != nil {
		w.close()
		return failed(err)
	}
	// It is there, and is not made later, when its directory may be another one.
	w.how.Flags &^= unix.O_CREAT
	w.how.Mode = 0
	w.how.Flags |= unix.O_NOCTTY | unix.O_CLOEXEC | unix.O_NONBLOCK
	select {
	case t.waiting <- w:
		return reply{fd: none, later: true}
	default:
		w.close()
		return reply{err: unix.ENFILE, fd: none}
	}
}

func (w *waitingOpen) close() {
	if w.dir >= 0 {
		unix.Close(w.dir)
	}
	if w.reader >= 0 {
		unix.Close(w.reader)
	}
}

// retry is how long a waiting open rests between two tries.
const retry = 5 * time.Millisecond

// keepWaiting tries waiting opens until they succeed or their caller has gone.
func (v *notifySupervisor) keepWaiting() {
	t := &supervisorThread{notifySupervisor: v}
	if err := t.restrict(); err != nil {
		leave(1)
	}
	var open []*waitingOpen
	for {
		if len(open) == 0 {
			open = append(open, <-v.waiting)
		}
	more:
		for {
			select {
			case w := <-v.waiting:
				open = append(open, w)
			default:
				break more
			}
		}
		left := open[:0]
		for _, w := range open {
			if !t.tryAgain(w) {
				left = append(left, w)
			}
		}
		open = left
		if len(open) > 0 {
			pauseFor(retry)
		}
	}
}

// tryAgain says whether w has come to its end.
func (t *supervisorThread) tryAgain(w *waitingOpen) bool {
	t.listener = w.listener
	if !t.waits(w.id) {
		w.close()
		return true
	}
	if w.alone != nil {
		return t.tryAloneAgain(w)
	}
	flags := w.how.Flags
	r := reply{fd: none, cloexec: flags&unix.O_CLOEXEC != 0}
	if w.reader >= 0 {
		// No event says that a writer has opened it; its first byte or its end
		// does.
		p := []unix.PollFd{{Fd: int32(w.reader), Events: unix.POLLIN}}
		if n, _ := unix.Poll(p, 0); n > 0 {
			r.fd, w.reader = w.reader, none
		}
	} else {
		name := w.name
		dir := w.dir
		if name == "" {
			dir, name = unix.AT_FDCWD, "/proc/self/fd/"+itoa(w.dir)
		}
		fd, err := openat2Once(dir, name, &w.how)
		switch {
		case err == nil && flags&unix.O_ACCMODE == unix.O_RDONLY && isFifo(fd, "", 0):
			w.reader = fd
			return false
		case err == nil:
			r.fd = fd
		case err != unix.EAGAIN && err != unix.ENXIO:
			r = failed(err)
		}
	}
	if r.fd < 0 && r.err == 0 {
		if !t.interrupted(w) {
			return false
		}
		r.err = unix.EINTR
	}
	if r.fd >= 0 {
		block(r.fd, flags)
	}
	w.close()
	t.send(w.id, r)
	return true
}

// interrupted says whether a signal waits for the caller, which the wait for
// init keeps from it unless it is deadly.
func (t *supervisorThread) interrupted(w *waitingOpen) bool {
	var b [2048]byte
	text := b[:readSmall(w.proc+"/status", b[:])]
	bits := func(name string) uint64 {
		s, _ := statusField(text, name)
		n := uint64(0)
		for _, c := range []byte(s) {
			n <<= 4
			switch {
			case c >= '0' && c <= '9':
				n |= uint64(c - '0')
			case c >= 'a' && c <= 'f':
				n |= uint64(c-'a') + 10
			}
		}
		return n
	}
	return (bits("\nSigPnd:\t")|bits("\nShdPnd:\t"))&bits("\nSigCgt:\t")&^bits("\nSigBlk:\t") != 0
}

// rawBind is bind(2) with an address as the caller wrote it.
func rawBind(fd int, addr []byte) error {
	var p unsafe.Pointer
	if len(addr) > 0 {
		p = unsafe.Pointer(&addr[0])
	}
	if _, _, e := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(p), uintptr(len(addr))); e != 0 {
		return e
	}
	return nil
}
