package confine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// refusedCallsEnv has the test binary run behind a filter of somebody else, such
// as that of a systemd unit or a container: NUMBER=ERRNO for each call.
const refusedCallsEnv = "CONFINE_TEST_REFUSED_CALLS"

// refuseCalls installs the filter on all threads, for all that is started.
func refuseCalls(value string) error {
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the number of the call
	for call := range strings.SplitSeq(value, ",") {
		nr, errno, _ := strings.Cut(call, "=")
		n, err := strconv.ParseUint(nr, 10, 32)
		if err != nil {
			return err
		}
		e, err := strconv.ParseUint(errno, 10, 12)
		if err != nil {
			return err
		}
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(n)},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(e)})
	}
	return degradedHost{Filter: append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})}.degrade()
}

// behind runs tests of this binary behind a filter.
func behind(t *testing.T, tests string, refused map[int]unix.Errno) string {
	t.Helper()
	var calls []string
	for nr, errno := range refused {
		calls = append(calls, strconv.Itoa(nr)+"="+strconv.Itoa(int(errno)))
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", tests, "-test.v", "-test.short")
	cmd.Env = append(os.Environ(), refusedCallsEnv+"="+strings.Join(calls, ","))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("behind the filter: %v\n%s", err, out)
	}
	return string(out)
}

// behindFilter are the tests that hold behind the filter as they do without:
// starting at all, the mounts, who may open and make what, and the attacks by
// links on the walk itself.
const behindFilter = "^(TestSpawn|TestOpenStepwise|TestGrantsAroundTheBase|TestProtectedPaths|TestSupervisedCalls|TestAttackLinks|TestBehindFilter)$"

// TestWithoutOpenat2: the level namespaces stands, as safe as before, where a
// filter around the server forbids openat2.
func TestWithoutOpenat2(t *testing.T) {
	if os.Getenv(refusedCallsEnv) != "" {
		return // this is the test behind the filter
	}
	needNamespaces(t, sandbox.LevelNamespaces)
	for _, errno := range []unix.Errno{unix.ENOSYS, unix.EPERM} {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			tests := behindFilter
			if errno == unix.EPERM {
				tests = "^(TestSpawn|TestBehindFilter)$"
			}
			if out := behind(t, tests, map[int]unix.Errno{unix.SYS_OPENAT2: errno}); !strings.Contains(out, "--- PASS: TestSpawn") {
				t.Errorf("nothing ran:\n%s", out)
			}
		})
	}
}

// TestRefusedBehindFilter: what a filter around the server refuses costs what it
// must and no more, and the report gives the reason.
func TestRefusedBehindFilter(t *testing.T) {
	if os.Getenv(refusedCallsEnv) != "" {
		return
	}
	needNamespaces(t, sandbox.LevelNamespaces)
	for _, c := range []struct {
		name    string
		refused map[int]unix.Errno
		level   sandbox.Level
		says    string
	}{
		{"openat2", map[int]unix.Errno{unix.SYS_OPENAT2: unix.ENOSYS}, sandbox.LevelNamespaces, ""},
		// Rootless Podman's own profile.
		{"sethostname", map[int]unix.Errno{unix.SYS_SETHOSTNAME: unix.EPERM}, sandbox.LevelNamespaces, "host name: commands see the server's own"},
		// The probe does not try it.
		{"pivot_root", map[int]unix.Errno{unix.SYS_PIVOT_ROOT: unix.EPERM}, sandbox.LevelLandlock, "namespaces: the level namespaces did not start: build the root file system"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := behind(t, "^TestBehindFilter$", c.refused)
			if !strings.Contains(out, "level "+string(c.level)+"\n") || !strings.Contains(out, c.says) || strings.Contains(out, "as asked for") {
				t.Errorf("want %s and %q:\n%s", c.level, c.says, out)
			}
		})
	}
}

