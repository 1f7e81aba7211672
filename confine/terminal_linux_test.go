package confine

import (
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// AC-25: a program in a terminal pushes no input into any terminal it can open,
// sees no terminal but its own, and job control works all the same.
func TestTerminalInjection(t *testing.T) {
	needTools(t, "python3", "bash")
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		const inject = `import fcntl, glob, os
tried = 0
for name in ["/dev/tty", "/dev/stdin"] + glob.glob("/dev/pts/*") + [0, 1, 2]:
    try:
        fd = name if isinstance(name, int) else os.open(name, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        continue
    for call in (0x5412, 0x541c):  # TIOCSTI, TIOCLINUX
        tried += 1
        try:
            fcntl.ioctl(fd, call, b"\x03")
            print("pushed into", name)
        except OSError as e:
            if e.errno != 1:
                print(name, e)
print("done", tried > 6)
`
		c := spawn(t, s, sandbox.Command{Argv: []string{"/usr/bin/python3", "-c", inject}, Dir: p.Workspace, TTY: true})
		if out := readTerminal(t, c); out != "done True\r\n" {
			t.Errorf("got %q", out)
		}

		c = spawn(t, s, sandbox.Command{Argv: []string{"bash", "--norc", "-i"}, Dir: p.Workspace, TTY: true})
		master := c.Stdout()
		foreground := func() (pgrp int) {
			rc, err := master.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			rc.Control(func(fd uintptr) { pgrp, _ = unix.IoctlGetInt(int(fd), unix.TIOCGPGRP) })
			return pgrp
		}
		var shell int
		eventually(t, "the shell has the terminal", func() bool { shell = foreground(); return shell > 0 })
		out := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(master)
			out <- string(b)
		}()
		for _, step := range []struct {
			keys  string
			shell bool // has the terminal afterwards
		}{{"sleep 1000\r", false}, {"\x1a", true}, {"fg\r", false}, {"\x03", true}, {"echo status=$?; exit 5\r", true}} {
			if _, err := io.WriteString(master, step.keys); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(step.keys, "echo") {
				break
			}
			eventually(t, "the terminal changes hands", func() bool { return (foreground() == shell) == step.shell })
			if !step.shell {
				// The shell ignores the stop signal, and so does its child until it
				// is another program.
				eventually(t, "the program runs", func() bool {
					comm, _ := os.ReadFile("/proc/" + strconv.Itoa(foreground()) + "/comm")
					return string(comm) == "sleep\n"
				})
			}
		}
		if st := c.Wait(); st.Code != 5 {
			t.Errorf("status %+v", st)
		}
		if got := <-out; !strings.Contains(got, "status=130") {
			t.Errorf("Ctrl-Z, fg and Ctrl-C: %q", got)
		}
	})
}

// AC-31: programs run under another name, through the loader or from memory are
// as confined as any: nothing is promised, or decided, by the name of a program.
func TestRenamedProgramsAreConfined(t *testing.T) {
	needTools(t, "python3")
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		secret := canary(t)
		s := start(t, p)
		line := `echo mine > f
cp /bin/cat c; chmod +x c; ./c f ` + secret + ` 2>/dev/null
ld=$(ls /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 2>/dev/null | head -1); $ld ./c f ` + secret + ` 2>/dev/null
/usr/bin/python3 -c 'import os,sys
fd = os.memfd_create("m"); os.write(fd, open("/bin/cat","rb").read())
os.execve(fd, ["cat", "f", sys.argv[1]], os.environ)' ` + secret + ` 2>/dev/null
echo end`
		want(t, s, p.Workspace, line, "mine\nmine\nmine\nend\n")
	})
}

// AC-19, AC-32: files a shell reads by itself, and an environment an earlier
// command poisoned, act inside only, and never on what the server starts next.
func TestStartUpFilesAreConfined(t *testing.T) {
	needTools(t, "bash")
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		secret := canary(t)
		p.Home = p.Workspace
		s := start(t, p)
		hostile := "echo ran >> $HOME/ran; { cat " + secret + "; echo x > " + secret + "; } 2>/dev/null"
		want(t, s, p.Workspace, `for f in .bashrc .bash_profile .profile env; do echo '`+hostile+`' > $f; done
export BASH_ENV=$PWD/env LD_PRELOAD=/none.so PATH=$PWD:$PATH GIT_DIR=/x PAGER=false; echo set`, "set\n")
		for _, argv := range [][]string{{"bash", "-lc", "true"}, {"bash", "-ic", "true"}, {"bash", "-c", "true"}} {
			c := spawn(t, s, sandbox.Command{Argv: argv, Env: append(s.Environ(), "BASH_ENV="+p.Workspace+"/env"), Dir: p.Workspace})
			out, _ := io.ReadAll(c.Stdout())
			if st := c.Wait(); st.Code != 0 || strings.Contains(string(out), "canary") {
				t.Errorf("%q: %+v %q", argv, st, out)
			}
		}
		want(t, s, p.Workspace, "grep -c ran ran", "4\n") // a login shell reads both
		c := spawn(t, s, sandbox.Command{Argv: []string{"/usr/bin/env"}, Env: []string{"ONLY=this"}, Dir: p.Workspace})
		if out, _ := io.ReadAll(c.Stdout()); string(out) != "ONLY=this\n" {
			t.Errorf("a later command has %q", out)
		}
	})
}

// AC-47: a CPU limit holds where a control group can be had, and is reported
// where not.
func TestCPULimit(t *testing.T) {
	p := testPolicy(t)
	p.Limits.CPU, p.Limits.BestEffort = 0.2, true
	s := start(t, p)
	if !s.cgroup.Has("cpu") {
		if !hasLayer(s.Report(), layerCPU, sandbox.StateOff) {
			t.Errorf("the missing limit is not reported: %+v", s.Report())
		}
		return
	}
	if !hasLayer(s.Report(), layerCPU, sandbox.StateOn) {
		t.Errorf("the limit is not reported: %+v", s.Report())
	}
	spawn(t, s, sandbox.Command{Argv: []string{"/bin/sh", "-c", "while :; do :; done"}, Dir: p.Workspace})
	eventually(t, "the session is throttled", func() bool {
		for _, d := range s.cgroup.dirs {
			if n, err := cgroupCount(readWord(d.path+"/cpu.stat"), "nr_throttled"); err == nil && n > 0 {
				return true
			}
		}
		return false
	})
}
