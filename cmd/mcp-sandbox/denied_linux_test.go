package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// refusals are commands the sandbox refuses something, each with what its
// result must say. {w} is the workspace. root marks what an ordinary user's host
// would refuse as well, which then gets no note; mounts what only a level with
// mounts tells.
var refusals = []struct {
	cmd, note    string
	root, mounts bool
}{
	{cmd: "echo x > .envrc", note: "sandbox: {w}/.envrc was not changed: this path is protected", mounts: true},
	{cmd: "mkdir .vscode", note: "sandbox: {w}/.vscode was not changed: this path is protected", mounts: true},
	{cmd: "mv .git moved", note: "{w}/.git was not changed: this path is protected", mounts: true},
	{cmd: "ln -s /etc .idea", note: "{w}/.idea was not changed: this path is protected", mounts: true},
	{cmd: "echo x > a; mv a .npmrc", note: "{w}/.npmrc was not changed: this path is protected", mounts: true},
	{cmd: "echo x > a; ln a .netrc", note: "{w}/.netrc was not changed: this path is protected", mounts: true},
	{cmd: "mkfifo .profile", note: "{w}/.profile was not changed: this path is protected", mounts: true},
	{cmd: "rm guarded", note: "{w}/guarded was not changed: this path is protected, because programs outside the sandbox obey what it holds; the operator can start the server without --protect guarded", mounts: true},
	{cmd: "echo x >> guarded", note: "{w}/guarded was not changed", mounts: true},
	{cmd: "truncate -s 0 guarded", note: "{w}/guarded was not changed", mounts: true},
	{cmd: `python3 -c 'open(".zshrc", "w")'`, note: "{w}/.zshrc was not changed", mounts: true},
	{cmd: `python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(".ssh")'`, note: "{w}/.ssh was not changed", mounts: true},
	{cmd: "cp a .bashrc 2>/dev/null", note: "{w}/.bashrc was not changed", mounts: true},
	{cmd: "echo x > /etc/none", note: "sandbox: /etc/none was not changed: it is outside the workspace, where everything is read-only; the operator can allow it with --write /etc", root: true, mounts: true},
	{cmd: "mkdir /usr/local/none", note: "/usr/local/none was not changed: it is outside", root: true, mounts: true},
	{cmd: "rm /etc/passwd", note: "/etc/passwd was not changed: it is outside", root: true, mounts: true},
	{cmd: "ln -s a /usr/lib/none", note: "/usr/lib/none was not changed: it is outside", root: true, mounts: true},
	{cmd: "cp a /usr/bin/none", note: "/usr/bin/none was not changed: it is outside", root: true, mounts: true},
	{cmd: "chmod 600 /usr/bin/env", note: "/usr/bin/env was not changed: it is outside", root: true, mounts: true},
	{cmd: "touch -d yesterday /usr/bin/env", note: "/usr/bin/env was not changed: it is outside", root: true, mounts: true},
	{cmd: "echo x > {r}/new", note: "{r}/new was not changed: it is outside the workspace, where everything is read-only; the operator granted {r} for reading only and can use --write instead of --read"},
	{cmd: "rm {r}/there", note: "{r}/there was not changed", mounts: true},
	{cmd: "mv {r}/there .", note: "{r}/there was not changed", mounts: true},
	{cmd: "cat secret", note: "sandbox: {w}/secret cannot be read: --deny-read hides it; the operator can change that setting", mounts: true},
	{cmd: "cat ./d/../secret; false", note: "{w}/secret cannot be read", mounts: true},
	{cmd: `python3 -c 'open("secret")'`, note: "{w}/secret cannot be read", mounts: true},
	{cmd: "dd if=/dev/zero of=big bs=1M count=6", note: "sandbox: a file reached the limit of 4M; write less into one file, or the operator can raise --limit-file-size"},
	{cmd: "head -c 6000000 /dev/zero > /tmp/big", note: "a file reached the limit of 4M", mounts: true},
	{cmd: "i=0; while [ $i -lt 5 ]; do head -c 3000000 /dev/zero > /tmp/f$i || exit 1; i=$((i+1)); done", note: "sandbox: /tmp and the private home are full: together they hold 8M; remove files, or the operator can raise --limit-tmp", mounts: true},
	{cmd: "rm -f /tmp/*; python3 -c 'x = [open(\"/dev/null\") for i in range(200)]'", note: "sandbox: a process reached the limit of 64 open files; close some, or the operator can raise --limit-open-files"},
	{cmd: "curl -sS https://example.com/", note: "network: the name example.com was not looked up: this session has no network"},
	{cmd: "git clone -q https://git.example.org/a/b", note: "network: the name git.example.org was not looked up: this session has no network"},
	{cmd: `python3 -c 'import urllib.request as u; u.urlopen("http://example.net/")'`, note: "network: "},
	{cmd: `python3 -c 'import socket; socket.create_connection(("192.0.2.1", 80))'`, note: "was not reached: this session has no network"},
	{cmd: "python3 -m pip --version >/dev/null 2>&1 || { echo pip not found; exit 1; }; python3 -m pip download nope", note: "network: "},
	{cmd: "wget -q -T 2 -t 1 http://example.com/ || wget -T 2 -t 1 http://example.com/", note: "network: the name example.com was not looked up"},
}

