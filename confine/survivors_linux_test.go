package confine

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// chain is a program that forks a chain of processes, each the child of the one
// before, and says when all are there. They ignore what can be ignored.
const chain = `
import os, signal, sys, time
for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(s, signal.SIG_IGN)
r, w = os.pipe()
for i in range(int(sys.argv[1])):
    if os.fork():
        if i == 0:
            os.read(r, 1); print("up", flush=True)
        time.sleep(10000)
    os.setsid()
os.write(w, b"x")
time.sleep(10000)
`

// potato is a program that never is one process for long: it forks and ends.
const potato = `
import os
print("up", flush=True)
os.close(1); os.close(2)
while True:
    if os.fork(): os._exit(0)
    os.setsid()
`

// tree is a program that forks two processes, each of which forks two, and so on,
// and says when all are there. One of each two leaves its process group, or with
// "daemon" both do and lose their parent as well.
const tree = `
import os, signal, sys, time
for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(s, signal.SIG_IGN)
depth, daemon = int(sys.argv[1]), sys.argv[2] == "daemon"
first = os.getpid()
r, w = os.pipe()
def child(j):
    pid = os.fork()
    if pid:
        if daemon: os.waitpid(pid, 0)
        return False
    if j or daemon: os.setsid()
    if daemon and os.fork(): os._exit(0)
    return True
for i in range(depth):
    if not (child(0) or child(1)): break
else:
    os.write(w, b"x")
if os.getpid() == first:
    n = 0
    while n < 2 ** depth: n += len(os.read(r, 4096))
    print("up", flush=True)
time.sleep(10000)
`

// bomb is a program whose processes all fork as long as they live, up to the limit.
const bomb = `
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
os.close(1); os.close(2)
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: time.sleep(0.01)
`

func startTagged(t *testing.T, s *Sandbox, dir, tag, program string, args ...string) *Process {
	t.Helper()
	c := spawn(t, s, sandbox.Command{Argv: append([]string{"python3", "-c", program}, append(args, tag)...), Dir: dir})
	// A long line of forks waits for the processor at each.
	c.Stdout().SetReadDeadline(time.Now().Add(10 * time.Minute))
	if l, err := bufio.NewReader(c.Stdout()).ReadString('\n'); l != "up\n" {
		t.Fatalf("%q, %v", l, err)
	}
	return c
}

func newTag() string { return fmt.Sprintf("tag-%d-%d", os.Getpid(), time.Now().UnixNano()) }

// However deep the line of parents, however wide the tree and however quick the
// forks, nothing outlives its command or its session, and the kill of a command is
// answered.
func TestNothingSurvives(t *testing.T) {
	needTools(t, "python3")
	depth, levels := "200", "7"
	if os.Getenv("MCP_SANDBOX_TEST_LONG") != "1" {
		depth, levels = "100", "5"
	}
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		for _, c := range []struct {
			name, program string
			args          []string
			forks         bool // as long as it lives
		}{
			{"chain", chain, []string{depth}, false},
			{"tree", tree, []string{levels, ""}, false},
			{"daemons", tree, []string{levels, "daemon"}, false},
			{"potato", potato, nil, true},
			{"bomb", bomb, nil, true},
		} {
			p := p
			if c.name == "bomb" {
				p.Limits.Procs = 100
			}
			t.Run(c.name+"/command", func(t *testing.T) {
				// Where only /proc tells what a command has started, what forks
				// faster than it can be read ends with the session.
				if c.forks && p.Level == sandbox.LevelLandlock {
					return
				}
				s, tag := start(t, p), newTag()
				proc := startTagged(t, s, p.Workspace, tag, c.program, c.args...)
				begun := time.Now()
				if err := proc.SignalTree(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				known := proc.empty.Load()
				t.Logf("answered after %v, certain of the end: %t", time.Since(begun).Round(time.Millisecond), known)
				if n := tagged(tag); known && n != 0 {
					t.Errorf("%d live of what init took to be gone", n)
				}
				eventually(t, "all dead", func() bool { return tagged(tag) == 0 })
				if out, _ := sh(t, s, p.Workspace, "echo next"); out != "next\n" {
					t.Errorf("the next command printed %q", out)
				}
			})
			t.Run(c.name+"/session", func(t *testing.T) {
				s, tag := start(t, p), newTag()
				startTagged(t, s, p.Workspace, tag, c.program, c.args...)
				begun := time.Now()
				s.Close()
				t.Logf("closed after %v", time.Since(begun).Round(time.Millisecond))
				if n := tagged(tag); n != 0 {
					t.Errorf("%d processes live", n)
				}
			})
		}
	})
}

