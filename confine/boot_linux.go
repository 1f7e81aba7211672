package confine

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// Starting the program that becomes init takes about as long as all that
// follows, and needs to know little of the sandbox. So it runs in parallel with the
// planning, and a WarmInit has it behind it before the session is asked for.

// bootKey is what must be known of a sandbox when its init is forked.
type bootKey struct {
	namespaces bool
	hostNet    bool // shares the host's network
	gate       bool // has a gate
	unconfined bool
	overlays   bool // mounts them
	uid, gid   int
	limits     sandbox.Limits // of the control group
}

func newBootKey(p *sandbox.Policy, id identity, level sandbox.Level) bootKey {
	return bootKey{
		namespaces: level == sandbox.LevelNamespaces || level == sandbox.LevelNamespacesNoProc,
		hostNet:    p.Network == sandbox.NetworkHost, unconfined: level == sandbox.LevelNone,
		overlays: p.GitStage != "" || p.Stage != "", gate: p.Network == sandbox.NetworkAllow,
		uid: id.uid, gid: id.gid, limits: p.Limits,
	}
}

// initProcess is an init that waits for its configuration. It has started nothing and
// has nothing of any session.
type initProcess struct {
	pid  int
	sock *os.File
	control
	in     *frameReader
	stderr *os.File // takes init's panics
	cgroup *cgroup
}

// control is the server's end of the socket to init.
type control struct {
	rc     syscall.RawConn
	sendMu *sync.Mutex
}

func newControl(sock *os.File) control {
	rc, _ := sock.SyscallConn()
	return control{rc, &sync.Mutex{}}
}

func (c control) send(e *encoder, fds ...int) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	return sendFrame(func(p, oob []byte) (n int, err error) {
		werr := c.rc.Write(func(fd uintptr) bool {
			n, err = rawSend(int(fd))(p, oob)
			return err != unix.EAGAIN
		})
		if werr != nil {
			return 0, werr
		}
		return n, err
	}, e, fds...)
}

func (c control) recv(p, oob []byte) (n, oobn, flags int, err error) {
	rerr := c.rc.Read(func(fd uintptr) bool {
		n, oobn, flags, err = rawRecv(int(fd))(p, oob)
		return err != unix.EAGAIN
	})
	if rerr != nil {
		return 0, 0, 0, rerr
	}
	return n, oobn, flags, err
}

// controlPair makes a socket to a child. The child's end is to be closed once it has it.
func controlPair(name string) (sock *os.File, theirs int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, err
	}
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
		return nil, -1, err
	}
	return os.NewFile(uintptr(pair[0]), name), pair[1], nil
}

// endChild kills a child of which nothing is to be learnt, and waits for its end.
func endChild(pid int) {
	unix.Kill(pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}

// boot starts an init and has it build base, which is nil at the levels without
// mounts. The fork is done by by, unless that is nil.
func boot(k bootKey, base *base, by *forkProcess, log *slog.Logger) (*initProcess, error) {
	sock, theirs, err := controlPair("sandbox")
	if err != nil {
		return nil, errorf("limit_reached", err, "the server has no descriptors left; close other sessions first")
	}
	defer unix.Close(theirs)
	b := &initProcess{sock: sock, cgroup: k.makeCgroup(log)}
	if err := b.fork(k, theirs, by, log); err != nil {
		b.sock.Close()
		b.cgroup.Remove()
		return nil, &unavailable{step: "create the namespaces", err: err}
	}
	b.control = newControl(b.sock)
	b.in = newFrameReader(b.recv)
	if base != nil {
		// An init that has gone is found out, with its last word, by whoever waits
		// for what it says next.
		if err := base.send(b.send); err != nil && !errors.Is(err, unix.EPIPE) {
			b.discard(log)
			return nil, err
		}
	}
	return b, nil
}

// built waits until init has built its base.
func (b *initProcess) built(log *slog.Logger) error {
	b.sock.SetReadDeadline(time.Now().Add(startTimeout))
	defer b.sock.SetReadDeadline(time.Time{})
	f, err := b.in.next()
	if err != nil {
		return err
	}
	defer f.close()
	if f.op != evBase {
		return failure(&f, log)
	}
	return nil
}

func (b *initProcess) fork(k bootKey, control int, by *forkProcess, log *slog.Logger) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		r.Close()
		return err
	}
	defer null.Close()
	pid, outside, err := forkBy(by, k, []uintptr{null.Fd(), null.Fd(), w.Fd(), uintptr(control)}, b.cgroup)
	if err != nil {
		r.Close()
		return err
	}
	// Init waits for its configuration, so it has started nothing yet.
	if err := b.cgroup.add(outside, pid); err != nil {
		log.Warn("control group not used", "error", err)
	}
	b.pid, b.stderr = pid, r
	return nil
}

