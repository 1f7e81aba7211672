package confine

import (
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	denylist "mcp-sandbox/deny"
	"mcp-sandbox/sandbox"
)

// controlFD is the socket among the descriptors the server forks init with: 0 and
// 1 are /dev/null, 2 takes panics. All others come over the socket.
const controlFD = 3

// setupError is a step of init that failed, on its way to the server.
type setupError struct {
	step string
	err  error
}

// initState is what init's parts share.
type initState struct {
	base  *baseConfig // nil without mounts
	cfg   *initConfig
	trees []int // opened by a root server, by bind.Tree
	root  *root

	null int // /dev/null of the sandbox
	mark int // the spawner's timerslack_ns, see tree_linux.go; -1 without

	children int // the spawner's children, see reaper.gone; -1 without

	scoped  bool      // the Landlock domain keeps signals inside
	killKey [4]uint32 // see initRules

	foreignProc bool                         // /proc is the host's, so are its numbers
	protected   atomic.Pointer[protectedSet] // what protectPaths last saw
	watch       *watch                       // nil without one
	sealed      map[string]bool              // what it has mounted read-only once
	supervisor  *notifySupervisor            // nil where nothing is protected
	ops         chan func()                  // for init's unrestricted threads
	threads     sync.WaitGroup               // handlers in place and spare threads made
	kept        sync.WaitGroup               // spare threads free again, after threads

	proc int // the session's, writable until it is hung in the root; -1 without

	gate *gate // nil without one

	portsClosed bool // ports below 1024 need a capability
	names       int  // the socket for names, opened while init had it; 0 without

	git *gitStage // nil where git directories are not staged

	// stage is the directory of a staged workspace's layers, merged the mount of it
	// (without one the stage of git directories, where that is in memory)
	// that the server gets.
	stage, merged int

	gaps []string // layers init could not have, as name=reason

	hide *denylist.List // nil hides nothing

	sendMu sync.Mutex
	reaper *reaper
}

// runInit is the whole life of a sandbox's init: pid 1 of its pid namespace (at
// the landlock level an ordinary process that adopts orphans).
//
// It runs on the main thread, which ends up carrying every restriction and
// forks every command, so that commands inherit them and nothing has to be
// applied per command. Init's other threads keep their rights inside the user
// namespace: they reap, signal, and remount masks.
func runInit() {
	runtime.LockOSThread()
	s := &initState{null: -1, mark: -1, children: -1, merged: -1}
	if e := perform(s.preparation()); e != nil {
		s.fail(e)
	}
	in := newFrameReader(rawRecv(controlFD))
	f := s.nextSetupFrame(in)
	var err error
	if f.op == opBase {
		if s.base, err = decodeBase(&f.decoder); err != nil {
			s.fail(&setupError{"read the base", err})
		}
		if e := perform(s.foundation()); e != nil {
			s.fail(e)
		}
		if err := s.send(newFrame(evBase)); err != nil {
			leave(1)
		}
		s.keepThreads()
		f = s.nextSetupFrame(in)
	} else {
		s.keepThreads()
	}
	if f.op != opConfig {
		leave(1)
	}
	if s.cfg, err = decodeConfig(&f.decoder); err != nil {
		s.fail(&setupError{"read the configuration", err})
	}
	if e := perform(s.setUp()); e != nil {
		s.fail(e)
	}
	var fds []int
	if s.merged >= 0 {
		fds = append(fds, s.merged)
	}
	if err := s.send(s.ready(), fds...); err != nil {
		leave(1)
	}
	closeAll(fds)
	s.serve(in)
}

// nextSetupFrame is the next frame of the set-up, after the trees it names. It does not
// return when the server has gone.
func (s *initState) nextSetupFrame(in *frameReader) frame {
	for {
		f, err := in.next()
		if err != nil {
			leave(1)
		}
		if f.op != opMounts {
			return f
		}
		s.trees = append(s.trees, f.fds...)
	}
}

type step struct {
	name string
	run  func() error
}

