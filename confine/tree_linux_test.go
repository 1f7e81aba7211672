package confine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// eventually waits for a condition, not for a time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// levels runs f at every confinement level this host gives.
func eachLevel(t *testing.T, f func(t *testing.T, p sandbox.Policy)) {
	for _, l := range []sandbox.Level{sandbox.LevelNamespaces, sandbox.LevelLandlock} {
		t.Run(string(l), func(t *testing.T) {
			each := eachIdentity
			if l == sandbox.LevelLandlock {
				each = eachOwner // nobody stands in for root there
			}
			each(t, func(t *testing.T, p sandbox.Policy) {
				p.Level = l
				f(t, p)
			})
		})
	}
}

// escapes are ways to get out of a command's process group, session and line of
// parents. Each prints a line when its process is on its way.
var escapes = map[string]string{
	"background":  `sleep 1000 & echo ready`,
	"setsid":      `setsid sleep 1000 & echo ready`,
	"nohup":       `nohup sleep 1000 >/dev/null 2>&1 & echo ready`,
	"double fork": `(setsid sh -c '(sleep 1000 &) ; exit' &) ; echo ready`,
	"trap":        `setsid sh -c 'trap "" TERM HUP INT; while :; do sleep 1; done' & echo ready`,
	"stopped":     `setsid sh -c 'kill -STOP $$' & echo ready`,
	"daemon":      `setsid setsid nohup sh -c 'exec setsid sleep 1000' </dev/null >/dev/null 2>&1 & echo ready`,
	"subreaper":   `setsid python3 -c 'import ctypes, os, time; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.fork() or os.fork(); print("ready", flush=True); time.sleep(1000)' & :`,
}

// AC-44: nothing a command started survives the kill of its tree, and nothing
// of another command is hurt.
func TestSignalTree(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		other := spawn(t, s, sandbox.Command{Argv: []string{"sh", "-c", "setsid sleep 1000 & exec sleep 1000"}, Dir: p.Workspace})
		eventually(t, "the other command has its child", func() bool { n, _ := other.TreeAlive(); return n == 2 })
		for name, line := range escapes {
			for _, leaderLives := range []bool{true, false} {
				line := line
				if leaderLives {
					line += "; sleep 1000"
				}
				t.Run(fmt.Sprintf("%s/%v", name, leaderLives), func(t *testing.T) {
					c := spawn(t, s, sandbox.Command{Argv: []string{"sh", "-c", line}, Dir: p.Workspace})
					if l, err := bufio.NewReader(c.Stdout()).ReadString('\n'); l != "ready\n" {
						t.Fatal(l, err)
					}
					if !leaderLives {
						c.Wait()
					}
					if n, err := c.TreeAlive(); n == 0 || err != nil {
						t.Fatalf("%d alive before the kill, %v", n, err)
					}
					if err := c.SignalTree(syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
					eventually(t, "all dead", func() bool { n, err := c.TreeAlive(); return n == 0 && err == nil })
					c.Wait()
					// All holders of the pipe are gone with the processes.
					c.Stdout().SetReadDeadline(time.Now().Add(10 * time.Second))
					if _, err := io.ReadAll(c.Stdout()); err != nil {
						t.Error(err)
					}
				})
			}
		}
		if quiet := spawn(t, s, sandbox.Command{Argv: []string{"true"}, Dir: p.Workspace}); quiet.Wait().Code == 0 && !quiet.empty.Load() {
			if _, err := os.Stat("/proc/thread-self/children"); err == nil {
				t.Error("a command that left nothing behind while another ran is looked for in /proc")
			}
		}
		if n, err := other.TreeAlive(); n != 2 || err != nil {
			t.Errorf("the other command has %d processes, %v", n, err)
		}
		// A polite signal reaches stopped processes as well.
		c := spawn(t, s, sandbox.Command{Argv: []string{"sh", "-c", escapes["stopped"] + "; sleep 1000"}, Dir: p.Workspace})
		bufio.NewReader(c.Stdout()).ReadString('\n')
		if err := c.SignalTree(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all ended by SIGTERM", func() bool { c.SignalTree(syscall.SIGTERM); n, _ := c.TreeAlive(); return n == 0 })
		// A shell whose child dies first ends by itself, with the same code.
		if st := c.Wait(); st.Code != 143 {
			t.Errorf("status %+v", st)
		}
	})
}

