package confine

import (
	"io"
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
	switch os.Args[0] {
	case initName:
		runInit()
	case forkerName:
		runForkProcess()
	}
	if runProbeChild(os.Args) {
		os.Exit(0)
	}
}

// selfExe is the server's own binary. It is opened once, so a server whose file
// was replaced or removed while it runs still finds the very same program.
var selfExe = sync.OnceValues(func() (int, error) {
	fd, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return aboveFiles(fd)
})

// lowestExe is above all descriptors that a child is forked with. They are put in
// place before the exec: a program open at one of those numbers would be another file
// by then, and be refused (EACCES).
const lowestExe = 32

func aboveFiles(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lowestExe)
}

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

// forkInit starts init in cg with files as its descriptors and returns its pid,
// and the directories of cg it still has to be moved into.
func forkInit(attr *syscall.SysProcAttr, files []uintptr, cg *cgroup) (int, []cgroupDir, error) {
	exe, err := selfExe()
	if err != nil {
		return 0, nil, err
	}
	pid, outside, err := forkExe(exe, attr, files, cg)
	if err == unix.EACCES && os.Geteuid() == 0 {
		if exe, err := copiedExe(); err == nil {
			return forkExe(exe, attr, files, cg)
		}
	}
	return pid, outside, err
}

func forkExe(exe int, attr *syscall.SysProcAttr, files []uintptr, cg *cgroup) (int, []cgroupDir, error) {
	newUser := attr.Cloneflags&syscall.CLONE_NEWUSER != 0
	if newUser {
		if err := refusedClones.refused(); err != nil {
			return 0, nil, err
		}
	}
	var pid int
	var outside []cgroupDir
	var err error
	fork := func() {
		pid, err = syscall.ForkExec(fdPath(exe), []string{initName}, &syscall.ProcAttr{
			Dir:   "/",
			Env:   initEnv(),
			Files: files,
			Sys:   attr,
		})
	}
	done := make(chan struct{})
	forks() <- func() {
		defer close(done)
		outside = cg.forkInside(attr, fork)
		if err == nil || !attr.UseCgroupFD {
			return
		}
		// Old filters around containers refuse clone3, and a delegated group may
		// refuse to be entered: the same again, into the server's group.
		attr.UseCgroupFD = false
		first := err
		if fork(); err == nil {
			cloneOutside.Store(true)
			outside = cg.dirs
		} else if newUser {
			refusedClones.note(first)
		}
	}
	<-done
	if newUser {
		refusedClones.note(err)
	}
	return pid, outside, err
}

// copiedExe is the server's binary in memory, for a root server whose file only
// root may execute.
var copiedExe = sync.OnceValues(func() (int, error) {
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		return -1, err
	}
	defer src.Close()
	fd, err := unix.MemfdCreate("mcp-sandbox", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, err
	}
	dst := os.NewFile(uintptr(fd), "mcp-sandbox")
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return -1, err
	}
	defer dst.Close()
	// Sealed, so that no command could write into it, and opened again without
	// the right to write, which execve would refuse.
	if _, err := unix.FcntlInt(dst.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		return -1, err
	}
	fd, err = unix.Open(fdPath(int(dst.Fd())), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return aboveFiles(fd)
})

func fdPath(fd int) string { return "/proc/self/fd/" + itoa(fd) }
