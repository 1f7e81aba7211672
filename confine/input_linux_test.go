package confine

import (
	"context"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// waiters are programs that come to wait for input, and how exactly that is
// known of them.
var waiters = []struct {
	program, line string
	pipe          bool
	want          sandbox.InputState
}{
	{"cat", "cat", false, sandbox.InputWaits},
	{"cat", "cat", true, sandbox.InputWaits},
	{"sh", "read x", false, sandbox.InputWaits},
	{"sh", "read x", true, sandbox.InputWaits},
	{"sh", "stty -echo; read x", false, sandbox.InputWaits},
	{"sh", "cat | cat", false, sandbox.InputWaits},
	{"sh", "yes | (read first; read x < /dev/tty)", false, sandbox.InputWaits},
	{"sh", "sleep 1000 & read x", false, sandbox.InputShared},
	{"sh", "cat | sleep 1000", false, sandbox.InputShared},
	{"bash", "bash --norc -i", false, sandbox.InputWaits},
	{"bash", "bash --norc -ic 'sleep 1000 & exec bash --norc -i'", false, sandbox.InputWaits},
	{"bash", "bash", true, sandbox.InputWaits},
	{"python3", "python3 -q", false, sandbox.InputWaits},
	{"python3", `python3 -c 'input("? ")'`, false, sandbox.InputWaits},
	{"python3", `python3 -c 'input()'`, true, sandbox.InputWaits},
	{"python3", `python3 -c 'import getpass; getpass.getpass()'`, false, sandbox.InputWaits},
	{"python3", `python3 -c 'import select, sys; select.select([sys.stdin], [], [])'`, false, sandbox.InputWaits},
	{"python3", `python3 -c 'import select, sys; select.select([sys.stdin], [], [], 2.5)'`, false, sandbox.InputTimed},
	{"python3", `python3 -c 'import select, sys; p = select.poll(); p.register(0, 1); p.poll()'`, false, sandbox.InputWaits},
	{"python3", `python3 -c 'import select, sys; p = select.epoll(); p.register(0, 1); p.poll()'`, false, sandbox.InputWaits},
	{"python3", `python3 -c 'import os, select, signal, socket
pairs = [socket.socketpair() for _ in range(3)]
child = os.fork()
for p in pairs: p[child != 0].close()
if child == 0: signal.pause()
select.select([0] + [p[0] for p in pairs], [], [])'`, false, sandbox.InputShared},
	{"python3", `python3 -c 'import asyncio; l = asyncio.new_event_loop(); l.add_reader(0, print); l.run_forever()'`, false, sandbox.InputWaits},
	{"python3", `python3 -c 'import threading, time; threading.Thread(target=time.sleep, args=(1000,), daemon=True).start(); input()'`, false, sandbox.InputShared},
	{"python3", `python3 -c 'import select, tty; tty.setcbreak(0)
while True: select.select([0], [], [], 0.2)'`, false, sandbox.InputPolls},
	{"node", "node -i", false, sandbox.InputWaits},
	{"node", `node -e 'require("readline").createInterface({input: process.stdin}).question("? ", () => {})'`, false, sandbox.InputWaits},
	{"npm", "npm init", false, sandbox.InputTimed}, // it keeps a timer
	{"less", "seq 1000 | less", false, sandbox.InputWaits},
	{"less", "less /etc/services", false, sandbox.InputWaits},
	{"vim", "vim -u NONE -N", false, sandbox.InputTimed},
	{"gdb", "gdb -q -nx", false, sandbox.InputWaits},
	{"ssh-keygen", "ssh-keygen -t ed25519", false, sandbox.InputWaits},
	{"openssl", "openssl passwd", false, sandbox.InputWaits},
	{"perl", "perl -de 0", false, sandbox.InputWaits},
	{"bc", "bc -q", false, sandbox.InputWaits},
	{"ed", "ed", false, sandbox.InputWaits},
	{"sqlite3", "sqlite3", false, sandbox.InputWaits},
	{"top", "top -d 3", false, sandbox.InputTimed},
	{"git", "git -c user.name=a -c user.email=b@c init -q r; cd r; git add -i", false, sandbox.InputWaits},
}

// workers never wait for input. Each prints "up" when it is on its way.
var workers = []struct {
	program, line string
	pipe          bool
}{
	{"sleep", "echo up; sleep 1000", false},
	{"sleep", "echo up; sleep 1000", true},
	{"sh", "echo up; while :; do :; done", false},
	{"sh", "echo up; while :; do sleep 0.01; done", false},
	{"make", "printf 'all: a b\\na b:\\n\\t@echo up; sleep 1000\\n' > Makefile; make -j2", false},
	{"tail", "echo up; tail -f /etc/services", false},
	{"dd", "echo up; dd if=/dev/zero of=/dev/null", false},
	{"yes", "echo up; yes | head -c 100000000000 > /dev/null", false},
	{"python3", `python3 -c 'import time; print("up", flush=True); time.sleep(1000)'`, false},
	{"python3", `python3 -c 'import select, sys; print("up", flush=True)
while True: select.select([sys.stdin], [], [], 0.1)'`, false},
	{"python3", `python3 -c 'import select, sys; print("up", flush=True)
while True: select.select([sys.stdin], [], [], 0)'`, false},
	{"python3", `python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print("up", flush=True); s.accept()'`, false},
	{"node", `node -e 'require("http").createServer(() => {}).listen(0, () => console.log("up"))'`, false},
	{"node", `node -e 'process.stdin.resume(); require("http").createServer(() => {}).listen(0, () => console.log("up"))'`, false},
	{"node", `node -e 'process.stdin.resume(); console.log("up"); let n = 0; setInterval(() => n++, 100)'`, false},
	{"ssh", `python3 -c 'import socket, time; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1], file=open("port", "w"), flush=True); time.sleep(1000)' &
		until [ -s port ]; do sleep 0.05; done; echo up; exec ssh -o BatchMode=no -p "$(cat port)" 127.0.0.1`, false},
	{"watch", "echo up; exec watch -n 0.2 date", false},
}

func installed(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		noSkip(t, "%s is not installed", program)
	}
}

