package confine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

const (
	testServerEnv = "CONFINE_TEST_SERVER"
	testForkerEnv = "CONFINE_TEST_FORKER" // has the server use a forkProcess from the first init on
)

// runTestServer is a server that starts a sandbox with processes that do not
// want to die, says so, and waits.
func runTestServer() {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	level, rest, _ := strings.Cut(os.Getenv(testServerEnv), ":")
	ws, tag, _ := strings.Cut(rest, ":")
	standby := &WarmInit{}
	if os.Getenv(testForkerEnv) != "" {
		standby.forks = firstForks
	}
	s, err := standby.Start(context.Background(), sandbox.Policy{Workspace: ws, UID: -1, GID: -1, AllowRoot: true, Level: sandbox.Level(level)})
	if err != nil {
		fail(err)
	}
	line := `for i in 1 2 3 4 5; do setsid nohup sh -c 'trap "" TERM HUP INT; while :; do sleep ` + tag + `; done' >/dev/null 2>&1 & (setsid sleep ` + tag + ` &) ; done; echo up; sleep ` + tag
	c, err := s.Spawn(context.Background(), sandbox.Command{Argv: []string{"/bin/sh", "-c", line}, Env: s.Environ(), Dir: ws})
	if err != nil {
		fail(err)
	}
	if l, err := bufio.NewReader(c.Stdout()).ReadString('\n'); err != nil {
		fail(fmt.Errorf("%q: %w", l, err))
	}
	waiting := 0
	if b := standby.wait(); b != nil {
		waiting = b.pid
	}
	forker := 0
	if f := standby.forkedBy(); f != nil {
		forker = f.pid
	}
	fmt.Println(s.pid, waiting, forker)
	select {}
}

// tagged counts the processes of this host with tag in their arguments.
func tagged(tag string) int {
	n := 0
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), tag) {
			n++
		}
	}
	return n
}

// AC-46: a server that is killed, even while its init is stopped, leaves no
// process, neither of its sessions nor waiting for one, and no directory.
func TestServerKilled(t *testing.T) {
	for _, c := range []struct {
		level   sandbox.Level
		stopped bool
		forker  bool
	}{{sandbox.LevelNamespaces, false, false}, {sandbox.LevelNamespaces, true, false}, {sandbox.LevelNamespaces, true, true}, {sandbox.LevelLandlock, false, false}} {
		t.Run(fmt.Sprintf("%s/%v/%v", c.level, c.stopped, c.forker), func(t *testing.T) {
			needNamespaces(t, c.level)
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			ws, tag := testWorkspace(t), fmt.Sprintf("9%d", time.Now().UnixNano()%1e9)
			tmp := t.TempDir()
			os.Chmod(tmp, 0o777)
			server := exec.Command(exe)
			server.Env = append(os.Environ(), testServerEnv+"="+string(c.level)+":"+ws+":"+tag, "TMPDIR="+tmp)
			if c.forker {
				server.Env = append(server.Env, testForkerEnv+"=1")
			}
			server.Stderr = os.Stderr
			out, err := server.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { server.Process.Kill(); server.Wait() }()
			var pid, waiting, forker int
			if _, err := fmt.Fscan(out, &pid, &waiting, &forker); err != nil {
				t.Fatal(err)
			}
			if c.forker != (forker != 0) {
				t.Fatalf("the process that forks is %d", forker)
			}
			if waiting == 0 && c.level == sandbox.LevelNamespaces {
				t.Fatal("no init waits for the next session")
			}
			eventually(t, "its processes run", func() bool { return tagged(tag) >= 10 })
			if c.stopped {
				syscall.Kill(pid, syscall.SIGSTOP)
			}
			killed := time.Now()
			server.Process.Kill()
			io.Copy(io.Discard, out)
			eventually(t, "all processes are gone", func() bool { return tagged(tag) == 0 && (task{dir: "/proc/" + itoa(pid)}).ended() })
			eventually(t, "the waiting init is gone", func() bool { return waiting == 0 || (task{dir: "/proc/" + itoa(waiting)}).ended() })
			eventually(t, "the process that forks is gone", func() bool { return forker == 0 || (task{dir: "/proc/" + itoa(forker)}).ended() })
			t.Logf("gone after %v", time.Since(killed).Round(time.Millisecond))
			eventually(t, "no directory is left", func() bool {
				left, _ := filepath.Glob(filepath.Join(tmp, "mcp-sandbox-*"))
				return len(left) == 0
			})
		})
	}
}

// The level none runs commands with the rights of the server, only by name.
func TestLevelNone(t *testing.T) {
	p := testPolicy(t)
	p.Level = sandbox.LevelNone
	s := start(t, p)
	want(t, s, p.Workspace, "echo x > f; cat f; test -w $HOME && test -w $TMPDIR && ls -d /var/lib/dpkg && kill -0 "+itoa(os.Getpid())+" && echo free", "x\n/var/lib/dpkg\nfree\n")
	if l := s.Report().Level; l != sandbox.LevelNone {
		t.Errorf("level %s", l)
	}
	p.MinLevel = sandbox.LevelLandlock
	if s, err := Start(t.Context(), p); err == nil {
		s.Close()
		t.Error("a level below the minimum was started")
	}
}

// A state directory that holds the workspace stays hidden around it.
func TestWorkspaceInStateDir(t *testing.T) {
	for _, l := range []sandbox.Level{sandbox.LevelNamespaces, sandbox.LevelLandlock} {
		p := testPolicy(t)
		p.Level = l
		state := filepath.Dir(p.Workspace)
		os.WriteFile(filepath.Join(state, "token"), []byte("s3cret"), 0o644)
		p.StateDirs = []string{state}
		s := start(t, p)
		want(t, s, p.Workspace, "echo x > f; cat f ../token 2>/dev/null; echo done", "x\ndone\n")
		p.Read = []string{state}
		if s, err := Start(t.Context(), p); err == nil {
			s.Close()
			t.Errorf("%s: a grant showed the state directory", l)
		}
	}
}

// A binary only root may execute still becomes the init of an ordinary user.
func TestPrivateBinary(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only a root server has another identity for its commands
	}
	exe, err := copiedExe()
	if err != nil {
		t.Fatal(err)
	}
	p := testPolicy(t)
	os.Chown(p.Workspace, 12345, 12346)
	old, _ := selfExe()
	selfExe = func() (int, error) { return exe, nil }
	defer func() { selfExe = func() (int, error) { return old, nil } }()
	s := start(t, p)
	want(t, s, p.Workspace, "id -u", "12345\n")
}