// discard ends an init that was given nothing.
func (b *initProcess) discard(log *slog.Logger) {
	endChild(b.pid)
	b.sock.Close()
	b.stderr.Close()
	if err := b.cgroup.Remove(); err != nil {
		log.Warn("control group not removed", "error", err)
	}
}

// logPanics keeps what init wrote on its way down, which only a bug makes it do.
func logPanics(log *slog.Logger, stderr *os.File) {
	defer stderr.Close()
	b, _ := io.ReadAll(io.LimitReader(stderr, 16<<10))
	io.Copy(io.Discard, stderr)
	if len(b) > 0 {
		log.Error("sandbox init failed", "stderr", string(b))
	}
}

// initCaps are what init keeps inside its user namespace: to mount, to bring
// the loopback up, to set securebits, kernel limits of the namespace, to read the
// marks of commands and, for the supervisor, the names they pass to the kernel. They
// mean nothing outside it.
var initCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETPCAP, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_NICE, unix.CAP_SYS_PTRACE}

// overlayCaps are what the kernel asks of whoever mounts an overlay, with whose
// rights it then keeps the upper layer. They mean nothing about files of others,
// as only the session's own user and group are mapped.
var overlayCaps = []uintptr{unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_CHOWN}

func (k bootKey) attr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	root := os.Geteuid() == 0
	if root {
		// A root server can allow setgroups, and init drops the server's groups
		// with it: group 0 would otherwise still open files.
		attr.Credential = &syscall.Credential{Uid: uint32(k.uid), Gid: uint32(k.gid)}
	}
	if !k.namespaces {
		attr.Pdeathsig = syscall.SIGTERM
		return attr
	}
	attr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
		syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP
	if !k.hostNet {
		attr.Cloneflags |= syscall.CLONE_NEWNET
	}
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: k.uid, HostID: k.uid, Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: k.gid, HostID: k.gid, Size: 1}}
	attr.GidMappingsEnableSetgroups = root
	attr.AmbientCaps = initCaps
	if k.overlays {
		attr.AmbientCaps = slices.Concat(attr.AmbientCaps, overlayCaps)
	}
	if !k.hostNet {
		// The gate's ports are those of the world, and names are asked for on one too.
		attr.AmbientCaps = append(slices.Clone(attr.AmbientCaps), unix.CAP_NET_BIND_SERVICE)
	}
	return attr
}

// makeCgroup makes the session's control group, or nil. It is made for its share
// of the processors alone, and for what no rlimit can do: an ordinary uid in a
// user namespace has its processes counted by RLIMIT_NPROC.
func (k bootKey) makeCgroup(log *slog.Logger) *cgroup {
	if k.unconfined {
		return nil
	}
	lim := k.limits
	if k.namespaces && k.uid != 0 {
		lim.Procs = 0
	}
	cg, _, err := newCgroup(strconv.FormatUint(cgroupNumber.Add(1), 10), lim)
	if err != nil {
		log.Warn("control group not made", "error", err)
	}
	return cg
}

// cgroupNumber tells the sessions of one server apart.
var cgroupNumber atomic.Uint64