// denialSession is a server with a workspace in which the refusals can happen.
func denialSession(t *testing.T, more ...string) (c *client, root, readable string) {
	t.Helper()
	root, readable = t.TempDir(), t.TempDir()
	openPath(t, root)
	openPath(t, readable)
	for _, f := range []string{root + "/guarded", root + "/secret", root + "/a", readable + "/there"} {
		if err := os.WriteFile(f, []byte("x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{root + "/.git", root + "/d"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"--root", root, "--read", readable, "--protect", "guarded",
		"--limit-tmp", "8M", "--limit-file-size", "4M", "--limit-open-files", "64"}
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") != "landlock" {
		args = append(args, "--deny-read", "secret")
	}
	c = startServer(t, append(args, more...)...)
	c.initialize("2025-11-25")
	return c, root, readable
}

// sandboxNotes are the notices of a result about refusals.
func sandboxNotes(o commandOutcome) []string {
	var out []string
	for _, n := range o.Notices {
		if strings.HasPrefix(n, "sandbox: ") || strings.HasPrefix(n, "network: ") {
			out = append(out, n)
		}
	}
	return out
}

// TestRefusalsExplained: each refusal has its line, and no other.
func TestRefusalsExplained(t *testing.T) {
	c, root, readable := denialSession(t)
	mounts := os.Getenv("MCP_SANDBOX_TEST_LEVEL") != "landlock"
	for _, tc := range refusals {
		if tc.mounts && !mounts {
			continue
		}
		in := strings.NewReplacer("{w}", root, "{r}", readable)
		o := c.exec(map[string]any{"cmd": in.Replace(tc.cmd), "yield_time_ms": 25000})
		notes := sandboxNotes(o)
		if o.ExitCode == nil || *o.ExitCode == 0 {
			t.Errorf("%s: was not refused: %+v", tc.cmd, o)
			continue
		}
		if strings.Contains(o.Output, "not found") {
			t.Logf("%s: %s", tc.cmd, o.Output)
			continue
		}
		if tc.root && os.Geteuid() != 0 {
			if len(notes) > 0 {
				t.Errorf("%s: the host refuses it as well, and the result says %q", tc.cmd, notes)
			}
			continue
		}
		if len(notes) != 1 || !strings.Contains(notes[0], in.Replace(tc.note)) {
			t.Errorf("%s: %q, want %q; output %q", tc.cmd, notes, in.Replace(tc.note), o.Output)
		}
	}
}

// ordinary are commands that fail by themselves.
func ordinary() []string {
	cmds := []string{
		"false", "exit 3", "ls /nope", "cat nope", "cat /nope/x", "rm nope", "rmdir d/..", "mkdir d", "cd nope", "cp nope x", "mv nope x",
		"grep nothing a", "grep x nope", "test -f nope", "diff a d/../guarded && false", "cmp a nope", "sort nope", "head nope", "tail nope",
		"nosuchprogram", "./nope", "/nope/run", "./a", "sh ./nope", "sh -c 'syntax ('", "kill 99999", "kill -9 1", "wait 99999", "read x < nope",
		"git status", "git log", "git commit -m x", "git diff nope", "git checkout nope", "git clone ./nope x", "git push", "git -C nope status", "git frob",
		"python3 -c '1/0'", "python3 -c 'import nope'", "python3 -c 'raise SystemExit(4)'", "python3 nope.py", "python3 -c 'assert 0'", "python3 -c 'open(\"nope\")'",
		"python3 -c 'raise PermissionError(13, \"Permission denied\", \"nope\")'", "python3 -c '{}[1]'", "python3 -m nope", "python3 -c 'import os; os.kill(os.getpid(), 9)'",
		"curl -sS http://127.0.0.1:1/", "curl -sS http://localhost:1/", "curl -sS file:///nope", "curl -sS nope://x", "curl --nosuchflag",
		"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 1))'", "tar xf nope.tar", "tar xf a", "gzip -d a", "unzip nope.zip", "zcat a",
		"{ echo 0x33 > /proc/self/coredump_filter; } 2>/dev/null; false", // as every JVM does
		"make", "make nope", "cc nope.c", "go build ./nope", "go vet nope.go", "node nope.js", "node -e 'process.exit(2)'", "node -e 'throw 1'", "npm run nope",
		"echo 'Permission denied'; false", "echo 'bash: x: Permission denied'; false", "echo 'touch: nope/x: Read-only file system'; false",
		"echo 'open /no/such/place: read-only file system'; false", "echo \"EACCES: permission denied, open '/no/such/place'\"; false",
		"chmod 000 d && ls d; r=$?; chmod 755 d; exit $((r + 1))", "chmod 444 a; sh -c 'echo x > a'; r=$?; chmod 644 a; exit $((r + 1))",
		"sed -i s/x/y/ nope", "awk 'BEGIN { exit 5 }'", "find nope", "xargs false < a", "env -i nope", "timeout 0.2 sleep 5", "sleep x", "seq x", "date -d nope",
		"ulimit -n 10; python3 -c 'x = [open(\"/dev/null\") for i in range(50)]'", "ulimit -f 1; head -c 5000 /dev/zero > small",
		"dd if=nope of=x", "dd if=/dev/zero of=/dev/full bs=1 count=1", "echo x > /dev/full", "stat nope", "readlink nope", "realpath -e nope", "ln -s x d/l && cat d/l",
		"cat d", "cd a", "ls a/b", "mkdir a/b", "echo x > d", "rm d", "rmdir a", "expr 0", "[ 1 = 2 ]", "bash -c 'exit 77'", "bash nope.sh", "set -e; false; true", "! true",
	}
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") != "landlock" { // where words are all there is
		cmds = append(cmds, "echo 'getaddrinfo ENOTFOUND example.com'; false", "echo 'curl: (6) Could not resolve host: example.com'; false",
			"echo 'connect: Network is unreachable'; false", "echo 'socket: Address family not supported by protocol'; false",
			"getent hosts nodot", "bash -c 'echo x > /dev/tcp/127.0.0.1/9'", "bash -c 'echo x > /dev/tcp/::1/9'",
			`python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))'; false`)
	}
	for i := range 110 {
		cmds = append(cmds, fmt.Sprintf("echo 'test %d failed: expected 1, got %d'; exit %d", i, i+2, i%120+1))
	}
	return cmds
}

