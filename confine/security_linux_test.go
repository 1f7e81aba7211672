package confine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// canary plants a file outside every grant and fails the test if it was touched.
func canary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "canary")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o777)
	f := filepath.Join(dir, "secret")
	if err := os.WriteFile(f, []byte("canary"), 0o666); err != nil {
		t.Fatal(err)
	}
	os.Chmod(f, 0o666)
	before, _ := os.Stat(f)
	t.Cleanup(func() {
		after, err := os.Stat(f)
		b, _ := os.ReadFile(f)
		entries, _ := os.ReadDir(dir)
		if err != nil || string(b) != "canary" || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) || len(entries) != 1 {
			t.Errorf("the canary was touched: %v %q %d entries", err, b, len(entries))
		}
	})
	return f
}

// want runs a line and compares what it prints.
func want(t *testing.T, s *Sandbox, dir, line, out string) {
	t.Helper()
	if got, st := sh(t, s, dir, line); got != out {
		t.Errorf("%s\n got %q (%+v)\nwant %q", line, got, st, out)
	}
}

// AC-07, AC-16, AC-18, AC-35: nothing outside is read, written, made or changed
// in mode, owner, time or attributes, by whatever path.
func TestOutsideIsOutOfReach(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		secret := canary(t)
		s := start(t, p)
		dir := filepath.Dir(secret)
		for _, alias := range []string{secret, "/proc/self/root" + secret, "/proc/1/root" + secret, "/proc/self/cwd/../../../../.." + secret, "../../../../../../.." + secret} {
			want(t, s, p.Workspace, "cat '"+alias+"' 2>/dev/null; echo done", "done\n")
			want(t, s, p.Workspace, "(echo x > '"+alias+"') 2>/dev/null; echo done", "done\n")
		}
		lines := []string{
			"touch " + dir + "/new; mkdir " + dir + "/d; ln -s x " + dir + "/l; rm -rf " + secret + "; mv " + secret + " x; ln " + secret + " x; truncate -s 0 " + secret,
			"ln -s " + secret + " link; echo x > link; cat link; rm -f link",
		}
		// The landlock level leaves mode and times of the user's own files open,
		// and says so.
		if p.Level == sandbox.LevelNamespaces {
			lines = append(lines, "chmod 0600 "+secret+"; touch -d 2001-01-01 "+secret+"; chown 1:1 "+secret+"; setfattr -n user.x -v y "+secret)
		}
		for _, l := range lines {
			want(t, s, p.Workspace, "("+l+") 2>/dev/null | grep canary; echo done", "done\n")
		}
		want(t, s, p.Workspace, "(for f in /usr/x /etc/x /x /bin/x /root/.x/y; do echo x > $f; done) 2>/dev/null; ls /x /usr/x /etc/x 2>/dev/null; echo done", "done\n")
	})
}

// AC-10: a workspace moved away and replaced by a link is not followed; the
// sandbox keeps the directory it was started with.
func TestWorkspaceSwapped(t *testing.T) {
	p := testPolicy(t)
	s := start(t, p)
	secret := canary(t)
	if err := os.Rename(p.Workspace, p.Workspace+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(secret), p.Workspace); err != nil {
		t.Fatal(err)
	}
	want(t, s, p.Workspace, "ls; echo x > mine; cat secret 2>/dev/null; echo done", "done\n")
	if b, err := os.ReadFile(p.Workspace + ".old/mine"); string(b) != "x\n" {
		t.Errorf("%q, %v", b, err)
	}
	// A start on the link is refused.
	if _, err := Start(context.Background(), p); err == nil {
		t.Error("a linked workspace was accepted")
	}
	// So is another directory than the one whose descriptor the server holds.
	f, err := os.Open(p.Workspace + ".old")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	os.Remove(p.Workspace)
	os.Mkdir(p.Workspace, 0o755)
	p.WorkspaceFile = f
	if _, err := Start(context.Background(), p); err == nil {
		t.Error("another directory than the descriptor's was accepted")
	}
}