// TestRootWithoutSysAdmin: a server that is root with the capabilities Docker leaves
// it cannot mount what the session's user does not reach. The level falls, and the
// report says why.
func TestRootWithoutSysAdmin(t *testing.T) {
	if os.Getenv(refusedCallsEnv) != "" || os.Geteuid() != 0 {
		return
	}
	needNamespaces(t, sandbox.LevelNamespaces)
	done := make(chan string)
	go func() {
		defer close(done)
		runtime.LockOSThread() // and the thread ends with the goroutine
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0); err != nil {
			t.Error(err)
			return
		}
		done <- behind(t, "^TestBehindFilter$", map[int]unix.Errno{unix.SYS_ACCT: unix.EPERM})
	}()
	if out := <-done; !strings.Contains(out, "level landlock\n") || !strings.Contains(out, "root without CAP_SYS_ADMIN") || !strings.Contains(out, "(--user), as an ordinary user") {
		t.Errorf("want landlock and the reason:\n%s", out)
	}
}

// TestBehindFilter prints what a session has.
func TestBehindFilter(t *testing.T) {
	if os.Getenv(refusedCallsEnv) == "" {
		return // an ordinary run: there is nothing to test here
	}
	p := testPolicy(t)
	p.Level = sandbox.LevelAuto
	if status, _ := os.ReadFile("/proc/self/status"); os.Geteuid() == 0 && len(lackingCaps(string(status), []capability{capSysAdmin})) > 0 {
		closed := t.TempDir()
		os.Mkdir(closed+"/read", 0o755)
		os.Chmod(closed, 0o700)
		os.Chown(p.Workspace, 12345, 12346)
		p.Read, p.AllowRoot = []string{closed + "/read"}, false
	}
	s := start(t, p)
	if out, st := sh(t, s, p.Workspace, "echo $((40+2)) > f; cat f"); out != "42\n" || st.Code != 0 {
		t.Errorf("%q %+v", out, st)
	}
	fmt.Println("level", s.Report().Level)
	for _, l := range s.Report().Layers {
		if l.State != sandbox.StateOn {
			fmt.Printf("%s: %s -> %s\n", l.Name, l.Detail, l.Remedy)
		}
	}
}

