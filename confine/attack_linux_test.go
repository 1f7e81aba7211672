package confine

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// The attack suite: hostile programs against protected paths, at every level
// with namespaces, as the server's own user and, for a root server, as another.
// It runs alone, with its counts: go test -run TestAttack -v ./confine

// eachAttackLevel runs f for every level that keeps commands from protected
// paths, and every identity.
func eachAttackLevel(t *testing.T, f func(t *testing.T, p sandbox.Policy)) {
	for _, level := range []sandbox.Level{sandbox.LevelNamespaces, sandbox.LevelNamespacesNoProc} {
		t.Run(string(level), func(t *testing.T) {
			eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
				p.Level = level
				exe, err := os.Executable()
				if err != nil {
					t.Fatal(err)
				}
				p.Read = append(p.Read, exe)
				p.Protect = []string{".envrc", ".vscode", ".git/config", ".git/hooks", ".netrc", ".bashrc", "deep/er/file"}
				p.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
				f(t, p)
			})
		})
	}
}

// hostile starts one of the programs.
func hostile(t *testing.T, s *Sandbox, p sandbox.Policy, program string, args ...string) *Process {
	t.Helper()
	exe, err := filepath.EvalSymlinks("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.spawn(context.Background(), sandbox.Command{Argv: append([]string{exe}, args...), Env: append(s.Environ(), attackEnv+"="+program, "LANG=C.UTF-8"), Dir: p.Workspace})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var attackCounts = regexp.MustCompile(`attempts (\d+) won (\d+)\n$`)

// outcome waits for a program and fails the test for every attack it won.
func outcome(t *testing.T, c *Process) {
	t.Helper()
	defer c.Stdout().Close()
	c.Stdout().SetReadDeadline(time.Now().Add(5 * time.Minute))
	out, err := io.ReadAll(c.Stdout())
	if err != nil {
		t.Fatal(err, string(out))
	}
	m := attackCounts.FindSubmatch(out)
	if m == nil {
		t.Fatalf("the program did not end well: %+v %s", c.Wait(), out)
	}
	t.Logf("%s", m[0])
	if tried, _ := strconv.Atoi(string(m[1])); tried == 0 {
		t.Error("nothing was tried")
	}
	if string(m[2]) != "0" {
		t.Errorf("%s", out)
	}
}

// nothingMade checks on the host that none of the names exists.
func nothingMade(t *testing.T, p sandbox.Policy, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := os.Lstat(filepath.Join(p.Workspace, n)); err == nil {
			t.Errorf("%s exists", n)
		}
	}
}

// ownedBy gives a tree to the owner of the workspace.
func ownedBy(t *testing.T, p sandbox.Policy) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(p.Workspace, &st); err != nil {
		t.Fatal(err)
	}
	filepath.WalkDir(p.Workspace, func(f string, _ os.DirEntry, _ error) error { return os.Lchown(f, int(st.Uid), int(st.Gid)) })
}

// AC-21: what does not exist is made by no call, under no spelling, from no
// memory and in no race.
func TestAttackMissingPaths(t *testing.T) {
	eachAttackLevel(t, func(t *testing.T, p sandbox.Policy) {
		if err := os.Mkdir(filepath.Join(p.Workspace, ".git"), 0o755); err != nil {
			t.Fatal(err)
		}
		ownedBy(t, p)
		s := start(t, p)
		targets := []string{".envrc", ".vscode", ".git/config", ".ENVRC", "deep="}
		outcome(t, hostile(t, s, p, "make", targets...))
		nothingMade(t, p, ".envrc", ".vscode", ".git/config", ".ENVRC")
		for _, target := range []string{".envrc", ".git/config"} {
			outcome(t, hostile(t, s, p, "race", strings.Repeat("y", len(target)), target))
		}
		nothingMade(t, p, ".envrc", ".git/config")
		if fi, err := os.Lstat(filepath.Join(p.Workspace, "deep")); err == nil && !fi.IsDir() {
			t.Error("a parent is not a directory")
		}
	})
}

// A program that may be executed and not read hides its memory from init.
func TestAttackExecuteOnly(t *testing.T) {
	eachAttackLevel(t, func(t *testing.T, p sandbox.Policy) {
		ownedBy(t, p)
		s := start(t, p)
		exe, _ := filepath.EvalSymlinks("/proc/self/exe")
		line := "cp " + exe + " hidden && chmod 111 hidden && " + attackEnv + "=make ./hidden .envrc .vscode"
		c := spawn(t, s, sandbox.Command{Argv: []string{"/bin/sh", "-c", line}, Dir: p.Workspace})
		outcome(t, c)
		nothingMade(t, p, ".envrc", ".vscode")
	})
}