func perform(steps []step) *setupError {
	for _, st := range steps {
		if err := st.run(); err != nil {
			return &setupError{st.name, err}
		}
	}
	return nil
}

// preparation is what init does before it knows what for: the server plans the
// sandbox meanwhile, or nobody has asked for one yet.
func (s *initState) preparation() []step {
	return []step{
		// First of all: a directory descriptor leaked by whoever started the
		// server would be a way out (CVE-2024-21626).
		{"close inherited descriptors", closeInherited},
		{"protect init", protectSelf},
		{"reset signals", s.resetSignals},
		{"start init's threads", s.startThreads},
	}
}

// foundation is what init does when it knows for which user, but of no session
// yet.
func (s *initState) foundation() []step {
	return []step{
		{"make /proc", s.makeProc},
		{"set kernel limits of the namespaces", s.namespaceSysctls},
		{"set the host name", s.setHostName},
		{"bring the loopback interface up", s.loopbackUp},
		{"hold the port of names", s.holdNames},
		{"make the gate", s.makeGate},
		{"build the base of the file system", s.buildBase},
		{"wait for the gate", s.gateMade},
	}
}

// setUp is the ordered list of what makes the sandbox. Each step says why it
// stands where it does.
func (s *initState) setUp() []step {
	steps := []step{
		{"follow the server", s.followServer},
		// Needs the host's /proc, so before init moves to the new root.
		{"mark commands", s.openMark},
	}
	if s.cfg.Namespaces {
		steps = append(steps, step{"build the root file system", s.buildRoot}, step{"hide paths", s.hideRest}, step{"watch protected paths", s.watchProtected})
	}
	steps = append(steps,
		// Of the /proc that marks are read in, for its numbers.
		step{"list children", s.openChildren},
		step{"open the null device", s.openNull},
		step{"set resource limits", s.setLimits},
		// Last, because each of these takes away what the steps before need:
		// Landlock forbids mounting, the filter forbids most of the rest.
		step{"drop privileges", s.dropPrivileges},
		step{"enter the Landlock domain", s.enterLandlock},
		step{"install the system call filter", s.installSeccomp},
	)
	return steps
}

// leave ends init. It runs nothing that is registered for the end of a program,
// as os.Exit does, where the race detector waits for a second.
func leave(code int) { unix.Exit(code) }

// fail tells the server which step failed and ends init.
func (s *initState) fail(e *setupError) {
	m := newFrame(evFailed)
	m.str(e.step)
	m.u32(uint32(errnoOf(e.err)))
	m.str(e.err.Error())
	s.send(m)
	leave(1)
}

// ready lists what was unavailable.
func (s *initState) ready() *encoder {
	m := newFrame(evReady)
	m.strs(s.gaps)
	return m
}

func (s *initState) gap(layer string, err error) {
	s.gaps = append(s.gaps, layer+"="+err.Error())
}

func (s *initState) send(m *encoder, fds ...int) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	return sendFrame(rawSend(controlFD), m, fds...)
}

func errnoOf(err error) unix.Errno {
	for err != nil {
		if e, ok := err.(unix.Errno); ok {
			return e
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = u.Unwrap()
	}
	return 0
}

// closeInherited closes all but the descriptors meant for init, and keeps those
// from commands.
//
// What this process has opened itself stays: a package that reads a file while
// it is initialised makes the runtime open its poller, which it cannot do
// without. Such descriptors are close-on-exec, and an inherited one cannot be,
// or it would not be here.
func closeInherited() error {
	const looked = 256 // the lowest free numbers are taken, so what is ours is low
	first := uint(controlFD + 1)
	var gaps [][2]uint
	for fd := first; fd < looked; fd++ {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC != 0 {
			if fd > first {
				gaps = append(gaps, [2]uint{first, fd - 1})
			}
			first = fd + 1
		}
	}
	gaps = append(gaps, [2]uint{first, ^uint(0) >> 33})
	if err := unix.CloseRange(0, ^uint(0)>>33, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return err
	}
	for _, g := range gaps {
		if err := unix.CloseRange(g[0], g[1], 0); err != nil {
			return err
		}
	}
	return nil
}

func protectSelf() error {
	syscall.Umask(0) // modes are exact while the root is built
	name := [16]byte{'i', 'n', 'i', 't'}
	unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name)), 0)
	// Undumpable: without it a command of the same uid could trace init or open
	// its descriptors through /proc, and init has rights no command has.
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// resetSignals gives commands a clean start (empty mask, default dispositions)
// and makes init immune to what they send. Pid 1 only escapes signals with the
// default disposition while they are not blocked, and the Go runtime blocks all
// for moments; so every deadly one has a handler. signal.Ignore would be
// inherited by commands and is of no use here.
func (s *initState) resetSignals() error {
	resetIgnored()
	// In parallel with what follows, like the threads below; waited for before a command can
	// send any.
	s.threads.Go(func() {
		//lint:ignore SA1017 nothing receives, so there is nothing to miss
		signal.Notify(make(chan os.Signal), // never received: a full channel discards
			unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGABRT, unix.SIGILL,
			unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS, unix.SIGSTKFLT)
	})
	if err := catchReservedSignals(); err != nil {
		return err
	}
	var none unix.Sigset_t
	return unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil)
}

