package confine

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// AC-74: ordinary work runs inside, offline.
func TestOrdinaryWork(t *testing.T) {
	works := []struct {
		name  string
		tools []string
		tty   bool
		line  string
		want  string
	}{
		{"git", []string{"git"}, false, `git init -q r && cd r && git config user.email a@b && git config user.name a && echo 1 > f && git add f && git commit -qm x && git clone -q . ../c && git -C ../c log --oneline | wc -l`, "1\n"},
		{"make", []string{"gcc", "make"}, false, `printf 'int main(void){return 0;}' > a.c; printf 'all: a b\na b: a.c\n\tgcc -o $@ a.c\n' > Makefile; make -s -j2 && ./a && ./b && echo built`, "built\n"},
		{"go", []string{"go"}, false, `export GOPATH=$HOME/go GOCACHE=$TMPDIR/gc GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local; printf 'module m\n' > go.mod; printf 'package main\nfunc main(){println("x")}\n' > m.go; printf 'package main\nimport "testing"\nfunc TestX(t *testing.T){}\n' > m_test.go; go test ./... >/dev/null && go run . 2>&1`, "x\n"},
		{"node", []string{"node"}, false, `node -e 'const w=require("worker_threads");new w.Worker("require(\"fs\").writeFileSync(\"out\",\"w\")",{eval:true}).on("exit",()=>console.log(require("fs").readFileSync("out","utf8")))'`, "w\n"},
		{"npm", []string{"npm"}, false, `npm init -y >/dev/null 2>&1 && npm pkg get version`, "\"1.0.0\"\n"},
		{"python", []string{"python3"}, false, `/usr/bin/python3 -c 'import multiprocessing as m
if __name__ == "__main__":
    with m.Pool(2) as p: print(sum(p.map(abs, [-1, -2])))
    l = m.Lock(); q = m.Queue(); q.put(1); print(q.get())'`, "3\n1\n"},
		{"shell", []string{"bash"}, false, `bash -c 'cat <(echo sub) - <<< here; echo out > /dev/stdout; echo n > /dev/null; f=$(mktemp) && test -O $f && d=$(mktemp -d) && test -d $d && echo ok; type -t cd'`, "sub\nhere\nout\nok\nbuiltin\n"},
		{"tools", []string{"tar", "xz"}, false, `mkdir d && echo 1 > d/f && tar -cJf d.tar.xz d && rm -r d && tar -xpf d.tar.xz && cp -a d e && cat e/f && find . -name f | wc -l && ln e/f e/g && ln -s f e/h && stat -c %h e/g && getent passwd $(id -u) | cut -d: -f1 | grep -c . && getent hosts localhost | wc -l && nproc | grep -c .`, "1\n2\n2\n1\n1\n1\n"},
		{"fifo and unix sockets", []string{"python3"}, false, `mkfifo p; (echo through > p &); cat p; /usr/bin/python3 -c 'import socket
a = socket.socket(socket.AF_UNIX); a.bind("s"); a.listen(); b = socket.socket(socket.AF_UNIX); b.connect("s"); print("unix")'`, "through\nunix\n"},
		{"job control", []string{"bash"}, true, `bash -ic 'sleep 100 & kill %1; wait %1 2>/dev/null; echo $?; set -m; (sleep 0.01); fg 2>/dev/null; echo jobs' 2>/dev/null`, "143\r\njobs\r\n"},
		{"script", []string{"script"}, true, `script -qec 'tty; echo nested' /dev/null`, "/dev/pts/1\r\nnested\r\n"},
		{"vim", []string{"vim"}, true, `vim -u NONE -es -c 'normal ihello' -c 'wq! v.txt'; cat v.txt`, "hello\r\n"},
		{"venv", []string{"python3"}, false, `/usr/bin/python3 -m venv --without-pip v && (cd v/lib/python3*/site-packages && echo 'x = 1' > only_here.py) && . v/bin/activate && python -c 'import only_here, sys; print(sys.prefix != sys.base_prefix, only_here.x)'`, "True 1\n"},
		{"cargo", []string{"cargo"}, false, `export CARGO_HOME=$PWD/home CARGO_TERM_COLOR=never; cargo new --quiet --vcs none --name m c && cd c && cargo build --quiet --offline && ./target/debug/m`, "Hello, world!\n"},
		{"less", []string{"less"}, true, `echo paged > l; less -FX l | cat`, "paged\r\n"},
	}
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		// With the guard on, which every call that makes a name passes.
		p.Protect = []string{".vscode", ".envrc", ".git/hooks", ".git/config"}
		s := start(t, p)
		for i, w := range works {
			t.Run(w.name, func(t *testing.T) {
				if w.name == "cargo" {
					// Where present; and rustup keeps its choice of a version in the
					// home of the user it was installed for.
					if _, err := exec.LookPath("cargo"); err != nil || !strings.Contains(t.Name(), "/self/") {
						return
					}
				}
				needTools(t, w.tools...)
				if w.name == "go" && (testing.Short() || t.Name() != "TestOrdinaryWork/self/go") {
					return // compiles the standard library: once is enough
				}
				dir := filepath.Join(p.Workspace, "w"+itoa(i))
				if _, st := sh(t, s, p.Workspace, "mkdir "+dir); st.Code != 0 {
					t.Fatal(st)
				}
				c := spawn(t, s, sandbox.Command{Argv: []string{"/bin/sh", "-c", w.line}, Dir: dir, TTY: w.tty})
				var out string
				if w.tty {
					out = readTerminal(t, c)
				} else {
					c.Stdout().SetReadDeadline(time.Now().Add(90 * time.Second))
					b, _ := io.ReadAll(c.Stdout())
					out = string(b)
				}
				if out != w.want {
					t.Errorf("got %q, want %q", out, w.want)
				}
			})
		}
	})
}

