package confine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mcp-sandbox/sandbox"
)

func wantRefused(t *testing.T, what string, err error, code string) {
	t.Helper()
	var e *sandbox.Error
	if !errors.As(err, &e) || e.Code() != code || e.Error() == "" {
		t.Errorf("%s: %v, want %s", what, err, code)
		return
	}
	if strings.Contains(e.Error(), os.TempDir()) {
		t.Errorf("%s names a host path: %v", what, e)
	}
}

// TestPolicyRefused: what cannot be meant is refused before anything is started,
// with its own words.
func TestPolicyRefused(t *testing.T) {
	words := map[string]string{}
	for _, c := range []struct {
		name, code string
		change     func(p *sandbox.Policy)
	}{
		{"no such level", "invalid_argument", func(p *sandbox.Policy) { p.Level = "strong" }},
		{"no such minimum", "invalid_argument", func(p *sandbox.Policy) { p.MinLevel = "strong" }},
		{"below the minimum", "invalid_argument", func(p *sandbox.Policy) { p.Level, p.MinLevel = sandbox.LevelLandlock, sandbox.LevelNamespaces }},
		{"another system's level", "confinement_unavailable", func(p *sandbox.Policy) { p.Level = sandbox.LevelSeatbelt }},
		{"no such network", "invalid_argument", func(p *sandbox.Policy) { p.Network = "wide" }},
		{"a negative limit", "invalid_argument", func(p *sandbox.Policy) { p.Limits.Procs = -1 }},
		{"no number of processors", "invalid_argument", func(p *sandbox.Policy) { p.Limits.CPU = 1 << 20 }},
		{"a relative workspace", "invalid_argument", func(p *sandbox.Policy) { p.Workspace = "ws" }},
		{"a NUL", "invalid_argument", func(p *sandbox.Policy) { p.Read = []string{"/a\x00b"} }},
		{"a system directory", "invalid_argument", func(p *sandbox.Policy) { p.Workspace = "/usr" }},
		{"below a system directory", "invalid_argument", func(p *sandbox.Policy) { p.Workspace = "/etc/x" }},
		{"a protected path outside", "invalid_argument", func(p *sandbox.Policy) { p.Protect = []string{"../x"} }},
		{"a workspace that is not there", "not_found", func(p *sandbox.Policy) { p.Workspace += "/none" }},
		{"a workspace that is a file", "not_a_directory", func(p *sandbox.Policy) { p.Workspace += "/file" }},
		{"a read grant that is not there", "invalid_argument", func(p *sandbox.Policy) { p.Read = []string{p.Workspace + "/none"} }},
		{"a read grant of everything", "invalid_argument", func(p *sandbox.Policy) { p.Read = []string{"/"} }},
		{"a link to everything", "invalid_argument", func(p *sandbox.Policy) { p.Write = []string{p.Workspace + "/root"} }},
		{"a home elsewhere", "invalid_argument", func(p *sandbox.Policy) { p.Home = "/var/elsewhere" }},
		{"a negative user", "invalid_argument", func(p *sandbox.Policy) { p.UID = -5 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testPolicy(t)
			if err := os.WriteFile(p.Workspace+"/file", nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/", p.Workspace+"/root"); err != nil {
				t.Fatal(err)
			}
			c.change(&p)
			s, err := Start(context.Background(), p)
			if err == nil {
				s.Close()
			}
			wantRefused(t, c.name, err, c.code)
			if err != nil {
				words[c.name] = err.Error()
			}
		})
	}
	if words["no such level"] == words["no such minimum"] || words["a system directory"] == words["below a system directory"] {
		t.Error("two refusals read the same")
	}
}

