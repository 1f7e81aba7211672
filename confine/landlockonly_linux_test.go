package confine

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// The landlock level stands without namespaces below it. These tests put both
// its layers on a thread, try what reaches beyond the session, and try the same
// without them: what is not possible without proves nothing.

type landlockOnlyArg struct {
	Restrict         bool
	RW               string
	Stream, Datagram string // unix sockets outside
	File             string // outside, owned by us
	Pid              int
	ShmID            int
}

func childLandlockOnly(raw json.RawMessage) (any, error) {
	var arg landlockOnlyArg
	if err := json.Unmarshal(raw, &arg); err != nil {
		return nil, err
	}
	if arg.Restrict {
		if err := noNewPrivs(); err != nil {
			return nil, err
		}
		d := landlockDomain{ScopeSignal: true, ScopeAbstract: true, DenyTCP: true, Rules: []landlockRule{{Path: arg.RW, Access: laWrite}}}
		if err := d.restrict(landlockABI()); err != nil {
			return nil, err
		}
		if err := restrictSeccomp(seccompOptions{Network: sandbox.NetworkLoopback, LandlockOnly: true}); err != nil {
			return nil, err
		}
	}
	got := map[string]string{}
	try := func(name string, e error) {
		got[name] = "ok"
		if e != nil {
			got[name] = unix.ErrnoName(errnoOrUnknown(e))
		}
	}
	connect := func(kind int, path string) error {
		fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	pair := func(kind int, use func(fd int) error) error {
		fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fds[0])
		defer unix.Close(fds[1])
		return use(fds[0])
	}
	try("stream socket by path", connect(unix.SOCK_STREAM, arg.Stream))
	try("datagram socket by path", connect(unix.SOCK_DGRAM, arg.Datagram))
	try("datagram pair re-aimed by sendto", pair(unix.SOCK_DGRAM, func(fd int) error {
		return unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrUnix{Name: arg.Datagram})
	}))
	try("datagram pair re-aimed by connect", pair(unix.SOCK_DGRAM, func(fd int) error {
		return unix.Connect(fd, &unix.SockaddrUnix{Name: arg.Datagram})
	}))
	try("stream pair re-aimed", pair(unix.SOCK_STREAM, func(fd int) error {
		return unix.Connect(fd, &unix.SockaddrUnix{Name: arg.Stream})
	}))
	try("seqpacket pair re-aimed by connect", pair(unix.SOCK_SEQPACKET, func(fd int) error {
		return unix.Connect(fd, &unix.SockaddrUnix{Name: arg.Datagram})
	}))
	try("stream pair", pair(unix.SOCK_STREAM, func(fd int) error { _, err := unix.Write(fd, []byte("x")); return err }))
	try("udp", func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}())
	try("truncate outside", unix.Truncate(arg.File, 1))
	try("read and truncate outside", func() error {
		fd, err := unix.Open(arg.File, unix.O_RDONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}())
	try("acl outside", unix.Setxattr(arg.File, "user.x", []byte("1"), 0))
	try("set-id outside", unix.Chmod(arg.File, 0o4755))
	_, _, e := unix.RawSyscall(unix.SYS_SHMAT, uintptr(arg.ShmID), 0, unix.SHM_RDONLY)
	try("shared memory of the host", errnoOrNil(e))
	name, _ := unix.BytePtrFromString("confine-test-none")
	_, _, e = unix.RawSyscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_RDONLY, 0, 0, 0, 0)
	try("message queue of the host", errnoOrNil(e))
	try("limits of another process", unix.Prlimit(arg.Pid, unix.RLIMIT_CORE, nil, &unix.Rlimit{}))
	try("own limits", unix.Prlimit(0, unix.RLIMIT_CORE, nil, &unix.Rlimit{}))
	try("trace another process", func() error {
		err := unix.PtraceSeize(arg.Pid)
		if err == nil {
			unix.PtraceDetach(arg.Pid)
		}
		return err
	}())
	try("signal another process", unix.Kill(arg.Pid, 0))
	return got, nil
}

func errnoOrNil(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// AC-28, AC-29, AC-35, AC-36 at the landlock level.
func TestLandlockOnlyClosesTheRest(t *testing.T) {
	abi := needLandlock(t, 1)
	dir := t.TempDir()
	arg := landlockOnlyArg{RW: filepath.Join(dir, "rw"), Stream: filepath.Join(dir, "s"), Datagram: filepath.Join(dir, "d"), File: filepath.Join(dir, "f")}
	if err := os.Mkdir(arg.RW, 0o755); err != nil {
		t.Fatal(err)
	}
	stream, err := net.Listen("unix", arg.Stream)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	datagram, err := net.ListenPacket("unixgram", arg.Datagram)
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()
	shm, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.SysvShmCtl(shm, unix.IPC_RMID, nil)
	arg.ShmID = shm
	victim, _ := startIdle(t)
	arg.Pid = victim.Process.Pid

	run := func(restrict bool) map[string]string {
		if err := os.WriteFile(arg.File, []byte("canary"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(arg.File, 0o644); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		arg.Restrict = restrict
		runLayerChild(t, "landlock-only", arg, &got)
		return got
	}
	open := run(false)
	closed := run(true)
	if b, err := os.ReadFile(arg.File); err != nil || string(b) != "canary" {
		t.Errorf("the file outside is now %q (%v)", b, err)
	}
	if fi, err := os.Stat(arg.File); err != nil || fi.Mode() != 0o644 {
		t.Errorf("the file outside has mode %v (%v)", fi.Mode(), err)
	}
	for name, want := range map[string]string{
		"stream socket by path":              "EAFNOSUPPORT",
		"datagram socket by path":            "EAFNOSUPPORT",
		"datagram pair re-aimed by sendto":   "ESOCKTNOSUPPORT",
		"datagram pair re-aimed by connect":  "ESOCKTNOSUPPORT",
		"stream pair re-aimed":               "EISCONN",
		"seqpacket pair re-aimed by connect": "EISCONN",
		"stream pair":                        "ok",
		"udp":                                "EAFNOSUPPORT",
		"truncate outside":                   "EPERM",
		"read and truncate outside":          "EPERM",
		"acl outside":                        "ENOTSUP",
		"set-id outside":                     "EPERM",
		"shared memory of the host":          "ENOSYS",
		"message queue of the host":          "ENOSYS",
		"limits of another process":          "EPERM",
		"own limits":                         "ok",
		"trace another process":              "EPERM",
	} {
		// A second SOCK_SEQPACKET or SOCK_STREAM connect may also be EPROTOTYPE,
		// for the target is of another type.
		if got := closed[name]; got != want && !(want == "EISCONN" && (got == "EPROTOTYPE" || got == "EINVAL")) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		// Without the layers it must be possible, or the test proves nothing. The
		// queue does not exist, so its error differs. Yama or a container may
		// refuse tracing anyway.
		switch {
		case strings.Contains(want, "EISCONN") || name == "trace another process":
		case name == "message queue of the host":
			if open[name] != "ENOENT" {
				t.Errorf("unconfined, %s: %s", name, open[name])
			}
		case open[name] != "ok" && !(name == "acl outside" && open[name] == "ENOTSUP"):
			t.Errorf("unconfined, %s: %s, so the test proves nothing", name, open[name])
		}
	}
	if want := map[bool]string{true: "EPERM", false: "ok"}[abi >= 6]; closed["signal another process"] != want {
		t.Errorf("signal another process: %s, want %s", closed["signal another process"], want)
	}
}