func startLine(t *testing.T, s *Sandbox, p sandbox.Policy, line string, pipe bool) *Process {
	t.Helper()
	c := sandbox.Command{Argv: []string{"sh", "-c", line}, Dir: p.Workspace, TTY: !pipe, Cols: 80, Rows: 24}
	if pipe {
		c.Stdin = sandbox.StdinPipe
	}
	q := spawn(t, s, c)
	t.Cleanup(func() { q.SignalTree(9) })
	return q
}

// consume reads the output on, and tells when it has held a text.
func consume(q *Process, text string) <-chan struct{} {
	seen := make(chan struct{})
	go func() {
		var all []byte
		b := make([]byte, 4096)
		for told := false; ; {
			n, err := q.Stdout().Read(b)
			if all = append(all, b[:n]...); !told && strings.Contains(string(all), text) {
				told = true
				close(seen)
			}
			if err != nil {
				return
			}
		}
	}()
	return seen
}

// everywhere are the programs that are tried at every level and identity: the
// others say no more there, and some need more of the host than landlock leaves.
var everywhere = []string{"cat", "sh", "bash", "python3", "node", "less"}

// TestAwaitsInput: programs that wait for input are known to, at every level.
func TestAwaitsInput(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		if leftToLandlock(&p) {
			return
		}
		s := start(t, p)
		for _, w := range waiters {
			if !strings.HasSuffix(t.Name(), "/namespaces/self") && !slices.Contains(everywhere, w.program) {
				continue
			}
			name := w.line
			if w.pipe {
				name += " (pipe)"
			}
			t.Run(name, func(t *testing.T) {
				installed(t, w.program)
				q := startLine(t, s, p, w.line, w.pipe)
				consume(q, "")
				// A JVM or npm takes its time on a busy machine.
				for deadline := time.Now().Add(2 * time.Minute); q.AwaitsInput(context.Background()) != w.want; {
					select {
					case <-q.Done():
						t.Fatal("it ended")
					default:
					}
					if time.Now().After(deadline) {
						t.Fatal("never waits for input")
					}
					time.Sleep(2 * time.Millisecond)
				}
				// It stays so while nothing is typed.
				for range 20 {
					if got := q.AwaitsInput(context.Background()); got < sandbox.InputShared && w.want != sandbox.InputTimed && w.want != sandbox.InputPolls {
						t.Fatalf("state %d, then %d", w.want, got)
					}
				}
			})
		}
	})
}

// TestNeverAwaitsInput: what works is never taken to wait, however often it is
// looked at.
func TestNeverAwaitsInput(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		if leftToLandlock(&p) {
			return
		}
		s := start(t, p)
		for _, w := range workers {
			// Landlock alone refuses to listen.
			if p.Level == sandbox.LevelLandlock && (strings.Contains(w.line, "listen(") || strings.Contains(w.line, "create_server")) {
				continue
			}
			t.Run(w.line, func(t *testing.T) {
				installed(t, w.program)
				q := startLine(t, s, p, w.line, w.pipe)
				up := consume(q, "up")
				looks := 0
				for after := 0; after < 200; looks++ {
					select {
					case <-up:
						after++
					case <-q.Done():
						t.Fatal("it ended")
					default:
					}
					if got := q.AwaitsInput(context.Background()); got > sandbox.InputBusy {
						t.Fatalf("look %d says %d", looks, got)
					}
				}
			})
		}
	})
}