// AC-20, AC-70: the server's state, environment and the user's keys are not
// there, and denied files of the workspace cannot be read by any name.
func TestSecretsAreHidden(t *testing.T) {
	t.Setenv("CANARY_TOKEN", "s3cret")
	p := testPolicy(t)
	state := filepath.Join(p.Workspace, "state")
	os.Mkdir(state, 0o700)
	os.WriteFile(filepath.Join(state, "token"), []byte("s3cret"), 0o600)
	env := filepath.Join(p.Workspace, ".env")
	os.WriteFile(env, []byte("s3cret"), 0o644)
	p.StateDirs, p.DenyRead = []string{state}, []string{env}
	s := start(t, p)
	want(t, s, p.Workspace, `env | grep -c s3cret; cat /proc/*/environ 2>/dev/null | grep -c s3cret; cat .env state/token 2>/dev/null; ls state 2>/dev/null; echo done`, "0\n0\ndone\n")
	want(t, s, p.Workspace, `(mv .env x; cp .env y; ln .env z; mv state st) 2>/dev/null; cat x y z st/token 2>/dev/null; echo done`, "done\n")
	want(t, s, p.Workspace, `ls -d ~/.ssh ~/.aws /root/.ssh /home/*/.ssh 2>/dev/null; cat /etc/shadow /etc/gshadow 2>/dev/null; ls /etc/ssh /etc/sudoers.d 2>/dev/null; echo done`, "done\n")
	// A program outside that replaces the file by rename takes the mount away;
	// the next command finds it covered again.
	os.WriteFile(env+".new", []byte("s3cret2"), 0o644)
	if err := os.Rename(env+".new", env); err != nil {
		t.Fatal(err)
	}
	want(t, s, p.Workspace, "cat .env 2>/dev/null; echo done", "done\n")
}

// What is a mount already is hidden and protected all the same: by the host, as a
// container's single file is, by what is protected there, and by what is hidden below.
// The host's can be writable, or hold one that is.
func TestHiddenMountPoints(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		w := p.Workspace
		kept := []string{"kept/f", "file", "read/f", "read/in/f", "above/in/f", "twice/in/f"}
		for _, f := range append([]string{"a/key", "b/key", "b/other", "c", "from/f", "from/in/f"}, kept...) {
			dir := filepath.Dir(filepath.Join(w, f))
			os.MkdirAll(dir, 0o777)
			if err := os.WriteFile(filepath.Join(w, f), []byte("s3cret\n"), 0o666); err != nil {
				t.Fatal(err)
			}
			os.Chmod(dir, 0o777)
			os.Chmod(filepath.Join(w, f), 0o666)
		}
		if os.Geteuid() == 0 {
			var st unix.Stat_t
			if err := unix.Stat(w, &st); err != nil {
				t.Fatal(err)
			}
			filepath.WalkDir(w, func(f string, _ os.DirEntry, _ error) error { return os.Lchown(f, int(st.Uid), int(st.Gid)) })
			for _, m := range [][2]string{{"from/f", "c"}, {"from", "kept"}, {"from/f", "file"}, {"from", "read"}, {"from/in", "read/in"}, {"from/in", "above/in"}, {"from", "twice"}} {
				at := filepath.Join(w, m[1])
				if err := unix.Mount(filepath.Join(w, m[0]), at, "", unix.MS_BIND, ""); err != nil {
					t.Fatal(err)
				}
				defer unix.Unmount(at, unix.MNT_DETACH)
			}
			// Read-only alone, with a writable mount below.
			if err := unix.Mount("", filepath.Join(w, "read"), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}
		p.Protect = []string{"a", "kept", "file", "read", "above", "twice/in", "twice"}
		p.DenyRead = []string{"[a]", "[b]", filepath.Join(w, "b/key"), "[c]"}
		s := start(t, p)
		for range 2 { // hidden again before each command
			want(t, s, w, "cat a/key b/key b/other c 2>/dev/null; ls a b 2>/dev/null; (echo x > kept/f || mv kept k) 2>/dev/null; cat kept/f", "s3cret\n")
			want(t, s, w, "for f in "+strings.Join(kept, " ")+"; do chmod 600 $f && echo mode $f; touch -d 2001-01-01 $f && echo time $f; done 2>/dev/null; echo done", "done\n")
		}
	})
}