// TestOpenStepwise: the walk by steps gives what the kernel's own gives.
func TestOpenStepwise(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a/b"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a/f"), []byte("f"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"l": "a", "a/lf": "f", "a/out": "/etc/passwd", "a/none": "missing", "a/up": "../.."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(at)
	const strict = unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	for _, c := range []struct {
		name    string
		flags   uint64
		resolve uint64
		want    error
	}{
		{"a/b", unix.O_PATH, strict, nil},
		{"a/b/", unix.O_PATH, strict, nil},
		{"a//b", unix.O_PATH | unix.O_DIRECTORY, strict, nil},
		{"./a/./b", unix.O_PATH, strict, nil},
		{".", unix.O_PATH, strict | unix.RESOLVE_IN_ROOT, nil},
		{"/a/b", unix.O_PATH, strict | unix.RESOLVE_IN_ROOT, nil},
		{"/", unix.O_PATH, strict | unix.RESOLVE_IN_ROOT, nil},
		{"/a", unix.O_PATH, strict | unix.RESOLVE_BENEATH, unix.EXDEV},
		{dir + "/a/f", unix.O_RDONLY, unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS, nil},
		{"a/f", unix.O_RDONLY, strict, nil},
		{"a/f/", unix.O_RDONLY, strict, unix.ENOTDIR},
		{"a/f/x", unix.O_RDONLY, strict, unix.ENOTDIR},
		{"missing", unix.O_RDONLY, strict, unix.ENOENT},
		{"missing/x", unix.O_RDONLY, strict, unix.ENOENT},
		{"", unix.O_RDONLY, strict, unix.ENOENT},
		{"..", unix.O_PATH, strict, nil},
		{"a/../a/b", unix.O_PATH, strict, nil},
		{"a/b/..", unix.O_PATH, strict, nil},
		{"l/..", unix.O_PATH, strict, unix.ELOOP},
		{"l", unix.O_PATH, strict, unix.ELOOP},
		{"l", unix.O_PATH | unix.O_NOFOLLOW, strict, nil},
		{"l/", unix.O_PATH, strict, unix.ELOOP},
		{"l/b", unix.O_PATH, strict, unix.ELOOP},
		{"a/lf", unix.O_RDONLY, strict, unix.ELOOP},
		{"a/lf", unix.O_PATH | unix.O_DIRECTORY, strict, unix.ELOOP},
		{"a/out", unix.O_RDONLY, strict, unix.ELOOP},
		{"a/out", unix.O_WRONLY | unix.O_TRUNC, strict, unix.ELOOP},
		{"a/up/x", unix.O_PATH, strict, unix.ELOOP},
		{"a/none", unix.O_WRONLY | unix.O_CREAT, strict, unix.ELOOP},
		{"a/lf", unix.O_RDONLY, 0, nil},
	} {
		how := unix.OpenHow{Flags: c.flags | unix.O_CLOEXEC, Resolve: c.resolve}
		if c.flags&unix.O_CREAT != 0 {
			how.Mode = 0o600
		}
		look := func(open func(int, string, *unix.OpenHow) (int, error)) (unix.Stat_t, error) {
			h := how
			fd, err := open(at, c.name, &h)
			if err != nil {
				return unix.Stat_t{}, err
			}
			defer unix.Close(fd)
			var st unix.Stat_t
			err = unix.Fstat(fd, &st)
			return unix.Stat_t{Dev: st.Dev, Ino: st.Ino}, err
		}
		got, gotErr := look(openStepwise)
		if gotErr != c.want {
			t.Errorf("%q %#x: %v, want %v", c.name, c.flags, gotErr, c.want)
		}
		if openat2Refused() {
			continue
		}
		want, wantErr := look(unix.Openat2)
		if gotErr != wantErr || got != want {
			t.Errorf("%q %#x: by steps %v %v, by openat2 %v %v", c.name, c.flags, got, gotErr, want, wantErr)
		}
	}
	for _, c := range []struct {
		name    string
		resolve uint64
		want    error
	}{{"a/../a", strict | unix.RESOLVE_BENEATH, unix.EXDEV}, {"..", strict | unix.RESOLVE_BENEATH, unix.EXDEV}, {"a/b/../../..", strict | unix.RESOLVE_IN_ROOT, unix.EXDEV}, {"l", unix.RESOLVE_NO_MAGICLINKS, unix.EINVAL}, {"a", strict | unix.RESOLVE_NO_XDEV, unix.EINVAL}} {
		if fd, err := openStepwise(at, c.name, &unix.OpenHow{Flags: unix.O_PATH, Resolve: c.resolve}); err != c.want {
			t.Errorf("%q: %d %v, want %v", c.name, fd, err, c.want)
		}
	}
}

// TestGapsInReport: what a session lacks is a warning where something stands open, and
// a line of the report alone where nothing does.
func TestGapsInReport(t *testing.T) {
	for _, c := range []struct {
		gap, says string
		warns     bool
	}{
		{gapLowPorts, "commands cannot listen on them", false},
		{gapHostName, "commands see the server's own", false},
		{gapInotify, gapInotify + ": could not be set", true},
	} {
		l := &layout{p: &sandbox.Policy{}, id: identity{uid: 1000}}
		r := l.report(Plan{Level: sandbox.LevelNamespaces, Namespaces: true, Network: sandbox.NetworkLoopback}, Capabilities{}, c.gap+"="+unix.EACCES.Error())
		text := strings.Join(r.Warnings, "\n")
		for _, layer := range r.Layers {
			if layer.Name == c.gap && !c.warns {
				text = string(layer.State) + ": " + layer.Detail
			}
		}
		if warned := strings.Contains(strings.Join(r.Warnings, "\n"), c.gap); warned != c.warns || !strings.Contains(text, c.says) || !strings.Contains(text, "permission denied") {
			t.Errorf("%s: warned is %v, said is %q", c.gap, warned, text)
		}
	}
}
