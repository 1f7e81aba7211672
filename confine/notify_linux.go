package confine

import (
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// A notifySupervisor makes, for the commands, what they may make. Every system
// call that makes a name, opens one for writing, moves or removes it is handed
// to init (seccomp_unotify(2)), which reads the name once, resolves it to a
// directory and one last component, judges that place and does the call itself:
// with the caller's working directory, umask and identity and without any
// capability over files. An opened file is put into the caller's table
// (SECCOMP_IOCTL_NOTIF_ADDFD).
//
// Init never answers that the kernel may go on, except for connections, which it
// looks at only to explain what comes of them (notify_net_linux.go). What was judged
// is what is done, so a caller that rewrites the name meanwhile, or that names it in
// a way init reads differently, changes nothing but its own result; and what cannot
// be read is refused.
//
// Mounts (protect_linux.go) hold what exists; the supervisor holds what does not
// exist yet, links, and what a program outside has just put in place of a mount.
type notifySupervisor struct {
	s       *initState
	files   bool              // supervises more than the network
	staged  bool              // renames in any case
	root    int               // O_PATH descriptor of the root all commands have
	fds     int               // O_PATH descriptor of init's own /proc/self/fd
	procDev uint64            // device of /proc
	waiting chan *waitingOpen // pointers, or its room alone would be 50 KB of each session
	moving  chan movingDir    // of a staged workspace
	waiters sync.Once
	// binding excludes every other change while a socket gets its name, which is
	// the one act that gives the kernel a whole path.
	binding sync.RWMutex
}

// notification is struct seccomp_notif, notifyReply struct seccomp_notif_resp
// and notifyFD struct seccomp_notif_addfd (linux/seccomp.h).
type notification struct {
	id         uint64
	pid, state uint32 // state is of the notification, always 0
	number     int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type notifyReply struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

type notifyFD struct {
	id         uint64
	flags      uint32
	srcfd      uint32
	newfd      uint32
	newfdFlags uint32
}

const (
	notifyRecv     = 0xc0502100
	notifySend     = 0xc0182101
	notifyIDValid  = 0x40082102
	notifyAddFD    = 0x40182103
	notifySetFlags = 0x40082104

	notifySyncWakeUp = 1 // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6
	notifyContinue   = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE, Linux 5.5
)

// supervisorThreads answer calls at the same time.
const supervisorThreads = 2

// gapSupervisor names the gap of a kernel without user notification that can
// hand out descriptors (before 5.9).
const gapSupervisor = "supervision of protected paths"

// gapConns names the same gap where it hides nothing but why a connection failed.
const gapConns = "explanations of refused connections"

// installSupervisor puts the filter on the calling thread and starts the
// threads that answer, where there is something to protect or to explain.
func (s *initState) installSupervisor() error {
	staged := len(s.cfg.Stage) > 0
	files := len(s.cfg.Protect) > 0 || s.git != nil
	if !s.cfg.Namespaces || !files && !staged && s.cfg.Network == sandbox.NetworkHost {
		return nil
	}
	v := &notifySupervisor{s: s, files: files, staged: staged, waiting: make(chan *waitingOpen, maxWaiting)}
	if staged {
		v.moving = make(chan movingDir, maxMoving)
		go v.keepMoving()
	}
	var err error
	if v.root, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc", &st); err != nil {
		return err
	}
	v.procDev = st.Dev
	if v.fds, err = unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if err := v.install(); err != nil {
		name := gapConns
		if files {
			name = gapSupervisor
		}
		s.gap(name, err)
		return nil
	}
	s.supervisor = v
	return nil
}

// install puts the filter on the calling thread.
func (v *notifySupervisor) install() error {
	prog := supervisorFilter(v.files, v.s.git != nil, v.staged, v.s.cfg.Network)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	install := func(flags uintptr) (uintptr, unix.Errno) {
		fd, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
		return fd, e
	}
	// Killable waits (Linux 5.19) keep the signals of the Go runtime and of job
	// control from restarting calls that have been carried out.
	fd, e := install(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if e == unix.EINVAL {
		fd, e = install(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	}
	if e != 0 {
		return e
	}
	// Waking the other side on the same processor takes half the time.
	unix.Syscall(unix.SYS_IOCTL, fd, notifySetFlags, notifySyncWakeUp)
	for range supervisorThreads {
		go v.serve(int(fd))
	}
	v.waiters.Do(func() { go v.keepWaiting() })
	return nil
}

// supervisorFilter hands the supervised calls to the listener, with files also those
// that change names, with changes those that change modes, with renames those that rename. Opens that only
// read and make nothing pass: their flags are in a register.
func supervisorFilter(files, changes, renames bool, network sandbox.Network) []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		set   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	prog := []unix.SockFilter{{Code: load, K: dataNr}}
	for _, c := range supervisedCalls {
		if c.kind == callConnect || c.kind == callSocket {
			prog = append(prog, networkFilter(c, network)...)
			continue
		}
		if !files && !(renames && c.kind == callRename) || c.kind.isChange() && !changes {
			continue
		}
		if c.kind != callOpen || c.flags < 0 {
			prog = append(prog, unix.SockFilter{Code: equal, K: uint32(c.nr), Jf: 1},
				unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF})
			continue
		}
		prog = append(prog, unix.SockFilter{Code: equal, K: uint32(c.nr), Jf: 5},
			unix.SockFilter{Code: load, K: uint32(dataArgs + 8*int(c.flags))},
			// O_PATH makes the kernel ignore all that matters here.
			unix.SockFilter{Code: set, K: unix.O_PATH, Jt: 2},
			unix.SockFilter{Code: set, K: changingFlags, Jf: 1},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF},
			unix.SockFilter{Code: ret, K: retAllow})
	}
	return append(prog, unix.SockFilter{Code: ret, K: retAllow})
}

