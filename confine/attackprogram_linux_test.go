package confine

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The hostile programs of the attack suite: this test binary, run inside the
// sandbox. Each prints a line for every attack that was won and its counts last.

// attackEnv names the program to be.
const attackEnv = "CONFINE_TEST_ATTACK"

func runAttack(program string) {
	a := &attacker{}
	a.cwd, _ = os.Getwd()
	switch program {
	case "make":
		a.makeAll(os.Args[1:])
	case "race":
		a.race(os.Args[1], os.Args[2])
	case "lurk":
		a.lurk(os.Args[1:])
	case "change":
		a.changeAll(os.Args[1:])
	case "battery":
		battery()
		os.Exit(0)
	}
	fmt.Printf("attempts %d won %d\n", a.tried, a.won)
	os.Exit(0)
}

type attacker struct {
	cwd        string
	tried, won int
	name       func(string) *byte // where names lie
}

// spelling is one way to name a file of the working directory.
type spelling struct {
	name string
	to   func(a *attacker, p string) (dir int, path string)
}

func held(a *attacker) int {
	fd, _ := unix.Open(a.cwd, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return fd
}

var spellings = []spelling{
	{"relative", func(_ *attacker, p string) (int, string) { return unix.AT_FDCWD, p }},
	{"dot", func(_ *attacker, p string) (int, string) { return unix.AT_FDCWD, "./" + p }},
	{"absolute", func(a *attacker, p string) (int, string) { return unix.AT_FDCWD, a.cwd + "/" + p }},
	{"slashes", func(a *attacker, p string) (int, string) { return unix.AT_FDCWD, "//" + a.cwd + "//.//" + p }},
	{"dotdot", func(a *attacker, p string) (int, string) {
		return unix.AT_FDCWD, "../" + filepath.Base(a.cwd) + "/" + p
	}},
	{"link", func(_ *attacker, p string) (int, string) { return unix.AT_FDCWD, "dot/dot/" + p }},
	{"absolute link", func(_ *attacker, p string) (int, string) { return unix.AT_FDCWD, "here/" + p }},
	{"link into /proc", func(_ *attacker, p string) (int, string) { return unix.AT_FDCWD, "proc/" + p }},
	{"/proc/self/cwd", func(_ *attacker, p string) (int, string) { return unix.AT_FDCWD, "/proc/self/cwd/" + p }},
	{"/proc/./self/cwd", func(_ *attacker, p string) (int, string) { return unix.AT_FDCWD, "/proc/./self/cwd/" + p }},
	{"/proc/thread-self/cwd", func(_ *attacker, p string) (int, string) { return unix.AT_FDCWD, "/proc/thread-self/cwd/" + p }},
	{"/proc/PID/cwd", func(_ *attacker, p string) (int, string) {
		return unix.AT_FDCWD, "/proc/" + strconv.Itoa(os.Getpid()) + "/cwd/" + p
	}},
	{"/proc/self/root", func(a *attacker, p string) (int, string) { return unix.AT_FDCWD, "/proc/self/root" + a.cwd + "/" + p }},
	{"/proc/self/fd", func(a *attacker, p string) (int, string) {
		return unix.AT_FDCWD, "/proc/self/fd/" + strconv.Itoa(held(a)) + "/" + p
	}},
	{"/dev/fd", func(a *attacker, p string) (int, string) {
		return unix.AT_FDCWD, "/dev/fd/" + strconv.Itoa(held(a)) + "/" + p
	}},
	{"descriptor", func(a *attacker, p string) (int, string) { return held(a), p }},
	{"descriptor of the root", func(a *attacker, p string) (int, string) {
		fd, _ := unix.Open("/", unix.O_PATH, 0)
		return fd, a.cwd[1:] + "/" + p
	}},
}

// call makes a name in one way.
type call struct {
	name string
	run  func(a *attacker, dir int, p string) error
}

func (a *attacker) at(nr uintptr, dir int, p string, rest ...uintptr) error {
	var r [4]uintptr
	copy(r[:], rest)
	return sys(nr, uintptr(dir), uintptr(unsafe.Pointer(a.name(p))), r[0], r[1], r[2], r[3])
}

func sys(nr uintptr, args ...uintptr) error {
	var r [6]uintptr
	copy(r[:], args)
	fd, _, e := unix.Syscall6(nr, r[0], r[1], r[2], r[3], r[4], r[5])
	if e != 0 {
		return e
	}
	switch nr {
	case unix.SYS_OPENAT, unix.SYS_OPENAT2:
		unix.Close(int(fd))
	}
	return nil
}

// source makes something to be put in place.
func source(dir bool) string {
	p := "src" + strconv.Itoa(os.Getpid())
	unix.Unlink(p)
	unix.Rmdir(p)
	if dir {
		unix.Mkdir(p, 0o755)
	} else if fd, err := unix.Open(p, unix.O_CREAT|unix.O_WRONLY, 0o644); err == nil {
		unix.Close(fd)
	}
	return p
}

var makers = []call{
	{"openat O_CREAT", func(a *attacker, d int, p string) error {
		return a.at(unix.SYS_OPENAT, d, p, unix.O_CREAT|unix.O_WRONLY, 0o644)
	}},
	{"openat O_CREAT|O_RDONLY", func(a *attacker, d int, p string) error {
		return a.at(unix.SYS_OPENAT, d, p, unix.O_CREAT, 0o644)
	}},
	{"openat O_CREAT|O_EXCL", func(a *attacker, d int, p string) error {
		return a.at(unix.SYS_OPENAT, d, p, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o644)
	}},
	{"openat2", func(a *attacker, d int, p string) error {
		how := unix.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o644}
		return a.at(unix.SYS_OPENAT2, d, p, uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how))
	}},
	{"openat2 beneath", func(a *attacker, d int, p string) error {
		how := unix.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o644, Resolve: unix.RESOLVE_BENEATH}
		return a.at(unix.SYS_OPENAT2, d, p, uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how))
	}},
	{"mkdirat", func(a *attacker, d int, p string) error { return a.at(unix.SYS_MKDIRAT, d, p, 0o755) }},
	{"mkdirat with a slash", func(a *attacker, d int, p string) error { return a.at(unix.SYS_MKDIRAT, d, p+"/", 0o755) }},
	{"mknodat file", func(a *attacker, d int, p string) error { return a.at(unix.SYS_MKNODAT, d, p, unix.S_IFREG|0o644) }},
	{"mknodat fifo", func(a *attacker, d int, p string) error { return a.at(unix.SYS_MKNODAT, d, p, unix.S_IFIFO|0o644) }},
	{"symlinkat", func(a *attacker, d int, p string) error {
		return sys(unix.SYS_SYMLINKAT, uintptr(unsafe.Pointer(a.name("/tmp"))), uintptr(d), uintptr(unsafe.Pointer(a.name(p))))
	}},
	{"linkat", func(a *attacker, d int, p string) error {
		return sys(unix.SYS_LINKAT, at(unix.AT_FDCWD), uintptr(unsafe.Pointer(a.name(source(false)))), uintptr(d), uintptr(unsafe.Pointer(a.name(p))))
	}},
	{"renameat2 file", func(a *attacker, d int, p string) error {
		return sys(unix.SYS_RENAMEAT2, at(unix.AT_FDCWD), uintptr(unsafe.Pointer(a.name(source(false)))), uintptr(d), uintptr(unsafe.Pointer(a.name(p))))
	}},
	{"renameat2 directory, no replace", func(a *attacker, d int, p string) error {
		return sys(unix.SYS_RENAMEAT2, at(unix.AT_FDCWD), uintptr(unsafe.Pointer(a.name(source(true)))), uintptr(d), uintptr(unsafe.Pointer(a.name(p))), unix.RENAME_NOREPLACE)
	}},
	{"nameless file by /proc", func(a *attacker, d int, p string) error {
		fd, err := unix.Open(a.cwd, unix.O_TMPFILE|unix.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return sys(unix.SYS_LINKAT, at(unix.AT_FDCWD), uintptr(unsafe.Pointer(a.name("/proc/self/fd/"+strconv.Itoa(fd)))), uintptr(d), uintptr(unsafe.Pointer(a.name(p))), unix.AT_SYMLINK_FOLLOW)
	}},
	{"nameless file by descriptor", func(a *attacker, d int, p string) error {
		fd, err := unix.Open(a.cwd, unix.O_TMPFILE|unix.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return sys(unix.SYS_LINKAT, uintptr(fd), uintptr(unsafe.Pointer(a.name(""))), uintptr(d), uintptr(unsafe.Pointer(a.name(p))), unix.AT_EMPTY_PATH)
	}},
	{"bind", func(a *attacker, d int, p string) error {
		if d != unix.AT_FDCWD {
			return unix.EINVAL
		}
		s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		return unix.Bind(s, &unix.SockaddrUnix{Name: p})
	}},
}

// at is AT_FDCWD as an argument.
func at(fd int) uintptr { return uintptr(fd) }

// states are what a program does to itself before it attacks.
var states = []struct {
	name string
	set  func(*attacker) bool
}{
	{"plain", func(*attacker) bool { return true }},
	{"second thread", func(*attacker) bool { return unix.Unshare(unix.CLONE_FS|unix.CLONE_FILES) == nil }},
	{"name at the end of a page", func(a *attacker) bool {
		m, err := unix.Mmap(-1, 0, 2*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil || unix.Mprotect(m[os.Getpagesize():], unix.PROT_NONE) != nil {
			return false
		}
		plain := a.name
		a.name = func(s string) *byte {
			if len(s)+1 > os.Getpagesize()/2 {
				return plain(s)
			}
			i := os.Getpagesize() - len(s) - 1
			copy(m[i:], s+"\x00")
			return &m[i]
		}
		return true
	}},
	{"secret memory", func(a *attacker) bool {
		const memfdSecret = 447
		fd, _, e := unix.Syscall(memfdSecret, 0, 0, 0)
		if e != 0 {
			fmt.Println("no secret memory:", e)
			return false
		}
		unix.Ftruncate(int(fd), 1<<16)
		m, err := unix.Mmap(int(fd), 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return false
		}
		i := 0
		a.name = func(s string) *byte {
			i = (i + 4096) % (1 << 16)
			copy(m[i:], s+"\x00")
			return &m[i]
		}
		return true
	}},
	{"not dumpable", func(*attacker) bool { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) == nil }},
}

// plainName is a name in ordinary memory.
func plainName(s string) *byte {
	b, _ := unix.BytePtrFromString(s)
	return b
}

// makeAll tries every call, spelling and state on every target.
func (a *attacker) makeAll(targets []string) {
	runtime.LockOSThread()
	unix.Symlink(".", "dot")
	unix.Symlink(a.cwd, "here")
	unix.Symlink("/proc/self/cwd", "proc")
	for _, st := range states {
		a.name = plainName
		if !st.set(a) {
			continue
		}
		for _, target := range targets {
			for _, c := range makers {
				for _, s := range spellings {
					d, p := s.to(a, strings.TrimSuffix(target, "="))
					a.tried++
					err := c.run(a, d, p)
					if d != unix.AT_FDCWD {
						unix.Close(d)
					}
					if a.lost(target) {
						fmt.Printf("won: %s by %s, %s, %s: %v\n", target, c.name, s.name, st.name, err)
					}
				}
			}
		}
	}
}

// lost says whether the target has been made, and takes it away again. A
// directory where a parent belongs is no win.
func (a *attacker) lost(target string) bool {
	target, parent := strings.CutSuffix(target, "=")
	var st unix.Stat_t
	if unix.Lstat(target, &st) != nil {
		return false
	}
	if parent && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false
	}
	a.won++
	unix.Unlink(target)
	unix.Rmdir(target)
	return true
}

