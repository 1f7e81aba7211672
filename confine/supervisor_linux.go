package confine

import (
	"path"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The guard keeps protected paths that do not exist from being made. No mount
// can do that without a stub on the host, and Landlock has no rule for a single
// name. So the system calls that make names are handed to init first
// (seccomp_unotify(2)), which reads the name, resolves it as the kernel would,
// and answers EPERM for a protected one; for every other it lets the kernel go
// on.
//
// Its limit is the one seccomp_unotify(2) warns of: a program that rewrites the
// name from another thread between the look and the call gets past it. What
// exists at that moment is not in danger, because that is held by mounts; a
// protected path that did not exist may then be made, and is held by a mount
// from the next command on. Programs that do not try this cannot make one.
//
// A call costs some tens of microseconds more, and only calls that make names do
// (BenchmarkCreateFiles).

// supervisedCall is one system call the supervisor looks at, by where its arguments are.
type supervisedCall struct {
	nr   int
	dir  int // argument with the directory descriptor, -1 for the working directory
	path int // argument with the name
	// flags is the argument with open flags: only with O_CREAT is a name made.
	// -1 when the call always makes one; howFlags when they lie in memory.
	flags int
	// whole calls put a finished thing in place, so that a parent of a protected
	// path must not be their name either.
	whole bool
}

const howFlags = -2

// guardFilter hands the guarded calls to the listener.
func supervisorFilter() []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		set   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	prog := []unix.SockFilter{{Code: load, K: dataNr}}
	for _, g := range supervisedCalls {
		if g.flags < 0 {
			prog = append(prog, unix.SockFilter{Code: equal, K: uint32(g.nr), Jf: 1},
				unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF})
			continue
		}
		prog = append(prog, unix.SockFilter{Code: equal, K: uint32(g.nr), Jf: 4},
			unix.SockFilter{Code: load, K: uint32(dataArgs + 8*g.flags)},
			unix.SockFilter{Code: set, K: unix.O_CREAT, Jf: 1},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF},
			unix.SockFilter{Code: ret, K: retAllow})
	}
	return append(prog, unix.SockFilter{Code: ret, K: retAllow})
}

// notification is struct seccomp_notif, verdict struct seccomp_notif_resp
// (linux/seccomp.h).
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type verdict struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

const (
	notifyRecv    = 0xc0502100
	notifySend    = 0xc0182101
	notifyIDValid = 0x40082102
)

// installGuard puts the guard on the calling thread, where there is something
// to guard that can be.
func (s *initState) installGuard() error {
	if len(s.cfg.Protect) == 0 || !s.cfg.Namespaces {
		return nil
	}
	if s.foreignProc {
		// The caller's working directory is looked up in /proc by its number.
		s.gap(gapSupervisor, unix.EOPNOTSUPP)
		return nil
	}
	prog := supervisorFilter()
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	install := func(flags uintptr) (uintptr, unix.Errno) {
		fd, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
		return fd, e
	}
	// Killable waits (Linux 5.19) keep the signals of the Go runtime and of job
	// control from restarting calls over and over.
	fd, e := install(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if e == unix.EINVAL {
		fd, e = install(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	}
	if e != 0 {
		s.gap(gapSupervisor, e)
		return nil
	}
	for range 2 {
		go s.notifySupervisor(int(fd))
	}
	return nil
}

// gapSupervisor names the gap of a kernel without user notification (before 5.5).
const gapSupervisor = "protection of missing paths"

// notifySupervisor answers notifications for ever, on an unrestricted thread.
func (s *initState) notifySupervisor(fd int) {
	runtime.LockOSThread()
	for {
		var n notification
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifyRecv, uintptr(unsafe.Pointer(&n))); e != 0 {
			if e == unix.EINTR || e == unix.ENOENT {
				continue // the caller died meanwhile
			}
			return
		}
		v := verdict{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if !s.mayMake(&n) {
			v.err, v.flags = -int32(unix.EPERM), 0
		}
		// What was read belongs to the caller only if it still waits.
		unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifyIDValid, uintptr(unsafe.Pointer(&n.id)))
		unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifySend, uintptr(unsafe.Pointer(&v)))
	}
}