func TestAround(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"a", "b/c", "b/d/e", "f/g"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ hidden, want string }{
		{"/elsewhere", ""},
		{"", "none"},
		{"a", "b f"},
		{"b/d", "a b/c f"},
		{"b/d/e", "a b/c f"},
		{"a b/c", "b/d f"},
		{"not/there", "a b f"},
	} {
		var hidden, want []string
		for _, h := range strings.Fields(c.hidden) {
			hidden = append(hidden, filepath.Join(dir, h))
		}
		switch {
		case c.hidden == "/elsewhere":
			hidden, want = []string{c.hidden}, []string{dir}
		case c.hidden == "":
			hidden = []string{dir}
		default:
			for _, w := range strings.Fields(c.want) {
				want = append(want, filepath.Join(dir, w))
			}
		}
		if got := around(dir, hidden); !slices.Equal(got, want) {
			t.Errorf("around %q: %q, want %q", c.hidden, got, want)
		}
	}
}

// AC-21, AC-22, AC-23: protected paths that exist cannot be changed or swapped;
// git still works; the host never shows anything of ours.
func TestProtectedPaths(t *testing.T) {
	needTools(t, "git")
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		git := exec.Command("git", "init", "-q", p.Workspace)
		git.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
		os.WriteFile(filepath.Join(p.Workspace, ".envrc"), []byte("mine"), 0o644)
		os.Symlink("/oldroot/tmp/victim", filepath.Join(p.Workspace, ".idea"))
		var st unix.Stat_t
		unix.Stat(p.Workspace, &st)
		filepath.WalkDir(p.Workspace, func(f string, _ os.DirEntry, _ error) error { return os.Lchown(f, int(st.Uid), int(st.Gid)) })
		p.Protect = []string{".git/hooks", ".git/config", ".envrc", ".vscode", ".idea", "miss/x"}
		before := listing(t, p.Workspace)
		s := start(t, p)
		if during := listing(t, p.Workspace); during != before {
			t.Errorf("the start left %s", during)
		}
		for _, l := range []string{
			"echo x > .git/hooks/pre-commit", "echo x >> .git/config", "git config core.pager evil",
			"mv .git .git2", "mv .git/hooks .git/h2", "rm -rf .git/hooks", "rm -f .git/config", "ln -sf /tmp .git/hooks/x",
			"echo x > .git/c2; mv .git/c2 .git/config", "echo x > .envrc", "rm .envrc", "echo y > n; mv n .envrc", "umount .git/hooks", "chmod 777 .git/hooks/*.sample .envrc",
		} {
			if out, st := sh(t, s, p.Workspace, "("+l+") 2>/dev/null"); st.Code == 0 {
				t.Errorf("%s succeeded: %s", l, out)
			}
		}
		if out, st := sh(t, s, p.Workspace, "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; echo 1 > f && git add f && git commit -qm one && git checkout -qb next && git tag t && git gc -q && git log --oneline | wc -l"); st.Code != 0 || out != "1\n" {
			t.Errorf("git: %q %+v", out, st)
		}
		if b, _ := os.ReadFile(filepath.Join(p.Workspace, ".envrc")); string(b) != "mine" {
			t.Errorf(".envrc is %q", b)
		}
		sh(t, s, p.Workspace, "rm -f f n .git/c2")
		// Paths that are not there cannot be made, by no call and through no link.
		for _, l := range []string{
			"echo x > .vscode", "mkdir .vscode", "mkdir -p .vscode/x", "ln -s /tmp .vscode", "echo x > y; ln y .vscode", "mkdir z; mv z .vscode",
			"ln -s .vscode lnk; echo x > lnk", "ln -s . dot; mkdir dot/.vscode", "cd .git && mkdir ../.vscode", "mkdir $PWD/../ws/.vscode", "mkdir /proc/self/cwd/.vscode",
			"mkfifo .vscode", "cp /etc/hosts .vscode", "touch .vscode", "git worktree add -q .vscode", "mkdir sub/.mcp.json 2>/dev/null; mkdir -p t/x && echo e > t/x/evil && mv t miss",
			"python3 -c 'import os; os.open(\".vscode\", os.O_CREAT|os.O_WRONLY)'", "perl -e 'rename \"f\", \".vscode\" or exit 1'",
		} {
			if out, st := sh(t, s, p.Workspace, "("+l+") >/dev/null 2>&1"); st.Code == 0 {
				t.Errorf("%s succeeded: %s", l, out)
			}
			if _, err := os.Lstat(filepath.Join(p.Workspace, ".vscode")); err == nil {
				t.Fatalf("%s made .vscode", l)
			}
		}
		want(t, s, p.Workspace, "mkdir miss && echo 1 > miss/y && rm -r miss y z lnk dot t 2>/dev/null; echo done", "done\n")
		// A program outside replaces the file: protected again for the next.
		os.WriteFile(filepath.Join(p.Workspace, "tmp"), []byte("new"), 0o666)
		os.Chmod(filepath.Join(p.Workspace, "tmp"), 0o666)
		os.Rename(filepath.Join(p.Workspace, "tmp"), filepath.Join(p.Workspace, ".envrc"))
		if _, st := sh(t, s, p.Workspace, "(echo x > .envrc) 2>/dev/null"); st.Code == 0 {
			t.Error("a replaced file was not protected again")
		}
		s.Close()
	})
}

