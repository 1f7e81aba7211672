package confine

import (
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// initName is the argv[0] under which the server's binary is a sandbox's init.
// argv holds nothing else: it can be read in /proc.
const initName = "mcp-sandbox: init"

// The children leave for their work here, not in main: packages are initialised
// in the order of their paths as soon as their imports are (Go specification,
// "Program initialization"; the order by path since Go 1.21), so most of the
// server's dependencies come later. One of them alone takes 5 ms, as long as the
// whole start of a session. TestChildLeavesBeforeHeavyPackages watches it.
func init() { MaybeRunChild() }

// MaybeRunChild must be the first thing main and TestMain do. In the
// re-executed children of this package it never returns.
func MaybeRunChild() {
	if len(os.Args) == 0 {
		return
	}
	if os.Args[0] == initName {
		runInit()
	}
	if runProbeChild(os.Args) {
		os.Exit(0)
	}
}

// selfExe is the server's own binary. It is opened once, so a server whose file
// was replaced or removed while it runs still finds the very same program.
var selfExe = sync.OnceValues(func() (int, error) {
	return unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
})

// forks feeds the forker.
var forks = sync.OnceValue(func() chan func() {
	c := make(chan func())
	go forkerLoop(c)
	return c
})

// forkerLoop runs every fork of an init on one thread that never ends. The
// parent-death signal of prctl(2) belongs to the forking thread, not to its
// process: had a pooled thread forked, its retirement would kill the session.
func forkerLoop(c chan func()) {
	runtime.LockOSThread()
	for f := range c {
		f()
	}
}

// forkInit starts init with files as its descriptors and returns its pid.
func forkInit(attr *syscall.SysProcAttr, files []uintptr) (int, error) {
	exe, err := selfExe()
	if err != nil {
		return 0, err
	}
	type result struct {
		pid int
		err error
	}
	done := make(chan result, 1)
	forks() <- func() {
		pid, err := syscall.ForkExec(fdPath(exe), []string{initName}, &syscall.ProcAttr{
			Dir: "/",
			// Never the server's environment: it holds secrets, and init is the
			// one process commands share a namespace with. The settings keep the
			// Go runtime from opening cgroup files, whose descriptors would be
			// taken for leaked ones.
			Env:   []string{"GODEBUG=containermaxprocs=0,updatemaxprocs=0"},
			Files: files,
			Sys:   attr,
		})
		done <- result{pid, err}
	}
	r := <-done
	return r.pid, r.err
}

func fdPath(fd int) string { return "/proc/self/fd/" + itoa(fd) }
