package confine

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

type seccompChildArg struct {
	Options seccompOptions
	Calls   [][7]uint64
}

func restrictSeccomp(o seccompOptions) error {
	prog, err := seccompProgram(o)
	if err != nil {
		return err
	}
	if err := noNewPrivs(); err != nil {
		return err
	}
	return seccompInstall(prog)
}

// childSeccompTable tries every unconditional rule and returns the errno of each.
func childSeccompTable(raw json.RawMessage) (any, error) {
	var arg seccompChildArg
	if err := json.Unmarshal(raw, &arg); err != nil {
		return nil, err
	}
	arch, err := nativeSeccompArch()
	if err != nil {
		return nil, err
	}
	rules, err := rulesFor(arch, tableRules, arg.Options)
	if err != nil {
		return nil, err
	}
	if err := restrictSeccomp(arg.Options); err != nil {
		return nil, err
	}
	got := map[string]int{}
	for _, r := range rules {
		if r.syscallRule.clauses == nil {
			_, _, e := unix.RawSyscall6(uintptr(r.nr), 0, 0, 0, 0, 0, 0)
			got[r.name] = int(e)
		}
	}
	return got, nil
}

// AC-24, AC-30: the running kernel answers every refused call as the table says.
func TestSeccompLiveTable(t *testing.T) {
	for _, o := range []seccompOptions{
		{Network: "loopback", ProtectPid1: true},
		{Network: "none", LandlockOnly: true},
	} {
		var got map[string]int
		runLayerChild(t, "seccomp-table", seccompChildArg{Options: o}, &got)
		if len(got) < 50 {
			t.Fatalf("only %d calls tried", len(got))
		}
		for i := range tableRules {
			r := &tableRules[i]
			if e, tried := got[r.name]; tried && unix.Errno(e) != r.errno {
				t.Errorf("%+v %s: %v, want %v", o, r.name, unix.Errno(e), r.errno)
			}
		}
	}
}

func childSeccompCalls(raw json.RawMessage) (any, error) {
	var arg seccompChildArg
	if err := json.Unmarshal(raw, &arg); err != nil {
		return nil, err
	}
	if err := restrictSeccomp(arg.Options); err != nil {
		return nil, err
	}
	var got []int
	for _, c := range arg.Calls {
		r, _, e := unix.RawSyscall6(uintptr(c[0]), uintptr(c[1]), uintptr(c[2]), uintptr(c[3]), uintptr(c[4]), uintptr(c[5]), uintptr(c[6]))
		if e == 0 && int(r) > 2 && (c[0] == unix.SYS_SOCKET) {
			unix.Close(int(r))
		}
		got = append(got, int(e))
	}
	return got, nil
}

// AC-25, AC-30, AC-36: argument rules on the running kernel.
func TestSeccompLiveArguments(t *testing.T) {
	for _, c := range []struct {
		name string
		o    seccompOptions
		call [7]uint64
		want unix.Errno
	}{
		{"vsock", seccompOptions{Network: "loopback"}, [7]uint64{unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EAFNOSUPPORT},
		{"tcp", seccompOptions{Network: "loopback"}, [7]uint64{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM}, 0},
		{"mptcp", seccompOptions{Network: "loopback"}, [7]uint64{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 262}, unix.EPROTONOSUPPORT},
		{"raw", seccompOptions{Network: "host"}, [7]uint64{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_RAW, 1}, unix.EPERM},
		{"netlink route", seccompOptions{Network: "loopback"}, [7]uint64{unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0}, 0},
		{"tcp, none", seccompOptions{Network: "none"}, [7]uint64{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM}, unix.EAFNOSUPPORT},
		{"unix, none", seccompOptions{Network: "none"}, [7]uint64{unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM}, 0},
		{"unix, landlock", seccompOptions{Network: "none", LandlockOnly: true}, [7]uint64{unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM}, unix.EAFNOSUPPORT},
		{"TIOCSTI", seccompOptions{Network: "none"}, [7]uint64{unix.SYS_IOCTL, 0, unix.TIOCSTI}, unix.EPERM},
		{"TIOCSTI with high bits", seccompOptions{Network: "none"}, [7]uint64{unix.SYS_IOCTL, 0, unix.TIOCSTI | 1<<32}, unix.EPERM},
		{"unshare", seccompOptions{Network: "none"}, [7]uint64{unix.SYS_UNSHARE, unix.CLONE_NEWUSER}, unix.EPERM},
		{"signal pid 1", seccompOptions{Network: "none", ProtectPid1: true}, [7]uint64{unix.SYS_KILL, 1, 0}, unix.EPERM},
		{"x32", seccompOptions{Network: "none"}, [7]uint64{0x40000000 | 39}, unix.ENOSYS},
		{"a call from the future", seccompOptions{Network: "none"}, [7]uint64{lastKnownSyscall + 1}, unix.ENOSYS},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []int
			runLayerChild(t, "seccomp-calls", seccompChildArg{c.o, [][7]uint64{c.call}}, &got)
			if unix.Errno(got[0]) != c.want {
				t.Errorf("errno %v, want %v", unix.Errno(got[0]), c.want)
			}
		})
	}
}