// race rewrites the name of a call from another thread.
func (a *attacker) race(innocent, target string) {
	var buf [256]byte
	var stop atomic.Bool
	go func() {
		runtime.LockOSThread()
		for !stop.Load() {
			copy(buf[:], innocent+"\x00")
			copy(buf[:], target+"\x00")
		}
	}()
	end := time.Now().Add(300 * time.Millisecond)
	for time.Now().Before(end) {
		for _, c := range []func() error{
			func() error {
				return sys(unix.SYS_MKDIRAT, at(unix.AT_FDCWD), uintptr(unsafe.Pointer(&buf[0])), 0o755)
			},
			func() error {
				return sys(unix.SYS_OPENAT, at(unix.AT_FDCWD), uintptr(unsafe.Pointer(&buf[0])), unix.O_CREAT|unix.O_WRONLY, 0o644)
			},
			func() error {
				return sys(unix.SYS_RENAMEAT2, at(unix.AT_FDCWD), uintptr(unsafe.Pointer(plainName(source(false)))), at(unix.AT_FDCWD), uintptr(unsafe.Pointer(&buf[0])))
			},
		} {
			a.tried++
			c()
			unix.Unlink(innocent)
			unix.Rmdir(innocent)
			if a.lost(target) {
				fmt.Println("won the race for", target)
			}
		}
	}
	stop.Store(true)
}

