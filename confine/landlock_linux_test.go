package confine

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLandlockHandledByABI(t *testing.T) {
	const (
		refer    = unix.LANDLOCK_ACCESS_FS_REFER
		truncate = unix.LANDLOCK_ACCESS_FS_TRUNCATE
		ioctl    = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
		resolve  = unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	)
	for _, c := range []struct {
		abi  int
		want landlockMasks
		size uintptr
		lost int
	}{
		{-1, landlockMasks{}, 8, 6},
		{0, landlockMasks{}, 8, 6},
		{1, landlockMasks{0x1fff, 0, 0}, 8, 5},
		{2, landlockMasks{0x1fff | refer, 0, 0}, 8, 4},
		{3, landlockMasks{0x1fff | refer | truncate, 0, 0}, 8, 3},
		{4, landlockMasks{0x1fff | refer | truncate, 3, 0}, 16, 2},
		{5, landlockMasks{0x1fff | refer | truncate | ioctl, 3, 0}, 16, 1},
		{6, landlockMasks{0x1fff | refer | truncate | ioctl, 3, 3}, 24, 0},
		{7, landlockMasks{0x1fff | refer | truncate | ioctl, 3, 3}, 24, 0},
		{8, landlockMasks{0x1fff | refer | truncate | ioctl, 3, 3}, 24, 0},
		{9, landlockMasks{0x1fff | refer | truncate | ioctl | resolve, 3, 3}, 24, 0},
		{99, landlockMasks{0x1fff | refer | truncate | ioctl | resolve, 3, 3}, 24, 0},
	} {
		if got := landlockHandled(c.abi); got != c.want {
			t.Errorf("ABI %d: %#x, want %#x", c.abi, got, c.want)
		}
		if got := landlockAttrSize(c.abi); got != c.size {
			t.Errorf("ABI %d: attribute of %d bytes, want %d", c.abi, got, c.size)
		}
		if got := landlockLost(c.abi); len(got) != c.lost {
			t.Errorf("ABI %d: lost %q", c.abi, got)
		}
	}
}