// TestInputTaken: while typed text has not been read, nothing waits; a thread
// that was not yet woken does not count as waiting.
func TestInputTaken(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		q := startLine(t, s, p, `stty -echo; printf up; n=0; while read x; do n=$((n+1)); echo $n > count; done`, false)
		<-consume(q, "up")
		for i := range 200 {
			eventually(t, "waits", func() bool { return q.AwaitsInput(context.Background()) == sandbox.InputWaits })
			got, _ := sh(t, s, p.Workspace, "cat count 2>/dev/null || echo 0")
			if want := itoa(i) + "\n"; got != want {
				t.Fatalf("awaits input after %d lines: it has done %q", i, got)
			}
			if _, err := q.Stdin().WriteString("line\n"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestInputAfterStop: a stopped command goes on in restart_syscall(2), which does
// not say what it waits for.
func TestInputAfterStop(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		for _, c := range []struct {
			line string
			want sandbox.InputState
		}{
			{"echo up; exec sleep 1000", sandbox.InputBusy},
			{`python3 -c 'import select; p = select.poll(); p.register(0, 1); print("up", flush=True); p.poll(1000000)'`, sandbox.InputTimed},
			{`python3 -c 'import threading; print("up", flush=True); threading.Thread(target=input).start(); threading.Event().wait(1000)'`, sandbox.InputWaits},
		} {
			q := startLine(t, s, p, c.line, false)
			<-consume(q, "up")
			state := func() sandbox.InputState { return q.AwaitsInput(context.Background()) }
			if c.want != sandbox.InputBusy {
				eventually(t, "waits", func() bool { return state() == c.want })
			}
			for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT} {
				if err := q.SignalTree(sig); err != nil {
					t.Fatal(err)
				}
				if sig == unix.SIGSTOP {
					eventually(t, "stopped", func() bool { return state() == sandbox.InputBusy })
				}
			}
			eventually(t, c.line, func() bool { return state() == c.want })
			for range 50 {
				if got := state(); got != c.want {
					t.Fatalf("%s: %d, want %d", c.line, got, c.want)
				}
			}
		}
	})
}

func TestJudgeInput(t *testing.T) {
	tally := func(ws ...threadWait) sandbox.InputState {
		var n threadTally
		for _, w := range ws {
			n.add(w)
		}
		return n.judge()
	}
	for _, c := range []struct {
		threads []threadWait
		want    sandbox.InputState
	}{
		{nil, sandbox.InputBusy},
		{[]threadWait{threadNeutral}, sandbox.InputBusy},
		{[]threadWait{threadOther}, sandbox.InputBusy},
		{[]threadWait{threadReads}, sandbox.InputWaits},
		{[]threadWait{threadReads, threadNeutral, threadNeutral}, sandbox.InputWaits},
		{[]threadWait{threadReads, threadOther}, sandbox.InputShared},
		{[]threadWait{threadTimed, threadNeutral}, sandbox.InputTimed},
		{[]threadWait{threadTimed, threadReads}, sandbox.InputWaits},
		{[]threadWait{threadShared}, sandbox.InputShared},
		{[]threadWait{threadPolls, threadOther}, sandbox.InputPolls},
		{[]threadWait{threadPolls, threadReads}, sandbox.InputPolls},
		{[]threadWait{threadPolls, threadHidden}, sandbox.InputUnknown},
		{[]threadWait{threadReads, threadRuns}, sandbox.InputBusy},
		{[]threadWait{threadReads, threadHidden}, sandbox.InputUnknown},
		{[]threadWait{threadHidden, threadRuns}, sandbox.InputBusy},
	} {
		if got := tally(c.threads...); got != c.want {
			t.Errorf("%v: %d, want %d", c.threads, got, c.want)
		}
	}
}

func TestParseBlocked(t *testing.T) {
	b, ok := parseBlocked([]byte("7 0x7ffd10 0x1 0xffffffffffffffff 0x0 0x2 0x3 0x7ffd00 0x7f00\n"))
	if !ok || b.nr != 7 || b.args != [6]uint64{0x7ffd10, 1, 1<<64 - 1, 0, 2, 3} {
		t.Errorf("%v %v", b, ok)
	}
	for _, line := range []string{"", "running\n", "-1 0x7ffd00 0x7f00\n", "x 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0"} {
		if _, ok := parseBlocked([]byte(line)); ok {
			t.Errorf("%q is a call", line)
		}
	}
}

// leftToLandlock: in short runs the level landlock is for the run without user
// namespaces, where it is the only one.
func leftToLandlock(p *sandbox.Policy) bool {
	return testing.Short() && p.Level == sandbox.LevelLandlock && !hostWithoutNamespaces()
}