// listing is the names and contents' sizes of a tree, without git's objects.
func listing(t *testing.T, dir string) string {
	var b strings.Builder
	filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !strings.Contains(p, "/objects/") {
			fmt.Fprintf(&b, "%s %v\n", p, d.Type())
		}
		return nil
	})
	return b.String()
}

// AC-24, AC-27: no new namespace, no capability, no way to regain one, no kernel
// tunable, also for uid 0.
func TestNoPrivileges(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		want(t, s, p.Workspace, `grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\t '`,
			"CapInh:0000000000000000\nCapPrm:0000000000000000\nCapEff:0000000000000000\nCapAmb:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n")
		for _, l := range []string{
			"unshare -U true", "unshare -Ur true", "unshare -m true", "mount -t tmpfs x /tmp", "umount /proc", "umount " + p.Workspace,
			"mount --bind / /tmp", "mount -o remount,rw /usr", "mount -o remount,rw /", "chroot / true", "sh -c 'echo 1 > /proc/sys/kernel/core_pattern'",
			"sh -c 'echo x > /proc/sys/vm/drop_caches'", "sh -c 'echo h > /proc/sysrq-trigger'", "mknod x c 1 3", "mknod y b 8 0", "sh -c 'echo 5 > /proc/sys/user/max_user_namespaces'",
			"nsenter -t 1 -m true", "hostname x", "dd if=/proc/kcore bs=1 count=1", "ls /sys/kernel",
		} {
			if out, st := sh(t, s, p.Workspace, "("+l+") 2>/dev/null"); st.Code == 0 {
				t.Errorf("%s succeeded: %s", l, out)
			}
		}
		want(t, s, p.Workspace, "cat /proc/sys/user/max_user_namespaces", "0\n")
	})
}

// AC-26: a command sees its three descriptors and nothing of the server's, also
// not one the server's own parent leaked.
func TestDescriptors(t *testing.T) {
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		for _, tty := range []bool{false, true} {
			c := spawn(t, s, sandbox.Command{Argv: []string{"/bin/ls", "/proc/self/fd"}, Dir: p.Workspace, TTY: tty})
			// ls itself opens the fourth.
			if out := strings.Fields(readTerminal(t, c)); strings.Join(out, " ") != "0 1 2 3" {
				t.Errorf("tty %v: %v", tty, out)
			}
		}
		want(t, s, p.Workspace, "cat /proc/1/fd/* 2>/dev/null; ls -l /proc/1/fd 2>/dev/null | grep -e '->'; ls /proc/1/cwd/ /proc/1/root/ 2>/dev/null; cat /proc/1/environ /proc/1/mem 2>/dev/null; echo done", "done\n")
	})
}

// AC-28: init survives every signal from inside and cannot be traced; processes
// outside are not there.
func TestInitSurvivesSignals(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		for range 5 {
			c := spawn(t, s, sandbox.Command{Argv: []string{"/bin/bash", "-c", "for i in $(seq 64); do kill -$i 1; done 2>/dev/null; kill -9 -1"}, Dir: p.Workspace})
			io.ReadAll(c.Stdout())
			c.Wait()
		}
		want(t, s, p.Workspace, "echo alive", "alive\n")
		if _, err := exec.LookPath("strace"); err == nil {
			if _, st := sh(t, s, p.Workspace, "strace -o /dev/null -p 1 2>/dev/null"); st.Code == 0 {
				t.Error("init was traced")
			}
			want(t, s, p.Workspace, "strace -o /tmp/t true && echo traced", "traced\n")
		}
		want(t, s, p.Workspace, "kill -0 "+strconv.Itoa(os.Getpid())+" 2>/dev/null; ls /proc/"+strconv.Itoa(os.Getpid())+"/root 2>/dev/null; echo done", "done\n")
	})
}

