package confine

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// These run on a Mac only; elsewhere the profile's text is what is tested.

func macSandbox(t *testing.T, change func(*sandbox.Policy)) (*Sandbox, string) {
	t.Helper()
	ws, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := sandbox.Policy{Workspace: ws, UID: -1, GID: -1, Path: os.Getenv("PATH")}
	if change != nil {
		change(&p)
	}
	s, err := Start(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
			t.Error("the session's directory is left")
		}
	})
	return s, ws
}

func macRun(t *testing.T, s *Sandbox, dir, script string, tty bool) (string, sandbox.ExitStatus) {
	t.Helper()
	p, err := s.spawn(context.Background(), sandbox.Command{Argv: []string{"sh", "-c", script}, Env: s.Environ(), Dir: dir, TTY: tty})
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(p.Stdout()) // a terminal ends in EIO
	p.Stdout().Close()
	return string(out), p.Wait()
}

func TestMacOrdinaryWork(t *testing.T) {
	s, ws := macSandbox(t, nil)
	out, st := macRun(t, s, ws, `set -e; echo hi > f; cat f; id -un; mktemp; date >/dev/null; ls -la; exit 7`, false)
	if st.Code != 7 || !strings.HasPrefix(out, "hi\n") {
		t.Errorf("%+v\n%s", st, out)
	}
	out, st = macRun(t, s, ws, `tty; stty size`, true)
	if st.Code != 0 || !strings.Contains(out, "24 80") {
		t.Errorf("terminal: %+v\n%s", st, out)
	}
}

// AC-05, AC-20, AC-21, AC-25, AC-42, AC-70.
func TestMacOutsideIsClosed(t *testing.T) {
	outside, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	canary := filepath.Join(outside, "canary")
	if err := os.WriteFile(canary, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, ws := macSandbox(t, func(p *sandbox.Policy) { p.Protect = []string{".git/hooks"}; p.StateDirs = []string{outside} })
	l, err := s.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, script := range []string{
		"cat " + canary, "echo x > " + canary, "touch " + outside + "/new", "chmod 666 " + canary, "ls " + outside, "ln " + canary + " stolen",
		"ln -s " + outside + " l && cat l/canary", "mkdir .git && mkdir .git/hooks", "ls /Users", "cat /private/etc/master.passwd",
		"kill -0 " + "1", "touch f && chmod u+s f", "nc -z -w 1 127.0.0.1 22",
	} {
		if out, st := macRun(t, s, ws, script, false); st.Code == 0 {
			t.Errorf("%s succeeded: %s", script, out)
		}
	}
	if b, err := os.ReadFile(canary); err != nil || string(b) != "secret" {
		t.Errorf("canary: %q %v", b, err)
	}
}

// AC-44.
func TestMacTreeDies(t *testing.T) {
	s, ws := macSandbox(t, nil)
	p, err := s.spawn(context.Background(), sandbox.Command{Argv: []string{"sh", "-c", "sleep 1000 & nohup sleep 1000 >/dev/null 2>&1 & echo up; wait"}, Env: s.Environ(), Dir: ws})
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	if _, err := io.ReadFull(p.Stdout(), b); err != nil {
		t.Fatal(err)
	}
	if err := p.SignalTree(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := p.Wait(); st.Signal != syscall.SIGKILL {
		t.Errorf("%+v", st)
	}
	select {
	case <-p.tree.gone:
	case <-time.After(10 * time.Second):
		t.Error("some of the tree live on")
	}
	p.Stdout().Close()
}

func TestMacSpawnErrors(t *testing.T) {
	s, ws := macSandbox(t, nil)
	for code, c := range map[string]sandbox.Command{
		"exec_failed":      {Argv: []string{"no-such-program"}, Env: s.Environ(), Dir: ws},
		"invalid_argument": {Env: s.Environ(), Dir: ws},
		"not_found":        {Argv: []string{"true"}, Env: s.Environ(), Dir: ws + "/none"},
		"not_a_directory":  {Argv: []string{"true"}, Env: s.Environ(), Dir: "/bin/ls"},
	} {
		_, err := s.spawn(context.Background(), c)
		var e *sandbox.Error
		if !errors.As(err, &e) || e.Code() != code {
			t.Errorf("%s: %v", code, err)
		}
	}
}