type threadAnswer struct {
	Same, Other, Later int
	Child              string
}

// childSeccompThread restricts one thread and looks at the others.
func childSeccompThread(json.RawMessage) (any, error) {
	probe := func() int {
		_, _, e := unix.RawSyscall(unix.SYS_IOCTL, ^uintptr(0), unix.TIOCSTI, 0)
		return int(e)
	}
	ask, answer := make(chan bool), make(chan int)
	go func() { // on a thread of its own, which is there before the filter
		runtime.LockOSThread()
		answer <- 0
		<-ask
		answer <- probe()
	}()
	<-answer
	if err := restrictSeccomp(seccompOptions{Network: sandbox.NetworkNone}); err != nil {
		return nil, err
	}
	ask <- true
	a := threadAnswer{Same: probe(), Other: <-answer}
	go func() { // and one the runtime makes or finds afterwards
		runtime.LockOSThread()
		answer <- probe()
	}()
	a.Later = <-answer
	// This goroutine still holds the restricted thread, so that is what forks.
	out, err := exec.Command("/bin/sh", "-c", "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status").Output()
	a.Child = string(out)
	return a, err
}

// AC-34: the filter is on the thread that asked for it and on all it starts, and
// on no other.
func TestSeccompIsPerThread(t *testing.T) {
	var got threadAnswer
	runLayerChild(t, "seccomp-thread", nil, &got)
	if unix.Errno(got.Same) != unix.EPERM || unix.Errno(got.Other) != unix.EBADF || unix.Errno(got.Later) != unix.EBADF {
		t.Errorf("same thread %v, an earlier one %v, a later one %v", unix.Errno(got.Same), unix.Errno(got.Other), unix.Errno(got.Later))
	}
	if got.Child != "NoNewPrivs:\t1\nSeccomp:\t2\n" {
		t.Errorf("a child has %q", got.Child)
	}
}

// childSeccompInt80 calls getpid through the 32-bit gate.
func childSeccompInt80(raw json.RawMessage) (any, error) {
	code, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, err
	}
	copy(code, []byte{0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3}) // mov eax,20; int 0x80; ret
	entry := unsafe.Pointer(unsafe.SliceData(code))
	pEntry := unsafe.Pointer(&entry)
	call := *(*func())(unsafe.Pointer(&pEntry))
	var restrict bool
	if err := json.Unmarshal(raw, &restrict); err != nil {
		return nil, err
	}
	if restrict {
		if err := restrictSeccomp(seccompOptions{Network: "none"}); err != nil {
			return nil, err
		}
	}
	call()
	return "lived", nil
}

// AC-30: the 32-bit gate of amd64.
func TestSeccompLiveInt80(t *testing.T) {
	if arch, _ := nativeSeccompArch(); arch.name != "amd64" {
		return // arm64 kernels have no such gate in a 64-bit process
	}
	// Without the filter the call must work, or its death would prove nothing;
	// a kernel without 32-bit emulation kills it with SIGSEGV instead.
	// Go's own handler turns that into an exit.
	if out, st := runLayerChild(t, "seccomp-int80", false, nil); st.Signaled() && st.Signal() == syscall.SIGSEGV ||
		st.Exited() && strings.Contains(string(out), "SIGSEGV") {
		return
	}
	if out, st := runLayerChild(t, "seccomp-int80", true, nil); !st.Signaled() || st.Signal() != syscall.SIGSYS {
		t.Errorf("status %#x, want death by SIGSYS\n%s", uint32(st), out)
	}
}

type confinedExecArg struct {
	Options seccompOptions
	Script  string
}

// childConfinedExec becomes a shell under the filter alone.
func childConfinedExec(raw json.RawMessage) (any, error) {
	var arg confinedExecArg
	if err := json.Unmarshal(raw, &arg); err != nil {
		return nil, err
	}
	if err := restrictSeccomp(arg.Options); err != nil {
		return nil, err
	}
	return nil, unix.Exec("/bin/sh", []string{"sh", "-euc", arg.Script}, os.Environ())
}