func TestLandlockRights(t *testing.T) {
	all := landlockHandled(landlockMaxABI).fs
	for _, c := range []struct {
		name      string
		access    landlockAccess
		abi       int
		directory bool
		want      uint64
	}{
		{"read a tree", laRead, 7, true, 0x1 | 0x4 | 0x8},
		{"read a tree, no programs", laReadNoExec, 7, true, 0x4 | 0x8},
		{"read a file", laRead, 7, false, 0x1 | 0x4},
		{"write a tree", laWrite, 7, true, (0x7fff &^ llNodes)},
		{"write a tree, ABI 1", laWrite, 1, true, (0x1fff &^ llNodes)},
		{"write a file", laWrite, 7, false, 0x1 | 0x2 | 0x4 | 0x4000},
		{"a terminal", laDevice, 7, false, 0x2 | 0x4 | 0x8000},
		{"terminals", laDevice, 7, true, 0x2 | 0x4 | 0x8 | 0x8000},
		{"a terminal, ABI 4", laDevice, 4, false, 0x2 | 0x4},
		{"write does not mean ioctl or nodes", laWrite, 99, true, all &^ (llNodes | llIoctl)},
		{"nothing", 0, 7, true, 0},
	} {
		if got := c.access.rights(landlockHandled(c.abi).fs, c.directory); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

type landlockChildArg struct {
	ABI                     int
	RW, RO, Outside         string
	ScopeSignal, ScopeAbstr bool
	DenyTCP                 bool
	Pid                     int
	Abstract                string
	TCP                     string
}

// childLandlock restricts itself and tries everything; the answer maps what was
// tried to the errno it met.
func childLandlock(raw json.RawMessage) (any, error) {
	var arg landlockChildArg
	if err := json.Unmarshal(raw, &arg); err != nil {
		return nil, err
	}
	if err := noNewPrivs(); err != nil {
		return nil, err
	}
	ro, err := unix.Open(arg.RO, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := landlockDomain{ScopeSignal: arg.ScopeSignal, ScopeAbstract: arg.ScopeAbstr, DenyTCP: arg.DenyTCP, Rules: []landlockRule{
		{Path: arg.RW, Access: laWrite},
		{FD: ro, Access: laRead},
		{Path: "/dev/null", Access: laDevice},
		{Path: "/no/such/path", Access: laRead, Optional: true},
	}}
	if err := d.restrict(arg.ABI); err != nil {
		return nil, err
	}
	unix.Close(ro)
	got := map[string]string{}
	try := func(name string, err error) {
		var e unix.Errno
		switch {
		case err == nil:
			got[name] = "ok"
		case errors.As(err, &e):
			got[name] = unix.ErrnoName(e)
		default:
			got[name] = err.Error()
		}
	}
	read := func(p string) error { _, err := os.ReadFile(p); return err }
	write := func(p string) error { return os.WriteFile(p, []byte("x"), 0o644) }
	try("read outside", read(filepath.Join(arg.Outside, "f")))
	try("list outside", func() error { _, err := os.ReadDir(arg.Outside); return err }())
	try("write outside", write(filepath.Join(arg.Outside, "f")))
	try("make outside", write(filepath.Join(arg.Outside, "new")))
	try("truncate outside", os.Truncate(filepath.Join(arg.Outside, "f"), 0))
	try("remove outside", os.Remove(filepath.Join(arg.Outside, "f")))
	try("read ro", read(filepath.Join(arg.RO, "f")))
	try("write ro", write(filepath.Join(arg.RO, "f")))
	try("truncate ro", os.Truncate(filepath.Join(arg.RO, "f"), 0))
	try("make rw", write(filepath.Join(arg.RW, "new")))
	try("mkdir rw", os.Mkdir(filepath.Join(arg.RW, "d"), 0o755))
	try("move in rw", os.Rename(filepath.Join(arg.RW, "new"), filepath.Join(arg.RW, "d", "moved")))
	try("link in rw", os.Link(filepath.Join(arg.RW, "d", "moved"), filepath.Join(arg.RW, "linked")))
	try("fifo rw", unix.Mkfifo(filepath.Join(arg.RW, "p"), 0o644))
	try("link from ro", os.Link(filepath.Join(arg.RO, "f"), filepath.Join(arg.RW, "stolen")))
	try("read through a link", func() error {
		l := filepath.Join(arg.RW, "l")
		if err := os.Symlink(arg.Outside, l); err != nil {
			return err
		}
		return read(filepath.Join(l, "f"))
	}())
	try("mount", unix.Mount("none", arg.RW, "tmpfs", 0, ""))
	try("dev null", write("/dev/null"))
	if arg.Pid != 0 {
		try("signal", unix.Kill(arg.Pid, 0))
	}
	if arg.Abstract != "" {
		c, err := net.Dial("unix", arg.Abstract)
		if err == nil {
			c.Close()
		}
		try("abstract", err)
	}
	if arg.TCP != "" {
		c, err := net.Dial("tcp", arg.TCP)
		if err == nil {
			c.Close()
		}
		try("tcp connect", err)
		// Go listens with MPTCP unless told not to, which Landlock does not see:
		// closing that is the seccomp table's part.
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err == nil {
			l.Close()
		}
		try("tcp listen", err)
	}
	return got, nil
}

func needLandlock(t *testing.T, abi int) int {
	t.Helper()
	have, err := landlockVersion()
	if have < abi {
		noSkip(t, "Landlock ABI %d (%v), the test needs %d", have, err, abi)
	}
	return min(have, landlockMaxABI)
}

// AC-05, AC-06, AC-28, AC-29, AC-35: one domain at every ABI this kernel can
// play.
func TestLandlockLive(t *testing.T) {
	have := needLandlock(t, 1)
	l, err := net.Listen("unix", "@confine-landlock-"+filepath.Base(t.TempDir())+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for abi := 1; abi <= have; abi++ {
		base := t.TempDir()
		arg := landlockChildArg{ABI: abi, RW: filepath.Join(base, "rw"), RO: filepath.Join(base, "ro"), Outside: filepath.Join(base, "out"),
			ScopeSignal: true, ScopeAbstr: true, DenyTCP: true, Pid: os.Getpid(), Abstract: l.Addr().String(), TCP: tcp.Addr().String()}
		for _, d := range []string{arg.RW, arg.RO, arg.Outside} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(d, "f"), []byte("canary"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		since := func(n int, denied, before string) string {
			if abi >= n {
				return denied
			}
			return before
		}
		want := map[string]string{
			"read outside": "EACCES", "list outside": "EACCES", "write outside": "EACCES", "make outside": "EACCES",
			"truncate outside": since(3, "EACCES", "ok"), "remove outside": "EACCES",
			"read ro": "ok", "write ro": "EACCES", "truncate ro": since(3, "EACCES", "ok"),
			"make rw": "ok", "mkdir rw": "ok", "move in rw": since(2, "ok", "EXDEV"), "link in rw": since(2, "ok", "ENOENT"), "fifo rw": "ok",
			"link from ro": "EXDEV", "read through a link": "EACCES", "mount": "EPERM", "dev null": "ok",
			"signal": since(6, "EPERM", "ok"), "abstract": since(6, "EPERM", "ok"),
			"tcp connect": since(4, "EACCES", "ok"), "tcp listen": since(4, "EACCES", "ok"),
		}
		got := map[string]string{}
		runLayerChild(t, "landlock", arg, &got)
		if !reflect.DeepEqual(got, want) {
			for k := range want {
				if got[k] != want[k] {
					t.Errorf("ABI %d, %s: %s, want %s", abi, k, got[k], want[k])
				}
			}
		}
		wantCanary := since(3, "canary", "")
		if b, err := os.ReadFile(filepath.Join(arg.Outside, "f")); err != nil || string(b) != wantCanary {
			t.Errorf("ABI %d: outside file now %q (%v)", abi, b, err)
		}
		if _, err := os.Stat(filepath.Join(arg.Outside, "new")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ABI %d: something new outside", abi)
		}
	}
}

// Without scopes and TCP the same things stay open: the test above measures
// Landlock and not something else.
func TestLandlockLiveUnscoped(t *testing.T) {
	abi := needLandlock(t, 6)
	base := t.TempDir()
	l, err := net.Listen("unix", "@confine-unscoped-"+filepath.Base(base)+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, d := range []string{"rw", "ro", "out"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	runLayerChild(t, "landlock", landlockChildArg{ABI: abi, RW: base + "/rw", RO: base + "/ro", Outside: base + "/out",
		Pid: os.Getpid(), Abstract: l.Addr().String()}, &got)
	for _, k := range []string{"signal", "abstract"} {
		if got[k] != "ok" {
			t.Errorf("%s: %s without a scope", k, got[k])
		}
	}
}

// AC-33: a domain that cannot be had is an error, with nothing enforced and no
// path in the message.
func TestLandlockRefuses(t *testing.T) {
	needLandlock(t, 1)
	rules := []landlockRule{{Path: "/no/such/path", Access: laRead}}
	err := landlockRestrict(1, rules, true, true)
	if !errors.Is(err, unix.ENOENT) {
		t.Fatalf("a missing path: %v", err)
	}
	if strings.Contains(err.Error(), "/no/such") {
		t.Errorf("the message names the path: %v", err)
	}
	if err := landlockRestrict(0, nil, false, false); err == nil {
		t.Error("ABI 0 accepted")
	}
	if err := landlockRestrict(1, []landlockRule{{FD: -1, Access: laRead}}, false, false); err == nil {
		t.Error("a rule without an object accepted")
	}
	if _, err := os.ReadDir("/"); err != nil {
		t.Errorf("the thread is restricted after an error: %v", err)
	}
}