// lurk tries to open files for writing until "stop" appears.
func (a *attacker) lurk(targets []string) {
	a.name = plainName
	dirs := map[string]int{}
	for _, t := range targets {
		// From before whatever happens next.
		dirs[t], _ = unix.Open(filepath.Dir(t), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	fmt.Println("lurking")
	for {
		if _, err := os.Lstat("stop"); err == nil {
			return
		}
		for _, t := range targets {
			for name, try := range map[string]func() error{
				"append":     func() error { return a.at(unix.SYS_OPENAT, unix.AT_FDCWD, t, unix.O_WRONLY|unix.O_APPEND) },
				"descriptor": func() error { return a.at(unix.SYS_OPENAT, dirs[t], filepath.Base(t), unix.O_RDWR) },
				"O_TRUNC":    func() error { return a.at(unix.SYS_OPENAT, unix.AT_FDCWD, t, unix.O_TRUNC) },
				"truncate":   func() error { return unix.Truncate(t, 0) },
				"link":       func() error { return unix.Link(t, "alias"+strconv.Itoa(os.Getpid())) },
				"move":       func() error { return unix.Rename(t, "moved") },
				"replace":    func() error { return unix.Rename(source(false), t) },
				"unlink":     func() error { return unix.Unlink(t) },
				"reopen":     func() error { return reopened(t) },
			} {
				a.tried++
				if try() == nil {
					a.won++
					fmt.Println("won:", name, t)
				}
			}
		}
	}
}

// reopened opens a file for writing by a descriptor that only reads.
func reopened(t string) error {
	fd, err := unix.Open(t, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	w, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_WRONLY, 0)
	if err == nil {
		unix.Close(w)
	}
	return err
}

// changeAll tries to write, move and remove what exists.
func (a *attacker) changeAll(targets []string) {
	a.name = plainName
	for _, t := range targets {
		t, parent := strings.CutSuffix(t, "=")
		for name, try := range map[string]func() error{
			"write": func() error { return a.at(unix.SYS_OPENAT, unix.AT_FDCWD, t, unix.O_WRONLY) },
			"append": func() error {
				return a.at(unix.SYS_OPENAT, unix.AT_FDCWD, t, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, 0o644)
			},
			"truncate":               func() error { return unix.Truncate(t, 0) },
			"make inside":            func() error { return os.WriteFile(t+"/pre-commit", []byte("x"), 0o755) },
			"unlink":                 func() error { return unix.Unlink(t) },
			"rmdir":                  func() error { return unix.Rmdir(t) },
			"move":                   func() error { return unix.Rename(t, "moved") },
			"replace":                func() error { return unix.Rename(source(false), t) },
			"replace by a directory": func() error { return unix.Rename(source(true), t) },
			"exchange": func() error {
				return unix.Renameat2(unix.AT_FDCWD, source(false), unix.AT_FDCWD, t, unix.RENAME_EXCHANGE)
			},
			"second name": func() error { return unix.Link(t, "alias") },
			"chmod":       func() error { return unix.Chmod(t, 0o777) },
			"reopen":      func() error { return reopened(t) },
		} {
			if parent && (name == "make inside" || name == "chmod") {
				continue // which a parent allows
			}
			a.tried++
			if err := try(); err == nil {
				a.won++
				fmt.Printf("won: %s of %s\n", name, t)
			}
		}
	}
}