// TestCallsRefused: what a running sandbox cannot do it says, and an ended one
// says that it has ended.
func TestCallsRefused(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		ctx := context.Background()
		_, err := s.Dial(ctx, 0)
		wantRefused(t, "dial port 0", err, "invalid_argument")
		for _, bad := range []string{"127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "[::1]:80", "host:80"} {
			_, err = s.Listen("tcp", bad)
			wantRefused(t, "listen "+bad, err, "invalid_argument")
		}
		_, err = s.Listen("udp", "127.0.0.1:0")
		wantRefused(t, "listen udp", err, "invalid_argument")
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		_, err = s.Spawn(cancelled, sandbox.Command{Argv: []string{"true"}, Env: s.Environ(), Dir: p.Workspace})
		wantRefused(t, "spawn", err, "cancelled")

		c := spawn(t, s, sandbox.Command{Argv: []string{"/bin/sh", "-c", "read x"}, Dir: p.Workspace, Stdin: sandbox.StdinPipe})
		if c.Pid() <= 0 || !c.Ended().IsZero() {
			t.Errorf("pid %d, ended %v", c.Pid(), c.Ended())
		}
		wantRefused(t, "resize a pipe", c.Resize(80, 24), "invalid_argument")
		wantRefused(t, "signal 65", c.SignalTree(65), "invalid_argument")
		wantRefused(t, "signal -1", c.SignalTree(-1), "invalid_argument")
		if n, err := c.TreeAlive(); n != 1 || err != nil {
			t.Errorf("%d alive, %v", n, err)
		}
		if err := c.SignalTree(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		<-c.Done()
		if st := c.Wait(); st.Signal != syscall.SIGTERM || c.Ended().IsZero() {
			t.Errorf("%+v, ended %v", st, c.Ended())
		}
		if n, err := c.TreeAlive(); n != 0 || err != nil {
			t.Errorf("%d alive, %v", n, err)
		}
		c.Stdin().Close()
		c.Stdout().Close()

		live := spawn(t, s, sandbox.Command{Argv: []string{"/bin/sleep", "1000"}, Dir: p.Workspace})
		defer live.Stdout().Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		<-s.Done()
		<-live.Done()
		_, err = s.Spawn(ctx, sandbox.Command{Argv: []string{"true"}, Env: s.Environ(), Dir: p.Workspace})
		wantRefused(t, "spawn after the end", err, "session_not_found")
		_, err = s.Listen("tcp", "127.0.0.1:0")
		wantRefused(t, "listen after the end", err, "session_not_found")
		_, err = s.Dial(ctx, 80)
		wantRefused(t, "dial after the end", err, "session_not_found")
		wantRefused(t, "signal after the end", live.SignalTree(syscall.SIGTERM), "process_not_found")
		if n, err := live.TreeAlive(); n != 0 || err != nil {
			t.Errorf("%d alive, %v", n, err)
		}
	})
}

// TestSpawnRefused: a program that is not there, or may not be run, and a
// directory that cannot be entered are told apart; what lies in the working
// directory is not found by a relative entry of PATH.
func TestSpawnRefused(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		for name, mode := range map[string]os.FileMode{"ls-of-the-folder": 0o755, "not-executable": 0o644} {
			if err := os.WriteFile(filepath.Join(p.Workspace, name), []byte("#!/bin/sh\necho ran\n"), mode); err != nil {
				t.Fatal(err)
			}
		}
		s := start(t, p)
		if out, st := sh(t, s, p.Workspace, "mkdir closed && chmod 0 closed && echo made"); out != "made\n" || st.Code != 0 {
			t.Fatalf("%q %+v", out, st)
		}
		defer sh(t, s, p.Workspace, "chmod 700 closed")
		for _, c := range []struct {
			name, program, path, dir, code string
		}{
			{"relative PATH", "ls-of-the-folder", ".:" + "bin:" + "", p.Workspace, "exec_failed"},
			{"not executable", "not-executable", p.Workspace, p.Workspace, "exec_failed"},
			{"no PATH at all", "ls", "", p.Workspace, "exec_failed"},
			{"a directory that is not there", "ls", "/bin:/usr/bin", p.Workspace + "/none", "not_found"},
			{"a file for a directory", "ls", "/bin:/usr/bin", p.Workspace + "/not-executable", "not_a_directory"},
			{"through a file", "ls", "/bin:/usr/bin", p.Workspace + "/not-executable/x", "not_a_directory"},
			{"a closed directory", "ls", "/bin:/usr/bin", p.Workspace + "/closed", "permission_denied"},
			{"through a closed directory", "ls", "/bin:/usr/bin", p.Workspace + "/closed/x", "permission_denied"},
		} {
			proc, err := s.Spawn(context.Background(), sandbox.Command{Argv: []string{c.program}, Env: []string{"PATH=" + c.path}, Dir: c.dir})
			if err == nil {
				proc.Stdout().Close()
				proc.Wait()
			}
			if strings.Contains(c.name, "closed") && p.UID == -1 && os.Geteuid() == 0 && err == nil {
				continue // uid 0 enters everything
			}
			wantRefused(t, c.name, err, c.code)
		}
	})
}

// TestManyShortCommands: a session outlives more commands than init remembers at
// a time, and the one that lives through all of them is still found and ended.
func TestManyShortCommands(t *testing.T) {
	p := testPolicy(t)
	s := start(t, p)
	long := spawn(t, s, sandbox.Command{Argv: []string{"/bin/sleep", "1000"}, Dir: p.Workspace})
	defer long.Stdout().Close()
	n := 2*sweepEvery + 50 // what has ended is forgotten by the second look
	if testing.Short() {
		n = sweepEvery + 50
	}
	for i := range n {
		c := spawn(t, s, sandbox.Command{Argv: []string{"/bin/true"}, Dir: p.Workspace})
		if st := c.Wait(); st.Code != 0 {
			t.Fatalf("command %d: %+v", i, st)
		}
		c.Stdout().Close()
	}
	if n, err := long.TreeAlive(); n != 1 || err != nil {
		t.Errorf("the first command: %d alive, %v", n, err)
	}
	if err := long.SignalTree(9); err != nil {
		t.Error(err)
	}
	if st := long.Wait(); st.Signal != 9 {
		t.Errorf("%+v", st)
	}
}
