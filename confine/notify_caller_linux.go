package confine

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// caller is a task whose call waits for its answer. What it is asked for is
// looked up once, when it is needed.
type caller struct {
	t     *supervisorThread
	id    uint64 // of the notification
	tid   int    // in init's pid namespace
	proc  string
	pidfd int

	fresh bool // nothing is kept of it
	known bool // the fields below are
	tgid  string
	umask int
}

// none is in place of a descriptor or an argument that is not there.
const none = -1

// pidfdThread is PIDFD_THREAD (Linux 6.9).
const pidfdThread = unix.O_EXCL

func (c *caller) close() {
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
	}
}

// handle opens a descriptor of the caller itself. Before Linux 6.9 there is none
// of a thread that is not the first of its process.
func (c *caller) handle() (int, error) {
	if c.pidfd >= 0 {
		return c.pidfd, nil
	}
	fd, err := unix.PidfdOpen(c.tid, pidfdThread)
	if err == unix.EINVAL {
		fd, err = unix.PidfdOpen(c.tid, 0)
	}
	if err != nil {
		return none, err
	}
	c.pidfd = fd
	return fd, nil
}

// dir is the caller's directory in /proc. Where /proc is the host's, its number
// there is what a pidfd says in that /proc.
func (c *caller) dir() (string, error) {
	if c.proc != "" {
		return c.proc, nil
	}
	if !c.t.s.foreignProc {
		c.proc = "/proc/" + itoa(c.tid)
		return c.proc, nil
	}
	if fd, err := c.handle(); err == nil {
		var b [512]byte
		_, rest, ok := bytes.Cut(b[:readSmall("/proc/self/fdinfo/"+itoa(fd), b[:])], []byte("Pid:\t"))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		if n, err := strconv.Atoi(string(line)); ok && err == nil && n > 0 {
			c.proc = "/proc/" + itoa(n)
			return c.proc, nil
		}
	}
	// A thread on a kernel before 6.9.
	for _, t := range c.t.s.tasks() {
		for _, tid := range entries(t.dir + "/task") {
			if (task{dir: t.dir + "/task/" + tid}).innerPid() == c.tid {
				c.proc = "/proc/" + tid
				return c.proc, nil
			}
		}
	}
	return "", unix.EACCES
}

// read looks up the numbers of the caller's process and its umask.
func (c *caller) read() error {
	if c.known {
		return nil
	}
	text, err := c.status()
	if err != nil {
		return err
	}
	umask, ok := statusField(text, "\nUmask:\t")
	if !ok {
		return unix.EACCES
	}
	m, err := strconv.ParseInt(umask, 8, 32)
	if err != nil {
		return unix.EACCES
	}
	c.umask = int(m)
	if c.tgid, ok = statusField(text, "\nTgid:\t"); !ok {
		return unix.EACCES
	}
	c.known = true
	return nil
}

// status reads the caller's status file, as far as the buffer takes it.
func (c *caller) status() ([]byte, error) {
	if k := c.kept(); k != nil {
		if n, err := unix.Pread(k.status, c.t.text[:], 0); err == nil {
			return c.t.text[:n], nil
		}
		k.close()
	}
	dir, err := c.dir()
	if err != nil {
		return nil, err
	}
	return c.t.text[:readSmall(dir+"/status", c.t.text[:])], nil
}

func statusField(text []byte, name string) (string, bool) {
	_, rest, ok := bytes.Cut(text, []byte(name))
	line, _, end := bytes.Cut(rest, []byte("\n"))
	return string(line), ok && end
}

// directory opens what a call's directory argument names.
func (c *caller) directory(fd int32) (int, error) {
	if fd != unix.AT_FDCWD {
		return c.descriptor(int(fd))
	}
	const how = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	if k := c.kept(); k != nil {
		if cwd, err := unix.Openat(k.dir, "cwd", how, 0); err == nil {
			return cwd, nil
		}
		k.close()
	}
	dir, err := c.dir()
	if err != nil {
		return none, err
	}
	return unix.Open(dir+"/cwd", how, 0)
}

// descriptor takes a copy of a descriptor of the caller, also of one that keeps
// others out of its /proc (PR_SET_DUMPABLE).
func (c *caller) descriptor(fd int) (int, error) {
	if fd < 0 {
		return none, unix.EBADF
	}
	if k := c.kept(); k != nil && k.pidfd >= 0 {
		got, err := unix.PidfdGetfd(k.pidfd, fd, 0)
		if err == nil || err == unix.EBADF {
			return got, err
		}
		k.close()
	}
	h, err := c.handle()
	if err == nil {
		var got int
		if got, err = unix.PidfdGetfd(h, fd, 0); err == nil || err == unix.EBADF {
			return got, err
		}
	}
	dir, derr := c.dir()
	if derr != nil {
		return none, unix.EACCES
	}
	return unix.Open(dir+"/fd/"+itoa(fd), unix.O_PATH|unix.O_CLOEXEC, 0)
}

// name reads a string of the caller's memory, once.
func (c *caller) name(addr uint64) (string, error) {
	buf := c.t.text[:]
	got := 0
	for got < len(buf) {
		// Page by page: a name may end just before one that is not there.
		part := min(len(buf)-got, int(4096-(addr+uint64(got))%4096))
		n, err := c.memory(addr+uint64(got), buf[got:got+part])
		if err != nil {
			return "", err
		}
		if i := bytes.IndexByte(buf[got:got+n], 0); i >= 0 {
			return string(buf[:got+i]), nil
		}
		if got += n; n < part {
			return "", unix.EFAULT
		}
	}
	return "", unix.ENAMETOOLONG
}

// memory reads what is at addr. A failure is one of the caller, whatever the
// kernel could have read: secret memory, programs that may only be executed.
func (c *caller) memory(addr uint64, b []byte) (int, error) {
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}
	n, err := unix.ProcessVMReadv(c.tid, local, remote, 0)
	if err == unix.EPERM || err == unix.ESRCH {
		err = unix.EACCES
	}
	return n, err
}

// terminal is the path of the caller's controlling terminal, which /dev/tty
// stands for.
func (c *caller) terminal() (string, error) {
	dir, err := c.dir()
	if err != nil {
		return "", err
	}
	// State, parent, group, session, terminal.
	f := (task{dir: dir}).stat()
	if len(f) < 5 {
		return "", unix.EACCES
	}
	dev, _ := strconv.ParseUint(string(f[4]), 10, 64)
	if major := unix.Major(dev); dev == 0 || major < 136 || major > 143 {
		return "", unix.ENXIO
	}
	return "/dev/pts/" + utoa(uint64(unix.Major(dev)-136)<<20|uint64(unix.Minor(dev))), nil
}

// owns says whether a path of /proc lies in the caller's own directory.
func (c *caller) owns(p string) (rest string, ok bool) {
	if c.read() != nil {
		return "", false
	}
	rest, ok = strings.CutPrefix(p, "/proc/"+c.tgid)
	if !ok {
		return "", false
	}
	if r, ok := strings.CutPrefix(rest, "/task/"); ok {
		_, rest, _ = strings.Cut(r, "/")
		rest = "/" + rest
	}
	return rest, rest == "" || rest[0] == '/'
}

// entries lists a directory.
func entries(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return names
}
