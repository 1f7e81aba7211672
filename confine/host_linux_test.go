package confine

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// What a session does must not change or use up what belongs to the host.

// Every device node of a session keeps its mode, owner, times and attributes,
// and can be used. The host's own nodes are what a session sees, so nothing is
// tried before the mount, or the owner, has been found to refuse it.
func TestDeviceNodesCannotBeChanged(t *testing.T) {
	needTools(t, "python3")
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		if p.Level == sandbox.LevelLandlock && os.Geteuid() == 0 {
			if err := os.Chown(p.Workspace, 12345, 12346); err != nil {
				t.Fatal(err)
			}
		}
		s := start(t, p)
		nodes := []string{"null", "zero", "full", "random", "urandom", "tty"}
		before := map[string]unix.Stat_t{}
		for _, n := range nodes {
			var st unix.Stat_t
			if err := unix.Stat("/dev/"+n, &st); err != nil {
				continue
			}
			before[n] = st
		}
		const script = `
import errno, os, stat, sys
for n in sys.argv[1:]:
    p = "/dev/" + n
    if not os.path.exists(p):
        continue
    st = os.stat(p)
    if not os.statvfs(p).f_flag & os.ST_RDONLY and st.st_uid == os.getuid():
        print(n, "could be changed")
        continue
    for name, act in {
        "chmod": lambda: os.chmod(p, stat.S_IMODE(st.st_mode)),
        "fchmod": lambda: os.fchmod(os.open(p, os.O_RDONLY | os.O_NOCTTY) if n != "tty" else 0, stat.S_IMODE(st.st_mode)) if n != "tty" else os.chmod(p, stat.S_IMODE(st.st_mode)),
        "proc": lambda: os.chmod("/proc/self/fd/%d" % os.open(p, os.O_PATH), stat.S_IMODE(st.st_mode)),
        "chown": lambda: os.chown(p, os.getuid(), -1),
        "utime": lambda: os.utime(p, (0, 0)),
        "setxattr": lambda: os.setxattr(p, "user.x", b"y"),
        "removexattr": lambda: os.removexattr(p, "user.x"),
        "unlink": lambda: os.unlink(p),
        "rename": lambda: os.rename(p, p + "2"),
        "link": lambda: os.link(p, "linked"),
    }.items():
        try:
            act()
            print(n, name, "succeeded")
        except OSError as e:
            if e.errno not in (errno.EROFS, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EXDEV):
                print(n, name, e)
for n in "null", "zero":
    for mode in "w", "a", "r+b":
        with open("/dev/" + n, mode) as f:
            f.write("x" if mode != "r+b" else b"x")
try:
    os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    print("/dev/full took a byte")
except OSError as e:
    assert e.errno == errno.ENOSPC, e
assert len(open("/dev/urandom", "rb").read(8)) == 8
print("done")
`
		out, _ := run(t, s, sandbox.Command{Argv: append([]string{"python3", "-c", script}, nodes...), Env: s.Environ(), Dir: p.Workspace})
		if out != "done\n" {
			t.Errorf("%s", out)
		}
		want(t, s, p.Workspace, `echo x > /dev/null && echo x >> /dev/null && head -c 4 /dev/zero | wc -c`, "4\n")
		for n, b := range before {
			var a unix.Stat_t
			if err := unix.Stat("/dev/"+n, &a); err != nil || a.Ctim != b.Ctim || a.Mode != b.Mode || a.Uid != b.Uid {
				t.Errorf("/dev/%s of the host was changed: %+v, before %+v (%v)", n, a, b, err)
			}
		}
	})
}

// Empty files, directories and links take no pages, and yet memory.
func TestInodesOfScratchAreLimited(t *testing.T) {
	needTools(t, "python3")
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		p.Limits.Tmp, p.Limits.Shm = 8<<20, 4<<20
		s := start(t, p)
		const script = `
import errno, os, sys
for d in sys.argv[1:]:
    n = 0
    try:
        while n < 10000:
            os.close(os.open("%s/%0200d" % (d, n), os.O_CREAT | os.O_WRONLY))
            n += 1
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
    print(os.statvfs(d).f_files, 900 <= n <= 2100)
    for i in range(n):
        os.unlink("%s/%0200d" % (d, i))
`
		out, _ := run(t, s, sandbox.Command{Argv: []string{"python3", "-c", script, "/tmp", "/var/tmp", "/run", "/dev/shm", "."}, Env: s.Environ(), Dir: homeOf(s)})
		if want := "2048 True\n2048 True\n2048 True\n1024 True\n2048 True\n"; out != want {
			t.Errorf("got %q, want %q", out, want)
		}
		// What the size allows is not refused for the count.
		want(t, s, p.Workspace, "mkdir /tmp/n && cd /tmp/n && for i in $(seq 1500); do echo x > $i || exit 1; done; ls | wc -l", "1500\n")
	})
}

// A session has a part of the inotify instances of its user only.
func TestInotifyOfTheUserIsNotUsedUp(t *testing.T) {
	needTools(t, "python3")
	limit := readNumber("/proc/sys/fs/inotify/max_user_instances")
	if limit < 2*inotifyShare {
		t.Skipf("the host allows %d instances", limit)
	}
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		for _, w := range s.Report().Warnings {
			if strings.HasPrefix(w, gapInotify) {
				noSkip(t, "%s", w)
			}
		}
		out, _ := run(t, s, sandbox.Command{Argv: []string{"python3", "-c", `
import ctypes
n = 0
while n < 100000 and ctypes.CDLL(None).inotify_init() >= 0:
    n += 1
print(n)
`}, Env: s.Environ(), Dir: p.Workspace})
		if want := itoa(limit/inotifyShare) + "\n"; out != want {
			t.Errorf("a session made %q inotify instances, want %q", out, want)
		}
	})
}

// A session has a part of the signals only that may wait for its user, and the user's
// other programs get theirs meanwhile.
func TestSignalsOfTheUserAreNotUsedUp(t *testing.T) {
	needTools(t, "python3")
	var limit unix.Rlimit
	if err := unix.Getrlimit(rlimitSigpending, &limit); err != nil || limit.Cur < 4*signalShare {
		t.Skipf("the host allows %d signals to wait, %v", limit.Cur, err)
	}
	most := int(min(limit.Cur, maxSigpending) / signalShare)
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		if p.Level == sandbox.LevelLandlock && os.Geteuid() == 0 {
			if err := os.Chown(p.Workspace, 12345, 12346); err != nil {
				t.Fatal(err)
			}
		}
		s := start(t, p)
		out, _ := run(t, s, sandbox.Command{Argv: []string{"python3", "-c", `
import ctypes, os, resource, signal
c = ctypes.CDLL(None)
c.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
n = 0
while n < 1500000 and c.sigqueue(os.getpid(), signal.SIGRTMIN, None) == 0:
    n += 1
most = resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]
try:
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (most + 1, most + 1))
    print("raised")
except (ValueError, OSError):
    pass
print(n)
`}, Env: s.Environ(), Dir: p.Workspace})
		n, err := strconv.Atoi(strings.TrimSpace(out))
		// Without namespaces what waits for the user elsewhere counts, too.
		if err != nil || n > most || n < most/2 {
			t.Errorf("a session let %q signals wait, want %d", out, most)
		}
	})
}