// What another command left behind does not keep init from knowing that a
// command has left nothing, neither at its end nor after a kill.
func TestNothingIsKnownToBeLeft(t *testing.T) {
	if _, err := os.Stat("/proc/thread-self/children"); err != nil {
		t.Skip("this kernel does not list children")
	}
	p := testPolicy(t)
	s := start(t, p)
	other := spawn(t, s, sandbox.Command{Argv: []string{"sh", "-c", "setsid sleep 1000 >/dev/null & :"}, Dir: p.Workspace})
	other.Wait()
	quiet := spawn(t, s, sandbox.Command{Argv: []string{"true"}, Dir: p.Workspace})
	if quiet.Wait(); !quiet.empty.Load() {
		t.Error("a command that left nothing behind is looked for in /proc")
	}
	if other.empty.Load() {
		t.Error("a command that left a process behind is taken to be gone")
	}
	// A kill is not waited for without end, so one of several is enough.
	eventually(t, "a kill knows that it has reached all", func() bool {
		c := spawn(t, s, sandbox.Command{Argv: []string{"sh", "-c", `trap "" TERM; setsid sleep 1000 & sleep 1000`}, Dir: p.Workspace})
		eventually(t, "the tree is there", func() bool { n, _ := c.TreeAlive(); return n == 3 })
		if err := c.SignalTree(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all dead", func() bool { n, err := c.TreeAlive(); return n == 0 && err == nil })
		c.Wait()
		return c.empty.Load()
	})
	if n, err := other.TreeAlive(); n != 1 || err != nil {
		t.Errorf("the other command has %d processes, %v", n, err)
	}
}

// The commands of a server with a real-time policy are ordinary ones: a real-time
// process has no mark by which a kill could find it.
func TestRealTimeServer(t *testing.T) {
	p := testPolicy(t)
	if now, err := unix.SchedGetAttr(0, 0); err != nil || now.Policy != unix.SCHED_NORMAL {
		t.Skip("the tests have a policy of their own")
	}
	set := func(policy, priority uint32) error {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			err := unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}, 0)
			if err != nil && err != unix.ESRCH {
				return err
			}
		}
		return nil
	}
	defer set(unix.SCHED_NORMAL, 0)
	if err := set(unix.SCHED_RR, 1); err != nil {
		t.Skip("no right to a real-time policy:", err)
	}
	s := start(t, p)
	if err := set(unix.SCHED_NORMAL, 0); err != nil {
		t.Fatal(err)
	}
	c := spawn(t, s, sandbox.Command{Argv: []string{"sh", "-c", "setsid sleep 1000 & cut -d' ' -f41 /proc/self/stat; ulimit -r; exec sleep 1000"}, Dir: p.Workspace})
	out := bufio.NewReader(c.Stdout())
	for _, what := range []string{"policy", "highest priority"} {
		if l, err := out.ReadString('\n'); l != "0\n" {
			t.Errorf("%s of a command: %q, %v", what, l, err)
		}
	}
	if n, err := c.TreeAlive(); n != 2 || err != nil {
		t.Errorf("%d processes are found, %v", n, err)
	}
	if err := c.SignalTree(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	eventually(t, "the leader is dead", func() bool { return !c.Ended().IsZero() })
}

// A command cannot shed or copy the mark by which its tree is found.
func TestMarkCannotBeChanged(t *testing.T) {
	needTools(t, "python3")
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		script := `
import ctypes, os, resource
libc = ctypes.CDLL(None, use_errno=True)
before = open("/proc/self/timerslack_ns").read(), resource.getrlimit(12)
if libc.prctl(29, 1, 0, 0, 0) == 0 and "` + string(p.Level) + `" == "namespaces": print("prctl changed it")
for f in ("/proc/self/timerslack_ns", "/proc/thread-self/timerslack_ns", "/proc/%d/timerslack_ns" % os.getpid()):
    try: open(f, "w").write("1"); print("write changed it")
    except OSError: pass
if "` + string(p.Level) + `" == "landlock":
    try: resource.setrlimit(12, (1, 1)); print("setrlimit changed it")
    except (OSError, ValueError): pass
    try: resource.prlimit(0, 12, (1, 1)); print("prlimit changed it")
    except OSError: pass
    if resource.getrlimit(3): pass
print("done")
`
		c := spawn(t, s, sandbox.Command{Argv: []string{"/usr/bin/python3", "-c", script}, Dir: p.Workspace})
		out, _ := io.ReadAll(c.Stdout())
		if string(out) != "done\n" {
			t.Errorf("%s", out)
		}
	})
}

// Marks come free again when nothing lives under them.
func TestMarkSet(t *testing.T) {
	var m markSet
	seen := map[int]bool{}
	for range maxMarks - 1 {
		k := m.take()
		if k == 0 || seen[k] {
			t.Fatalf("mark %d given twice or none", k)
		}
		seen[k] = true
	}
	if k := m.take(); k != 0 {
		t.Fatalf("mark %d beyond the last", k)
	}
	m.release(77)
	if k := m.take(); k != 77 {
		t.Fatalf("got %d, want the freed 77", k)
	}
}

// A thousand commands, each leaving an orphan: every status is its own, no
// zombie stays (AC-54).
func TestManyCommandsWithOrphans(t *testing.T) {
	p := testPolicy(t)
	s := start(t, p)
	n := 500
	if testing.Short() {
		n = 50
	}
	type result struct {
		i    int
		out  string
		code int
	}
	results := make(chan result)
	for w := range 8 {
		go func() {
			for i := w; i < n; i += 8 {
				line := fmt.Sprintf("(setsid sleep 0.01 &) ; echo %d; exit %d", i, i%200)
				proc, err := s.Spawn(context.Background(), sandbox.Command{Argv: []string{"/bin/sh", "-c", line}, Env: s.Environ(), Dir: p.Workspace})
				if err != nil {
					t.Error(err)
					results <- result{i, "", -1}
					continue
				}
				out, _ := io.ReadAll(proc.Stdout())
				proc.Stdout().Close()
				results <- result{i, string(out), proc.Wait().Code}
			}
		}()
	}
	for range n {
		r := <-results
		if r.out != fmt.Sprintf("%d\n", r.i) || r.code != r.i%200 {
			t.Errorf("command %d: %q, %d", r.i, r.out, r.code)
		}
	}
	eventually(t, "no zombie left", func() bool {
		out, _ := sh(t, s, p.Workspace, `for f in /proc/[0-9]*/stat; do cat $f 2>/dev/null; done | grep -c ' Z ' ; true`)
		return strings.TrimSpace(out) == "0"
	})
}

func fdCount(t testing.TB) int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}