// changingFlags are the open flags with which a file is made or can be written.
// The access mode 3 opens for ioctls alone, and asks for the right to write.
const changingFlags = unix.O_ACCMODE | unix.O_CREAT | unix.O_TRUNC

// serve answers notifications for ever.
func (v *notifySupervisor) serve(listener int) {
	t := &supervisorThread{notifySupervisor: v, listener: listener}
	if err := t.restrict(); err != nil {
		leave(1) // calls would wait for ever
	}
	for {
		var n notification
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifyRecv, uintptr(unsafe.Pointer(&n))); e != 0 {
			if e == unix.EINTR || e == unix.ENOENT {
				continue // the caller died meanwhile
			}
			return
		}
		t.answer(&n)
	}
}

// supervisorThread is one thread that does calls for commands.
type supervisorThread struct {
	*notifySupervisor
	listener int
	umask    int
	tasks    keptTasks
	text     [unix.PathMax]byte // what is being read: a name, a link, a status
}

// restrict takes from the calling thread what its callers do not have either:
// the capabilities over files. It keeps those to look at callers, and gets a
// working directory and a umask of its own.
func (t *supervisorThread) restrict() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	t.setUmask(0o022)
	// Restricted as commands are in all that decides about files: uid 0 would
	// otherwise pass every permission in its namespace.
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	look := unix.CapUserData{}
	look.Effective = 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_SYS_NICE // the latter for marks
	look.Permitted = look.Effective
	data := [2]unix.CapUserData{look}
	return unix.Capset(&hdr, &data[0])
}

func (t *supervisorThread) setUmask(m int) {
	if m != t.umask {
		syscall.Umask(m)
		t.umask = m
	}
}

// reply is the result of one call.
type reply struct {
	err     unix.Errno
	val     int64
	fd      int  // to be put into the caller's table; none without
	cloexec bool // of fd there
	later   bool // another thread answers
	pass    bool // the kernel goes on with the call
	alone   bool // it has to be done while no other one is
}

func failed(err error) reply {
	e := errnoOf(err)
	if e == 0 {
		e = unix.EACCES
	}
	return reply{err: e, fd: none}
}

// answer carries out one call and tells the caller.
func (t *supervisorThread) answer(n *notification) {
	r := reply{err: unix.ENOSYS, fd: none}
	for i := range supervisedCalls {
		if c := &supervisedCalls[i]; c.nr == int(n.number) {
			who := &caller{t: t, id: n.id, tid: int(n.pid), pidfd: none}
			r = t.turn(&request{notification: n, supervisedCall: c, who: who})
			who.close()
			break
		}
	}
	if !r.later {
		t.send(n.id, r)
	}
}

// send hands out the result. A caller that has died gets none. Init's own copy of
// a file is closed before the caller goes on: who closes a program after writing
// it may run it at once (ETXTBSY).
func (t *supervisorThread) send(id uint64, r reply) {
	if r.fd >= 0 {
		a := notifyFD{id: id, srcfd: uint32(r.fd)}
		if r.cloexec {
			a.newfdFlags = unix.O_CLOEXEC
		}
		fd, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(t.listener), notifyAddFD, uintptr(unsafe.Pointer(&a)))
		unix.Close(r.fd)
		r = reply{val: int64(fd), err: e} // EMFILE
		if e != 0 {
			r.val = 0
		}
	}
	t.tell(id, r)
}

func (t *supervisorThread) tell(id uint64, r reply) {
	a := notifyReply{id: id, val: r.val, err: -int32(r.err)}
	if r.pass {
		a = notifyReply{id: id, flags: notifyContinue}
	}
	unix.Syscall(unix.SYS_IOCTL, uintptr(t.listener), notifySend, uintptr(unsafe.Pointer(&a)))
}

// waits says whether the caller still waits for id: what was read of it before
// is its own only then.
func (t *supervisorThread) waits(id uint64) bool {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(t.listener), notifyIDValid, uintptr(unsafe.Pointer(&id)))
	return e == 0
}