// TestOrdinaryFailures: a command that fails by itself gets no line about the
// sandbox.
func TestOrdinaryFailures(t *testing.T) {
	networks := [][]string{nil}
	if os.Getenv("MCP_SANDBOX_TEST_LONG") != "" && os.Getenv("MCP_SANDBOX_TEST_LEVEL") != "landlock" {
		networks = append(networks, []string{"--network", "none"}, []string{"--network", "allow", "--allow-host", "example.com"})
	}
	for _, args := range networks {
		c, _, _ := denialSession(t, args...)
		failOrdinarily(t, c, slices.Contains(args, "none"))
	}
}

func failOrdinarily(t *testing.T, c *client, noSockets bool) {
	t.Helper()
	cmds := ordinary()
	if len(cmds) < 200 {
		t.Fatalf("only %d commands", len(cmds))
	}
	for _, cmd := range cmds {
		if (noSockets || os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock") && (strings.Contains(cmd, "socket.") || strings.Contains(cmd, "/dev/tcp/")) {
			continue // not even a socket can be made there, and the result says so
		}
		o := c.exec(map[string]any{"cmd": cmd, "yield_time_ms": 25000})
		if o.ExitCode == nil || *o.ExitCode == 0 {
			t.Errorf("%s: did not fail: %+v", cmd, o)
		}
		if notes := sandboxNotes(o); len(notes) > 0 {
			t.Errorf("%s: %q; output %q", cmd, notes, o.Output)
		}
	}
}