// A command at the landlock level shares init's user and sees its number. It can
// neither end nor stop it, by any call, and cannot signal everybody.
func TestInitCannotBeSignalled(t *testing.T) {
	needTools(t, "python3")
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		pid := 1
		if p.Level == sandbox.LevelLandlock {
			pid = s.pid
		}
		out, _ := run(t, s, sandbox.Command{Argv: []string{"python3", "-c", `
import ctypes, errno, fcntl, os, signal, sys
init = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def call(*a):
    ctypes.set_errno(0)
    if libc.syscall(*a) < 0: raise OSError(ctypes.get_errno(), "")
def own(target):
    r, w = os.pipe()
    fcntl.fcntl(r, fcntl.F_SETOWN, target)
info = ctypes.create_string_buffer(128)
acts = {
    "kill": lambda n: os.kill(init, n),
    "killpg": lambda n: os.kill(-init, n),
    "everybody": lambda n: os.kill(-1, n),
    "everybody, more registers": lambda n: call(62 if os.uname().machine == "x86_64" else 129, -1, n, 1, 2, 3, 4),
    "owner": lambda n: own(init),
}
if os.uname().machine == "x86_64":
    acts.update({
        "tkill": lambda n: call(200, init, n),
        "tgkill": lambda n: call(234, init, init, n),
        "sigqueue": lambda n: call(129, init, n, info),
        "tgsigqueue": lambda n: call(297, init, init, n, info),
        "pidfd": lambda n: call(434, init, 0),
        "pidfd of a directory": lambda n: call(424, os.open("/proc/%d" % init, os.O_RDONLY), n, 0, 0),
    })
for name, act in acts.items():
    for n in (signal.SIGURG, signal.SIGSTOP, signal.SIGKILL):
        try:
            act(n)
            print(name, n, "succeeded")
        except OSError as e:
            if e.errno not in (errno.EPERM, errno.ENOSYS, errno.ESRCH): print(name, e)
print("done")
`, itoa(pid)}, Dir: p.Workspace})
		// At the namespaces level -1 is everybody else of the session.
		if p.Level == sandbox.LevelNamespaces {
			var rest []string
			for _, l := range strings.Split(out, "\n") {
				if !strings.HasPrefix(l, "everybody") {
					rest = append(rest, l)
				}
			}
			out = strings.Join(rest, "\n")
		}
		if out != "done\n" {
			t.Errorf("%s", out)
		}
		if out, _ := sh(t, s, p.Workspace, "echo alive"); out != "alive\n" {
			t.Errorf("after it %q", out)
		}
	})
}

// Should init be killed from outside, the server takes what a control group
// still has.
func TestControlGroupIsEmptied(t *testing.T) {
	p := testPolicy(t)
	p.Level = sandbox.LevelLandlock
	s := start(t, p)
	if s.cgroup == nil {
		t.Skip("no control group can be made here")
	}
	tag := newTag()
	sh(t, s, p.Workspace, "setsid sh -c 'sleep 1000; : "+tag+"' >/dev/null 2>&1 & true")
	eventually(t, "it runs", func() bool { return tagged(tag) > 0 })
	unix.Kill(s.pid, unix.SIGKILL)
	<-s.Done()
	if n := tagged(tag); n != 0 {
		t.Errorf("%d processes live", n)
	}
}

// The limit on processes holds without namespaces.
func TestProcessLimitWithoutNamespaces(t *testing.T) {
	needTools(t, "python3")
	eachOwner(t, func(t *testing.T, p sandbox.Policy) {
		p.Level, p.Limits.Procs = sandbox.LevelLandlock, 50
		var out string
		// The kernel counts all processes of the user. Others come and go, and those that
		// go leave room for more.
		for range 5 {
			s := start(t, p)
			if s.uid == 0 && !s.cgroup.Has("pids") {
				t.Skip("nothing limits uid 0 here, and the report says so")
			}
			out, _ = run(t, s, sandbox.Command{Argv: []string{"python3", "-c", `
import os, time
n = 0
try:
    while n < 2000:
        if os.fork() == 0: time.sleep(1000)
        n += 1
except BlockingIOError: pass
print(n, flush=True)
os.killpg(0, 9)
`}, Dir: p.Workspace})
			var n int
			fmt.Sscan(out, &n)
			if n >= 10 && n <= 200 {
				return
			}
			s.Close()
		}
		t.Errorf("%q processes under a limit of 50", out)
	})
}