// mayMake judges one call. What cannot be read or resolved is left to the
// kernel where the kernel will fail in the same way, and refused otherwise.
func (s *initState) mayMake(n *notification) bool {
	for _, g := range supervisedCalls {
		if g.nr != int(n.nr) {
			continue
		}
		flags := uint64(unix.O_NOFOLLOW)
		if g.flags >= 0 {
			flags = n.args[g.flags]
		} else if g.flags == howFlags {
			b := readMemory(int(n.pid), n.args[2], 8)
			if len(b) < 8 {
				return true // EFAULT
			}
			flags = *(*uint64)(unsafe.Pointer(&b[0]))
			if flags&unix.O_CREAT == 0 {
				return true
			}
		}
		dir := int32(unix.AT_FDCWD)
		if g.dir >= 0 {
			dir = int32(n.args[g.dir])
		}
		if !s.mayName(n, dir, n.args[g.path], flags, g.whole) {
			return false
		}
		// An exchange puts a thing in place at both names.
		if g.nr == unix.SYS_RENAMEAT2 && n.args[4]&unix.RENAME_EXCHANGE != 0 {
			return s.mayName(n, int32(n.args[0]), n.args[1], flags, true)
		}
		return true
	}
	return true
}

func (s *initState) mayName(n *notification, dir int32, addr uint64, flags uint64, whole bool) bool {
	tid := itoa(int(n.pid))
	b := readMemory(int(n.pid), addr, unix.PathMax)
	i := strings.IndexByte(string(b), 0)
	if i <= 0 {
		return true // EFAULT, ENAMETOOLONG or ENOENT
	}
	name := string(b[:i])
	from := "/proc/" + tid + "/cwd"
	if dir != unix.AT_FDCWD {
		from = "/proc/" + tid + "/fd/" + itoa(int(dir))
	}
	if name[0] == '/' {
		from = "/"
	}
	at, err := unix.Open(from, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return true // EBADF
	}
	defer func() { unix.Close(at) }()
	for range 40 {
		name = strings.TrimRight(name, "/")
		parent, base := path.Split(name)
		if base == "" || base == "." || base == ".." {
			return true // exists
		}
		if parent == "" {
			parent = "."
		}
		// /proc/self is the reader's own; the caller's is meant.
		for _, self := range []string{"/proc/self/", "/proc/thread-self/"} {
			if rest, ok := strings.CutPrefix(parent, self); ok {
				parent = "/proc/" + tid + "/" + rest
			}
		}
		next, err := openat2(at, parent, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_MAGICLINKS)
		if err == unix.ELOOP {
			return false // through a magic link: nobody needs that to make a file
		}
		if err != nil {
			return true // the kernel fails on it as well
		}
		unix.Close(at)
		at = next
		var link [unix.PathMax]byte
		where, err := unix.Readlink("/proc/self/fd/"+itoa(at), link[:])
		if err != nil {
			return false
		}
		if s.protects(path.Join(string(link[:where]), base), whole) {
			return false
		}
		if flags&unix.O_NOFOLLOW != 0 || flags&unix.O_EXCL != 0 {
			return true
		}
		m, err := unix.Readlinkat(at, base, link[:])
		if err != nil {
			return true // not a link
		}
		name = string(link[:m])
	}
	return true // ELOOP
}

// protects says whether making p would make or replace a protected path.
func (s *initState) protects(p string, whole bool) bool {
	for _, q := range s.cfg.Protect {
		if within(p, q) || whole && within(q, p) {
			return true
		}
	}
	return false
}

// readMemory reads at most n bytes at addr of a process, page by page, as a name
// may end just before an unmapped page.
func readMemory(pid int, addr uint64, n int) []byte {
	buf := make([]byte, n)
	got := 0
	for got < n {
		part := min(n-got, int(4096-(addr+uint64(got))%4096))
		local := []unix.Iovec{{Base: &buf[got], Len: uint64(part)}}
		remote := []unix.RemoteIovec{{Base: uintptr(addr) + uintptr(got), Len: part}}
		m, err := unix.ProcessVMReadv(pid, local, remote, 0)
		if err != nil || m <= 0 {
			break
		}
		if i := strings.IndexByte(string(buf[got:got+m]), 0); i >= 0 && n == unix.PathMax {
			return buf[:got+m]
		}
		got += m
	}
	return buf[:got]
}
