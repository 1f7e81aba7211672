package confine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

func TestMain(m *testing.M) {
	MaybeRunChild()
	if calls := os.Getenv(refusedCallsEnv); calls != "" {
		if err := refuseCalls(calls); err != nil {
			panic("the filter cannot be installed: " + err.Error())
		}
	}
	if program := os.Getenv(attackEnv); program != "" {
		runAttack(program)
	}
	if os.Getenv(testServerEnv) != "" {
		runTestServer()
	}
	os.Exit(m.Run())
}

// testWorkspace makes a workspace of the current user.
func testWorkspace(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// testing makes its directories private, and the identities of a root server
	// must be able to walk here.
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ws := filepath.Join(dir, "ws")
	if err := os.Mkdir(ws, 0o755); err != nil {
		t.Fatal(err)
	}
	return ws
}

func testPolicy(t testing.TB) sandbox.Policy {
	return sandbox.Policy{Workspace: testWorkspace(t), UID: -1, GID: -1, AllowRoot: true, Path: os.Getenv("PATH"), Level: sandbox.LevelNamespaces}
}

func start(t testing.TB, p sandbox.Policy) *Sandbox {
	t.Helper()
	needNamespaces(t, p.Level)
	if p.Log == nil {
		// Why an init has ended is said by its log alone.
		p.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	s, err := Start(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// sh runs a shell line in the workspace and returns its output and status.
func sh(t testing.TB, s *Sandbox, dir, line string) (string, sandbox.ExitStatus) {
	t.Helper()
	p, err := s.spawn(context.Background(), sandbox.Command{Argv: []string{"/bin/sh", "-c", line}, Env: append(s.Environ(), "LANG=C.UTF-8"), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stdout().Close()
	p.Stdout().SetReadDeadline(time.Now().Add(60 * time.Second))
	out, err := io.ReadAll(p.Stdout())
	if err != nil {
		t.Fatalf("%s: %v after %q", line, err, out)
	}
	return string(out), p.Wait()
}

// spawn starts argv and fails the test when it cannot.
func spawn(t testing.TB, s *Sandbox, c sandbox.Command) *Process {
	t.Helper()
	if c.Env == nil {
		c.Env = append(s.Environ(), "LANG=C.UTF-8", "TERM=xterm")
	}
	p, err := s.spawn(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stdout().Close()
		if p.Stdin() != nil {
			p.Stdin().Close()
		}
		if p.Stderr() != nil {
			p.Stderr().Close()
		}
	})
	return p
}

// readTerminal reads a terminal to its end, which is a second EIO in a row, see
// Process.Stdout; a pipe ends as files do.
func readTerminal(t testing.TB, p *Process) string {
	t.Helper()
	p.Stdout().SetReadDeadline(time.Now().Add(60 * time.Second))
	var all []byte
	for ends := 0; ends < 2; {
		out, err := io.ReadAll(p.Stdout())
		all = append(all, out...)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EIO) {
			t.Fatalf("%v after %q", err, all)
		}
		if ends++; len(out) > 0 {
			ends = 1
		}
	}
	return string(all)
}

// eachIdentity runs f as every user this process can start sessions for: those of
// eachOwner, and when it is root the one that stands in for root.
func eachIdentity(t *testing.T, f func(t *testing.T, p sandbox.Policy)) {
	eachOwner(t, f)
	if os.Geteuid() != 0 {
		return
	}
	t.Run("mapped", func(t *testing.T) {
		p := testPolicy(t)
		p.AllowRoot = false
		f(t, p)
	})
}

// eachOwner runs f as the owner of the workspace: itself, and an ordinary user when
// it is root.
func eachOwner(t *testing.T, f func(t *testing.T, p sandbox.Policy)) {
	t.Run("self", func(t *testing.T) { f(t, testPolicy(t)) })
	if os.Geteuid() != 0 {
		return
	}
	t.Run("other", func(t *testing.T) {
		p := testPolicy(t)
		if err := os.Chown(p.Workspace, 12345, 12346); err != nil {
			t.Fatal(err)
		}
		f(t, p)
	})
}

func TestSpawn(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		for _, c := range []struct {
			line, want string
			code       int
		}{
			{"echo hi; exit 3", "hi\n", 3},
			{"echo out; echo err >&2; echo out", "out\nerr\nout\n", 0},
			{"pwd", p.Workspace + "\n", 0},
			{"echo x > f && cat f && rm f", "x\n", 0},
			{"kill -TERM $$", "", 143},
			{"hostname", "sandbox\n", 0},
			{"umask", "0022\n", 0},
			{"cat", "", 0},
			{"touch $HOME/a $TMPDIR/b /run/c /dev/shm/d /var/tmp/e && echo ok", "ok\n", 0},
			{"id -un; cd ~ && test $PWD = $HOME && echo home", map[bool]string{true: s.Environ()[2][5:]}[true] + "\nhome\n", 0},
		} {
			out, st := sh(t, s, p.Workspace, c.line)
			if out != c.want || st.Code != c.code {
				t.Errorf("%s: got %q, %+v", c.line, out, st)
			}
		}
	})
}

func TestTerminal(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		c := spawn(t, s, sandbox.Command{Argv: []string{"sh", "-c", "tty; stty size; test -t 0 && test -t 2 && echo all; tty < /dev/tty; exit 4"}, Dir: p.Workspace, TTY: true, Cols: 101, Rows: 33})
		out := readTerminal(t, c)
		if want := "/dev/pts/0\r\n33 101\r\nall\r\n/dev/tty\r\n"; out != want {
			t.Errorf("got %q, want %q", out, want)
		}
		if st := c.Wait(); st.Code != 4 {
			t.Errorf("status %+v", st)
		}
	})
}

// run runs one command and returns its output and status.
func run(t testing.TB, s *Sandbox, c sandbox.Command) (string, sandbox.ExitStatus) {
	t.Helper()
	p := spawn(t, s, c)
	p.Stdout().SetReadDeadline(time.Now().Add(120 * time.Second))
	out, err := io.ReadAll(p.Stdout())
	if err != nil {
		t.Fatalf("%q: %v after %q", c.Argv, err, out)
	}
	return string(out), p.Wait()
}

// homeOf is the session's home inside.
func homeOf(s *Sandbox) string {
	for _, kv := range s.Environ() {
		if home, ok := strings.CutPrefix(kv, "HOME="); ok {
			return home
		}
	}
	return ""
}