// Scheduling, processor and disk priority of other processes of the user stay
// as they are; a command may still set its own.
func TestSchedulingOfOthers(t *testing.T) {
	needTools(t, "python3", "nice", "taskset")
	eachOwner(t, func(t *testing.T, p sandbox.Policy) {
		p.Level = sandbox.LevelLandlock
		s := start(t, p)
		victim := exec.Command("sleep", "1000")
		if os.Geteuid() == 0 {
			victim.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.uid)}}
		}
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { victim.Process.Kill(); victim.Wait() }()
		pid := victim.Process.Pid
		state := func() string {
			var set unix.CPUSet
			unix.SchedGetaffinity(pid, &set)
			nice, _ := unix.Getpriority(unix.PRIO_PROCESS, pid)
			policy, _, _ := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(pid), 0, 0)
			io, _, _ := unix.RawSyscall(unix.SYS_IOPRIO_GET, 1, uintptr(pid), 0)
			return fmt.Sprint(set, nice, policy, io)
		}
		before := state()
		out, _ := run(t, s, sandbox.Command{Argv: []string{"python3", "-c", `
import ctypes, errno, os, platform, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
ioprio = {"x86_64": 251, "aarch64": 30}.get(platform.machine())
attr = {"x86_64": 314, "aarch64": 274}.get(platform.machine())
def call(*a):
    ctypes.set_errno(0)
    if libc.syscall(*a) < 0: raise OSError(ctypes.get_errno(), "")
one = {next(iter(os.sched_getaffinity(0)))}
block = ctypes.create_string_buffer((48).to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(8) + (5).to_bytes(4, "little"), 48)
def acts(pid): return {
    "nice": lambda: os.setpriority(os.PRIO_PROCESS, pid, 5),
    "affinity": lambda: os.sched_setaffinity(pid, one),
    "scheduler": lambda: os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0)),
    "param": lambda: os.sched_setparam(pid, os.sched_param(0)),
    "attr": lambda: call(attr, pid, block, 0),
    "disk": lambda: call(ioprio, 1, pid, 3 << 13),
}
for name, act in acts(pid).items():
    try: act(); print(name, "succeeded")
    except OSError as e:
        if e.errno != errno.EPERM: print(name, e)
for name, act in {
    "group": lambda: os.setpriority(os.PRIO_PGRP, os.getpgid(pid), 5),
    "user": lambda: os.setpriority(os.PRIO_USER, 0, 5),
    "user by number": lambda: os.setpriority(os.PRIO_USER, os.getuid(), 5),
    "disk of the group": lambda: call(ioprio, 2, os.getpgid(pid), 3 << 13),
    "disk of the user": lambda: call(ioprio, 3, 0, 3 << 13),
    "limits": lambda: __import__("resource").prlimit(pid, 7, (10, 10)),
}.items():
    try: act(); print(name, "succeeded")
    except (OSError, PermissionError) as e:
        if e.errno != errno.EPERM: print(name, e)
for name, act in acts(0).items():
    try: act()
    except OSError as e: print("own", name, e)
print("done")
`, itoa(pid)}, Dir: p.Workspace})
		if out != "done\n" {
			t.Errorf("%s", out)
		}
		if after := state(); after != before {
			t.Errorf("the process outside was %s, is %s", before, after)
		}
		want(t, s, p.Workspace, "nice -n 3 nice; taskset -c 0 echo bound", "3\nbound\n")
	})
}

// One pass over /proc finds what descends from a process, whatever the depth.
func TestProcTable(t *testing.T) {
	table := procTable{10: {parent: 1}}
	for pid := 11; pid < 5000; pid++ {
		table[pid] = procEntry{parent: pid - 1, start: uint64(pid)}
	}
	table[6000] = procEntry{parent: 1}
	table[6001] = procEntry{parent: 6000, start: 1}
	if n := len(table.below(10)); n != 4989 {
		t.Errorf("%d processes below the first of a chain of 4990", n)
	}
	self := os.Getpid()
	c := exec.Command("sleep", "100")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	found := map[int]bool{}
	for _, pid := range readProcTable().below(self) {
		found[pid] = true
	}
	if !found[c.Process.Pid] || found[self] || found[os.Getppid()] {
		t.Errorf("%v below %d", found, self)
	}
	if n := userTasks(os.Getuid()); n < 2 {
		t.Errorf("%d tasks of this user", n)
	}
}