// Commands start with an empty mask and default dispositions, whatever init and
// the server have.
func TestSignalsAreReset(t *testing.T) {
	p := testPolicy(t)
	s := start(t, p)
	want(t, s, p.Workspace, `cat /proc/self/status | grep -E '^Sig(Blk|Ign|Cgt)' | tr -d '\t '`, "SigBlk:0000000000000000\nSigIgn:0000000000000000\nSigCgt:0000000000000000\n")
}

// AC-29, AC-36, AC-42: no unix socket outside and no network is reachable.
func TestNetworkIsPrivate(t *testing.T) {
	needTools(t, "python3")
	path := filepath.Join(filepath.Dir(canary(t)), "..", "confine-test.sock")
	os.Remove(path)
	ul, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ul.Close()
	os.Chmod(path, 0o777)
	al, err := net.Listen("unix", "@confine-test-abstract")
	if err != nil {
		t.Fatal(err)
	}
	defer al.Close()
	tl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tl.Close()
	script := fmt.Sprintf(`
import socket
def reach(name, f):
    try: f(); print("reached", name)
    except OSError: pass
def conn(fam, addr, typ=socket.SOCK_STREAM, proto=0):
    s = socket.socket(fam, typ, proto); s.settimeout(2); s.connect(addr)
reach("path", lambda: conn(socket.AF_UNIX, %q))
reach("abstract", lambda: conn(socket.AF_UNIX, "\0confine-test-abstract"))
reach("loopback", lambda: conn(socket.AF_INET, ("127.0.0.1", %d)))
reach("outside", lambda: conn(socket.AF_INET, ("192.0.2.1", 80)))
def udp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b"x", ("192.0.2.1", 53))
reach("udp", udp)
reach("mptcp", lambda: conn(socket.AF_INET, ("127.0.0.1", %d), proto=262))
reach("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
reach("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
reach("vsock", lambda: socket.socket(40, socket.SOCK_STREAM, 0))
reach("alg", lambda: socket.socket(38, socket.SOCK_SEQPACKET, 0))
print("done")
`, path, tl.Addr().(*net.TCPAddr).Port, tl.Addr().(*net.TCPAddr).Port)
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		c := spawn(t, s, sandbox.Command{Argv: []string{"/usr/bin/python3", "-c", script}, Dir: p.Workspace})
		if out, _ := io.ReadAll(c.Stdout()); string(out) != "done\n" {
			t.Errorf("%s", out)
		}
	})
}

// Servers inside are reached by Dial, listeners made outside are reached from
// inside, and all of them end with the sandbox.
func TestListenAndDial(t *testing.T) {
	needTools(t, "python3")
	p := testPolicy(t)
	s := start(t, p)
	l, err := s.Listen("tcp", "127.0.0.1:3128")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello from outside\n")
			c.Close()
		}
	}()
	c := spawn(t, s, sandbox.Command{Argv: []string{"/usr/bin/python3", "-c", `
import socket
print(socket.create_connection(("127.0.0.1", 3128)).makefile().readline(), end="")
l = socket.create_server(("127.0.0.1", 80)); print("up", flush=True)
c, _ = l.accept(); c.sendall(b"from inside\n")`}, Dir: p.Workspace})
	r := bufio.NewReader(c.Stdout())
	for _, w := range []string{"hello from outside\n", "up\n"} {
		if got, err := r.ReadString('\n'); got != w {
			t.Fatalf("got %q, %v, want %q", got, err, w)
		}
	}
	conn, err := s.Dial(context.Background(), 80)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if b, err := io.ReadAll(conn); string(b) != "from inside\n" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := s.Dial(context.Background(), 81); err == nil {
		t.Error("a closed port was reached")
	}
	if _, err := s.Listen("tcp", "127.0.0.1:3128"); err == nil {
		t.Error("a used port was given again")
	}
	s.Close()
	if _, err := l.Accept(); err == nil {
		t.Error("the listener outlived its sandbox")
	}
}