// TestRefusalsOfParallelCalls: of calls at once each is told its own refusals, a
// background job's come with the next reply about it, at most four each once.
func TestRefusalsOfParallelCalls(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("nothing tells of protected paths at this level")
	}
	root := t.TempDir()
	openPath(t, root)
	c := startServer(t, "--root", root)
	c.initialize("2025-11-25")
	names := []string{".envrc", ".vscode", ".idea", ".npmrc", ".netrc", ".profile", ".bashrc", ".zshrc"}
	results := make(chan error, len(names))
	for _, name := range names {
		go func() {
			r := c.ok("exec_command", map[string]any{"cmd": "for i in 1 2 3; do mkdir " + name + "; done; sleep 0.1; mkdir " + name, "yield_time_ms": 25000})
			if n := strings.Count(r.text(), "Note: sandbox: "); n != 1 || !strings.Contains(r.text(), "Note: sandbox: "+filepath.Join(root, name)+" ") {
				results <- fmt.Errorf("%s: %s", name, r.text())
				return
			}
			results <- nil
		}()
	}
	for range names {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	o := c.exec(map[string]any{"cmd": "for n in " + strings.Join(names, " ") + "; do mkdir $n; done", "yield_time_ms": 25000})
	if n := len(sandboxNotes(o)); n != 4 {
		t.Errorf("%d lines: %q", n, o.Notices)
	}
	o = c.exec(map[string]any{"cmd": "(mkdir .idea 2>/dev/null; touch ready; exec sleep 60) >/dev/null 2>&1 & until [ -e ready ]; do sleep 0.01; done", "yield_time_ms": 25000})
	if o.SessionID == nil || len(sandboxNotes(o)) != 0 {
		t.Fatalf("%+v", o)
	}
	id := *o.SessionID
	o = c.exec(map[string]any{"cmd": "(until [ -e go ]; do sleep 0.01; done; mkdir .cursor; touch done; exec sleep 60) >/dev/null 2>&1 &", "yield_time_ms": 25000})
	later := *o.SessionID
	c.exec(map[string]any{"cmd": "touch go; until [ -e done ]; do sleep 0.01; done", "yield_time_ms": 25000})
	o = outcome(t, c.ok("write_stdin", map[string]any{"session_id": later, "yield_time_ms": 250}))
	if notes := sandboxNotes(o); len(notes) != 1 || !strings.Contains(notes[0], "/.cursor was not changed") {
		t.Errorf("%q", notes)
	}
	for _, id := range []int{id, later} {
		c.ok("kill_process", map[string]any{"session_id": id})
	}
}

// TestRefusalsRecorded: refusals are counted and in the audit log.
func TestRefusalsRecorded(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("nothing tells of protected paths at this level")
	}
	root, log := t.TempDir(), filepath.Join(t.TempDir(), "audit.jsonl")
	openPath(t, root)
	c := startServer(t, "--root", root, "--audit-log", log)
	c.initialize("2025-11-25")
	c.exec(map[string]any{"cmd": "i=0; while [ $i -lt 100 ]; do mkdir .idea; i=$((i+1)); done; false"})
	c.exec(map[string]any{"cmd": "false"})
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b, []byte(`"command.denied"`)); n != 60 || !bytes.Contains(b, []byte(`"path_protected"`)) || !bytes.Contains(b, []byte(root+"/.idea")) {
		t.Errorf("%d records: %.2000s", n, b)
	}
}