// AC-74: programs that take the whole screen work in a terminal and answer keys.
func TestFullScreenPrograms(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		s := start(t, p)
		if _, st := sh(t, s, p.Workspace, "seq -f 'line %g' 500 > long"); st.Code != 0 {
			t.Fatal(st)
		}
		type step struct{ shows, keys string }
		for _, c := range []struct {
			argv  []string
			steps []step
			after string // a shell line that must succeed
		}{
			{[]string{"htop"}, []step{{"Load average", "q"}}, "true"},
			{[]string{"less", "long"}, []step{{"line 20", "G"}, {"line 500", "q"}}, "true"},
			{[]string{"vim", "-u", "NONE", "-i", "NONE", "-n", "new"}, []step{{"~", "ihello there\x1b"}, {"hello there", ":wq\r"}}, `test "$(cat new)" = "hello there"`},
		} {
			t.Run(c.argv[0], func(t *testing.T) {
				needTools(t, c.argv[0])
				p2 := spawn(t, s, sandbox.Command{Argv: c.argv, Dir: p.Workspace, TTY: true, Cols: 100, Rows: 30})
				master := p2.Stdout()
				master.SetReadDeadline(time.Now().Add(60 * time.Second))
				screen, buf := "", make([]byte, 4096)
				for _, st := range c.steps {
					for !strings.Contains(screen, st.shows) {
						n, err := master.Read(buf)
						screen += string(buf[:n])
						if err != nil {
							t.Fatalf("%q never shown: %v after %q", st.shows, err, screen)
						}
					}
					screen = ""
					if _, err := master.WriteString(st.keys); err != nil {
						t.Fatal(err)
					}
				}
				readTerminal(t, p2)
				if st := p2.Wait(); st.Code != 0 {
					t.Errorf("status %+v", st)
				}
				want(t, s, p.Workspace, c.after+" && echo right", "right\n")
			})
		}
	})
}

// A host that masks /proc gives the level namespaces-noproc: reported, with the
// host's /proc read-only, and trees are still found.
func TestHostProc(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		p.Level = sandbox.LevelNamespacesNoProc
		s := start(t, p)
		if l := s.Report().Level; l != sandbox.LevelNamespacesNoProc {
			t.Errorf("level %s", l)
		}
		for _, l := range s.Report().Layers {
			if l.Name == layerProc && probed().FreshProc.OK != strings.Contains(l.Detail, "as asked for") {
				t.Errorf("%+v", l)
			}
		}
		for name, line := range escapes {
			c := spawn(t, s, sandbox.Command{Argv: []string{"sh", "-c", line}, Dir: p.Workspace})
			io.ReadFull(c.Stdout(), make([]byte, 6))
			if n, err := c.TreeAlive(); n == 0 || err != nil {
				t.Errorf("%s: %d alive, %v", name, n, err)
			}
			if err := c.SignalTree(9); err != nil {
				t.Error(err)
			}
			eventually(t, "all dead", func() bool { n, _ := c.TreeAlive(); return n == 0 })
		}
		want(t, s, p.Workspace, "(echo x > /proc/sys/kernel/core_pattern) 2>/dev/null; bash -c 'cat <(echo sub)'; cat /proc/"+itoa(os.Getpid())+"/environ 2>/dev/null | head -c 1; echo done", "sub\ndone\n")
		p.Level, p.MinLevel = sandbox.LevelNamespacesNoProc, sandbox.LevelNamespaces
		if s, err := Start(t.Context(), p); err == nil {
			s.Close()
			t.Error("a level below the minimum was started")
		}
	})
}