// AC-74: ordinary programs under the filter.
func TestSeccompOrdinaryWork(t *testing.T) {
	ns := seccompOptions{Network: "loopback", ProtectPid1: true}
	ll := seccompOptions{Network: "none", LandlockOnly: true}
	for _, c := range []struct {
		name   string
		o      seccompOptions
		tools  []string
		script string
	}{
		{"coreutils", ll, nil, `mkdir d; touch d/f; chmod 755 d/f; cp -a d e; mv e g; ln g/f h; ln -s h i; tar cf - d | (mkdir x; cd x; tar xpf -); mkfifo p; rm -r d g; test -x x/d/f`},
		{"git", ll, []string{"git"}, `git init -q .; git config user.email a@b; git config user.name a; echo x > f; git add f; git commit -qm m; git checkout -q -b z; git gc -q; git clone -q . ../c2; git status`},
		{"cc", ll, []string{"gcc", "make"}, `printf 'int main(){return 7;}\n' > a.c; printf 'all: a b\na b: a.c\n\tgcc -o $@ a.c\n' > Makefile; make -j2 -s; ./a && exit 1 || test $? = 7`},
		{"go", ll, []string{"go"}, `export GOFLAGS=-mod=mod GOTOOLCHAIN=local GOPATH=$PWD/p; printf 'module m\n' > go.mod; printf 'package main\nimport "os/exec"\nfunc main(){ if exec.Command("true").Run() != nil { panic(1) } }\n' > m.go; go run .`},
		{"go network", ns, []string{"go"}, `export GOTOOLCHAIN=local GOPATH=$PWD/p; printf 'module m\n' > go.mod; printf 'package main\nimport "net"\nfunc main(){ l,e:=net.Listen("tcp","127.0.0.1:0"); if e!=nil {panic(e)}; go func(){c,_:=net.Dial("tcp",l.Addr().String()); c.Write([]byte("x")); c.Close()}(); c,_:=l.Accept(); b:=make([]byte,1); if n,_:=c.Read(b); n!=1 {panic("read")}; if _,e:=net.Interfaces(); e!=nil {panic(e)} }\n' > m.go; go run .`},
		{"node", ll, []string{"node"}, `node -e 'const c=require("child_process");c.execFileSync("true");const p=c.fork("/dev/null");p.on("exit",()=>require("fs").promises.writeFile("o","x").then(()=>process.exit(0)))'; test -f o`},
		{"node network", ns, []string{"node"}, `node -e 'const h=require("http");require("os").networkInterfaces();const s=h.createServer((q,r)=>r.end("hi")).listen(0,"127.0.0.1",()=>h.get({port:s.address().port,host:"127.0.0.1"},r=>r.on("data",d=>{console.log(""+d);process.exit(0)})))'`},
		{"npm", ll, []string{"npm"}, `npm init -y >/dev/null; test -f package.json`},
		{"python", ll, []string{"python3"}, `python3 -c 'import multiprocessing as m, shutil, subprocess
p = m.get_context("fork").Pool(2); print(p.map(abs, [-1, 2])); p.close(); p.join()
open("a", "w").write("x"); shutil.copy2("a", "b"); subprocess.run(["true"], check=True)'`},
		{"strace of a child", ns, []string{"strace"}, `strace -f -o /dev/null sh -c 'true; true'`},
		{"gdb of a child", ns, []string{"gdb", "gcc"}, `printf 'int main(){return 7;}\n' > a.c; gcc -g a.c; gdb -batch -ex 'break main' -ex run -ex bt -ex c ./a.out 2>&1 | tee /dev/stderr | grep -q 'main ()'`},
		{"ps and threads", ns, []string{"ps"}, `ps -o pid,comm >/dev/null; setsid true; nice -n 5 true; timeout 5 true`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && strings.HasPrefix(c.name, "go") {
				return // compiles the standard library: root's run does
			}
			needTools(t, c.tools...)
			if cache, err := exec.Command("go", "env", "GOCACHE").Output(); err == nil {
				t.Setenv("GOCACHE", strings.TrimSpace(string(cache))) // compiling the standard library anew takes a minute
			}
			t.Chdir(t.TempDir())
			t.Setenv("HOME", t.TempDir())
			out, st := runLayerChild(t, "confined-exec", confinedExecArg{c.o, c.script}, nil)
			if st != 0 {
				t.Errorf("status %#x\n%s", uint32(st), out)
			}
			if d, err := filepath.Abs("../c2"); err == nil {
				os.RemoveAll(d)
			}
		})
	}
}