// What exists behind links is held with the links, in every writable grant.
func TestAttackLinks(t *testing.T) {
	eachAttackLevel(t, func(t *testing.T, p sandbox.Policy) {
		grant := filepath.Join(filepath.Dir(p.Workspace), "grant")
		for _, d := range []string{p.Workspace, grant} {
			for _, sub := range []string{".git", "githooks"} {
				if err := os.MkdirAll(filepath.Join(d, sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range map[string]string{"dotbashrc": "mine", "githooks/pre-commit": "mine", "realconfig": "mine", "rc2": "mine"} {
				if err := os.WriteFile(filepath.Join(d, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for name, target := range map[string]string{".bashrc": "hop", "hop": d + "/dotbashrc", ".git/hooks": "../githooks", ".git/config": "../realconfig", ".netrc": "newrc"} {
				if err := os.Symlink(target, filepath.Join(d, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		ownedBy(t, p)
		ownedBy(t, sandbox.Policy{Workspace: grant})
		p.Write = []string{grant}
		s := start(t, p)
		names := []string{".bashrc", "hop", "dotbashrc", ".git/hooks", "githooks", "githooks/pre-commit", ".git/config", "realconfig", ".git=", ".netrc", "newrc"}
		all := slices.Clone(names)
		for _, n := range names {
			all = append(all, grant+"/"+n)
		}
		outcome(t, hostile(t, s, p, "change", all...))
		for _, d := range []string{p.Workspace, grant} {
			for _, n := range []string{".bashrc", ".git/hooks/pre-commit", ".git/config"} {
				if b, err := os.ReadFile(filepath.Join(d, n)); string(b) != "mine" {
					t.Errorf("%s holds %q, %v", n, b, err)
				}
			}
			if _, err := os.Lstat(filepath.Join(d, "newrc")); err == nil {
				t.Error("the target of a link was made")
			}
		}
		// A link the user changes is followed to its new end.
		link := filepath.Join(p.Workspace, ".bashrc")
		os.Remove(link)
		if err := os.Symlink("rc2", link); err != nil {
			t.Fatal(err)
		}
		outcome(t, hostile(t, s, p, "change", "rc2", ".bashrc"))
	})
}

// A command that waits for the user's own program to replace a protected file
// never gets it open for writing.
func TestAttackReplacedFile(t *testing.T) {
	eachAttackLevel(t, func(t *testing.T, p sandbox.Policy) {
		git := filepath.Join(p.Workspace, ".git")
		if err := os.Mkdir(git, 0o755); err != nil {
			t.Fatal(err)
		}
		replace := func(name, text string) {
			t.Helper()
			tmp := filepath.Join(filepath.Dir(p.Workspace), "new")
			if err := os.WriteFile(tmp, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
			os.Chmod(tmp, 0o666)
			if err := os.Rename(tmp, filepath.Join(p.Workspace, name)); err != nil {
				t.Fatal(err)
			}
		}
		replace(".git/config", "mine")
		ownedBy(t, p)
		s := start(t, p)
		c := hostile(t, s, p, "lurk", ".git/config", ".envrc")
		b := make([]byte, 8)
		if _, err := io.ReadFull(c.Stdout(), b); err != nil || string(b) != "lurking\n"[:8] {
			t.Fatalf("%q %v", b, err)
		}
		last := ""
		for i := range 100 {
			last = fmt.Sprint("mine ", i)
			replace(".git/config", last)
			replace(".envrc", last)
			time.Sleep(time.Millisecond) // the pace of the user, nothing is waited for
		}
		if err := os.WriteFile(filepath.Join(p.Workspace, "stop"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		outcome(t, c)
		for _, n := range []string{".git/config", ".envrc"} {
			if b, _ := os.ReadFile(filepath.Join(p.Workspace, n)); string(b) != last {
				t.Errorf("%s holds %q", n, b)
			}
		}
	})
}

// The mounts come back while a command runs, not only before the next.
func TestReplacedFileIsPinnedAtOnce(t *testing.T) {
	eachAttackLevel(t, func(t *testing.T, p sandbox.Policy) {
		rc := filepath.Join(p.Workspace, ".envrc")
		for _, f := range []string{rc, rc + "2"} {
			if err := os.WriteFile(f, []byte("mine"), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		ownedBy(t, p)
		s := start(t, p)
		c := spawn(t, s, sandbox.Command{Argv: []string{"/bin/sh", "-c", "echo ready; until [ -e go ]; do sleep 0.01; done; until ! chmod 600 .envrc 2>/dev/null; do sleep 0.01; done; echo pinned"}, Dir: p.Workspace})
		b := make([]byte, 6)
		if _, err := io.ReadFull(c.Stdout(), b); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(rc+"2", rc); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(p.Workspace, "go"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		c.Stdout().SetReadDeadline(time.Now().Add(time.Minute))
		if out, err := io.ReadAll(c.Stdout()); string(out) != "pinned\n" {
			t.Errorf("%q %v", out, err)
		}
	})
}

var shownFlags = regexp.MustCompile(`flags 0x[0-9a-f]+`)

// What init does for a command is what the kernel would have done.
func TestSupervisedCalls(t *testing.T) {
	eachAttackLevel(t, func(t *testing.T, p sandbox.Policy) {
		run := func(p sandbox.Policy) []string {
			s := start(t, p)
			defer s.Close()
			c := hostile(t, s, p, "battery")
			defer c.Stdout().Close()
			c.Stdout().SetReadDeadline(time.Now().Add(2 * time.Minute))
			out, err := io.ReadAll(c.Stdout())
			if err != nil {
				t.Fatal(err)
			}
			if openat2Refused() {
				// Files opened step by step carry O_NOFOLLOW, which fcntl(2) shows
				// and nothing acts on.
				out = shownFlags.ReplaceAllFunc(out, func(b []byte) []byte {
					n, _ := strconv.ParseUint(string(b[len("flags 0x"):]), 16, 64)
					return fmt.Appendf(nil, "flags %#x", n&^unix.O_NOFOLLOW)
				})
			}
			return strings.Split(string(out), "\n")
		}
		got := run(p)
		p.Protect = nil
		want := run(p)
		t.Logf("%d results", len(want))
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) {
				t.Fatalf("%d results, without the supervisor %d", len(got), len(want))
			}
			if got[i] != want[i] {
				t.Errorf("%s, without the supervisor %s", got[i], want[i])
			}
		}
	})
}

// A refusal is told of the command it belongs to, with the path and why.
func TestDenied(t *testing.T) {
	eachAttackLevel(t, func(t *testing.T, p sandbox.Policy) {
		ownedBy(t, p)
		s := start(t, p)
		run := func(line string) *Process {
			c := spawn(t, s, sandbox.Command{Argv: []string{"/bin/sh", "-c", line}, Dir: p.Workspace})
			io.Copy(io.Discard, c.Stdout())
			c.Wait()
			return c
		}
		quiet := run("echo x > mine; cat /etc/none; echo x > missing/y; mkdir mine; rm nothing")
		outside := run("echo x > /etc/none; mkdir /usr/none; ln -s a /usr/lib/none; rm /usr/bin/env; echo >> /usr/bin/id; true > /proc/none")
		one := run("mkdir .vscode; (echo x > .envrc)")
		many := run("i=0; while [ $i -lt 200 ]; do mkdir .vscode; i=$((i+1)); done")
		if d := quiet.Denied(); len(d) != 0 {
			t.Errorf("%+v", d)
		}
		want := []sandbox.Denial{{Kind: sandbox.DenialProtected, Subject: p.Workspace + "/.vscode"}, {Kind: sandbox.DenialProtected, Subject: p.Workspace + "/.envrc"}}
		if d := one.Denied(); !slices.Equal(d, want) {
			t.Errorf("%+v", d)
		}
		if d := many.Denied(); len(d) != maxDenied {
			t.Errorf("%d were told", len(d))
		}
		want = nil
		for _, name := range []string{"/etc/none", "/usr/none", "/usr/lib/none", "/usr/bin/env", "/usr/bin/id"} {
			// What the host would refuse as well is not the sandbox's doing.
			if s.hostUID == 0 {
				want = append(want, sandbox.Denial{Kind: sandbox.DenialOutside, Subject: name})
			}
		}
		if d := outside.Denied(); !slices.Equal(d, want) {
			t.Errorf("%+v, want %+v", d, want)
		}
		if d := one.Denied(); len(d) != 0 {
			t.Errorf("told twice: %+v", d)
		}
	})
}
