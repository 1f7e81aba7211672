package confine

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A clone with a new user namespace cannot share the memory of who calls it, as the
// parent has to write the maps (syscall.ForkExec), so the kernel copies the page tables.
// From then on the first write to each page is a fault: a thousand of them for every
// session of a busy server, and more work than all else in its start. A forkProcess is a
// second process of the server's binary with hardly any memory, which forks inits for
// the server from the third on. They are the server's own children (CLONE_PARENT of
// clone(2)): the server waits for them, and they die with its thread that forks.
//
// It has what every child of the server has anyway, and no more: the same user, groups,
// capabilities and namespaces, an environment without secrets, and no descriptors but
// the socket. It knows of a session what its init's clone needs.
type forkProcess struct {
	mu   sync.Mutex
	off  bool // it is not asked any more
	pid  int
	sock *os.File
	control
	in *frameReader
}

// forkerName is the argv[0] under which the server's binary is a forkProcess.
const forkerName = "mcp-sandbox: forker"

// forkPatience bounds the wait for one fork, which is a few milliseconds.
const forkPatience = 10 * time.Second

// startForkProcess starts one.
func startForkProcess() (*forkProcess, error) {
	exe, err := selfExe()
	if err != nil {
		return nil, err
	}
	sock, theirs, err := controlPair("forker")
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	f := &forkProcess{sock: sock}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		f.sock.Close()
		return nil, err
	}
	defer null.Close()
	done := make(chan struct{})
	forks() <- func() {
		defer close(done)
		f.pid, err = syscall.ForkExec(fdPath(exe), []string{forkerName}, &syscall.ProcAttr{
			Dir: "/", Env: initEnv(), Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(theirs)},
			// setsid(2), so that signals of the server's terminal do not reach it.
			Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
		})
	}
	<-done
	if err != nil {
		f.sock.Close()
		return nil, err
	}
	f.control = newControl(f.sock)
	f.in = newFrameReader(f.recv)
	return f, nil
}

// forkBy forks an init for k in cg and returns its pid, and the directories of cg it
// still has to be moved into. by does it; the server does where by is nil or cannot.
func forkBy(by *forkProcess, k bootKey, files []uintptr, cg *cgroup) (int, []cgroupDir, error) {
	if groups, ok := cg.enterable(); ok && by != nil {
		if pid, asked, err := by.fork(k, files, groups); asked {
			return pid, nil, err
		}
	}
	return forkInit(k.attr(), files, cg)
}

// fork has f fork an init that is born in groups, which are of cgroup v1. It was not
// asked, or has refused, where the server is to do it. A lost answer is EAGAIN: there may
// be a child, which ends when its socket does, so a start has to begin again.
func (f *forkProcess) fork(k bootKey, files []uintptr, groups []string) (pid int, asked bool, err error) {
	m := newFrame(opFork)
	k.encode(m)
	m.strs(groups)
	fds := make([]int, len(files))
	for i, fd := range files {
		fds[i] = int(fd)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.off {
		return 0, false, nil
	}
	f.off = true
	if err := f.sock.SetDeadline(time.Now().Add(forkPatience)); err != nil {
		return 0, false, nil
	}
	if err := f.send(m, fds...); err != nil {
		return 0, true, unix.EAGAIN
	}
	a, err := f.in.next()
	if err != nil {
		return 0, true, unix.EAGAIN
	}
	defer a.close()
	pid, errno := a.num(), a.u32()
	if a.done() != nil {
		return 0, true, unix.EAGAIN
	}
	// What it once refuses the server asks of nobody but itself.
	f.off = errno != 0
	return pid, errno == 0, nil
}

// end ends f; inits that it forked live on.
func (f *forkProcess) end() {
	if f == nil {
		return
	}
	endChild(f.pid)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.in.close()
	f.sock.Close()
}

// runForkProcess is the life of a forkProcess.
func runForkProcess() {
	runtime.LockOSThread()
	if closeInherited() != nil {
		leave(1)
	}
	name := [16]byte{'f', 'o', 'r', 'k', 'e', 'r'}
	unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name)), 0)
	exe, err := selfExe()
	if err != nil {
		leave(1)
	}
	in := newFrameReader(rawRecv(controlFD))
	for {
		f, err := in.next()
		if err != nil || f.op != opFork {
			leave(0)
		}
		pid, errno := forkFor(exe, &f)
		m := newFrame(evAnswer)
		m.num(pid)
		m.u32(uint32(errno))
		if sendFrame(rawSend(controlFD), m) != nil {
			leave(0)
		}
	}
}

func forkFor(exe int, f *frame) (int, unix.Errno) {
	defer f.close()
	k := decodeBootKey(&f.decoder)
	groups := f.strs()
	if f.done() != nil || len(f.fds) == 0 {
		return 0, unix.EINVAL
	}
	files := make([]uintptr, len(f.fds))
	for i, fd := range f.fds {
		files[i] = uintptr(fd)
	}
	for _, g := range groups {
		if err := writeCgroupFile(filepath.Join(g, "tasks"), "0"); err != nil {
			return 0, max(errnoOf(err), 1)
		}
		defer func() {
			// Else the next session would begin in the group of this one.
			if writeCgroupFile(filepath.Join(filepath.Dir(g), "tasks"), "0") != nil {
				leave(1)
			}
		}()
	}
	attr := k.attr()
	attr.Cloneflags |= unix.CLONE_PARENT
	pid, err := syscall.ForkExec(fdPath(exe), []string{initName}, &syscall.ProcAttr{Dir: "/", Env: initEnv(), Files: files, Sys: attr})
	if err != nil {
		return 0, max(errnoOf(err), 1)
	}
	return pid, 0
}

func (k bootKey) encode(m *encoder) {
	m.flag(k.hostNet)
	m.flag(k.gate)
	m.flag(k.overlays)
	m.num(k.uid)
	m.num(k.gid)
}

// decodeBootKey is what attr needs of a key with namespaces.
func decodeBootKey(d *decoder) bootKey {
	return bootKey{namespaces: true, hostNet: d.flag(), gate: d.flag(), overlays: d.flag(), uid: d.num(), gid: d.num()}
}