func (s *initState) followServer() error {
	// The server is init's parent: when it dies, so does the sandbox. The
	// landlock level must clean up behind itself and gets a chance to.
	sig := unix.SIGKILL
	if !s.cfg.Namespaces {
		sig = unix.SIGTERM
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(sig), 0, 0, 0)
}

func (s *initState) openNull() error {
	var err error
	s.null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	return err
}

func (s *initState) loopbackUp() error {
	if s.base.Network != sandbox.NetworkLoopback && s.base.Network != sandbox.NetworkAllow {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// onPrivilegedThread runs f on an unrestricted thread and waits for it.
func (s *initState) onPrivilegedThread(f func()) {
	done := make(chan struct{})
	s.ops <- func() { f(); close(done) }
	<-done
}

func (s *initState) startThreads() error {
	s.ops = make(chan func(), 64)
	s.reaper = newReaper(s)
	go s.reaper.run()
	go func() {
		for f := range s.ops {
			f()
		}
	}()
	return nil
}

// keepThreads makes the spareThreads. The steps before have left some, which are used:
// none goes away, and each takes 20 KB.
func (s *initState) keepThreads() {
	// All hold their thread until the last has one, so each gets its own. What lets them
	// go runs on one more.
	var down sync.WaitGroup
	s.threads.Add(spareThreads - 1)
	s.kept.Add(spareThreads - 1)
	down.Add(1)
	for range spareThreads - 1 {
		go func() {
			runtime.LockOSThread()
			s.threads.Done()
			down.Wait()
			runtime.UnlockOSThread()
			s.kept.Done()
		}()
	}
	go func() {
		s.threads.Wait()
		down.Done()
	}()
}

// dropPrivileges leaves the calling thread, and so every command, without any
// capability and without a way to regain one. The bounding set stays full: it
// is inert under no_new_privs, and emptying it costs forty system calls.
func (s *initState) dropPrivileges() error {
	if s.cfg.Unconfined {
		return nil
	}
	const locked = 1<<0 | 1<<1 | // NOROOT: uid 0 is nobody special
		1<<2 | 1<<3 | // NO_SETUID_FIXUP
		1<<5 | // KEEP_CAPS locked off
		1<<6 | 1<<7 // NO_CAP_AMBIENT_RAISE
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, locked, 0, 0, 0); err != nil && err != unix.EPERM {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&hdr, &none[0]); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

func (s *initState) installSeccomp() error {
	if len(s.cfg.Seccomp) == 0 {
		return nil
	}
	if err := s.installOwnFilter(); err != nil {
		return err
	}
	// Before the main filter, which allows no further one.
	if err := s.installSupervisor(); err != nil {
		return err
	}
	if s.supervisor == nil && s.cfg.Network == sandbox.NetworkNone {
		if err := seccompInstall(refuseSockets()); err != nil {
			return err
		}
	}
	return seccompInstall(s.cfg.Seccomp)
}
