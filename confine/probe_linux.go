package confine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// probeName is the argv[0] of the child that tries the layers.
const probeName = "mcp-sandbox: probe"

// probeModeEnv tells the child whether it stands in new namespaces.
const probeModeEnv = "MCP_SANDBOX_PROBE"

// Steps of the probing child, in order. Each is tried for real; its errno goes
// back to the server.
const (
	stepClone    = "clone"    // the server's: start the child in new namespaces
	stepChild    = "child"    // the server's: start it at all
	stepMounts   = "mounts"   // the private mount tree and the new root
	stepTree     = "tree"     // a copy of the host's tree, made read-only
	stepTerminal = "devpts"   // terminals of its own
	stepLoopback = "loopback" // the network namespace's interface
	stepProc     = "proc"     // a /proc of its own
	stepLandlock = "landlock" // a domain that must refuse to read /
	stepSeccomp  = "seccomp"  // the filter, which must refuse TIOCSTI
)

// errNotEnforced stands for a restriction that was accepted and does not hold.
const errNotEnforced = unix.EBADE

// Probe tries every layer on this host by starting a child of this binary
// (see MaybeRunChild) that uses them, and makes and removes a control group. It
// takes some ten milliseconds and leaves nothing behind.
func Probe(ctx context.Context) Capabilities {
	c := Capabilities{OS: runtime.GOOS, UID: os.Geteuid(), Kernel: kernelRelease(), KernelVersion: runningVersion(), Cgroup: map[string]Support{}}
	host := readHostFacts()
	steps, err := runProbe(ctx, true)
	if err != nil {
		// Landlock and seccomp are asked again where namespaces did not come up.
		steps = map[string]unix.Errno{stepClone: errnoOrUnknown(err)}
		plain, err := runProbe(ctx, false)
		for k, v := range plain {
			steps[k] = v
		}
		if err != nil {
			steps[stepChild] = errnoOrUnknown(err)
		}
	}
	c.judge(steps, host)
	for _, k := range []string{"pids", "memory", "cpu", cgroupShare} {
		c.Cgroup[k] = probeCgroup(k)
	}
	return c
}

// runProbe starts the child and reads its answers.
func runProbe(ctx context.Context, namespaces bool) (map[string]unix.Errno, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{probeName}
	cmd.Env = []string{probeModeEnv + "=plain"}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if namespaces {
		cmd.Env = []string{probeModeEnv + "=namespaces"}
		uid, gid := os.Geteuid(), os.Getegid()
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC |
				syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET | syscall.CLONE_NEWCGROUP,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
			AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETPCAP},
		}
	}
	if err = refusedClones.refused(); err == nil || !namespaces {
		err = cmd.Start()
	}
	w.Close()
	if namespaces {
		refusedClones.note(err)
	}
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, readErr := b.ReadFrom(r)
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("the probing child ended early: %w", err)
	}
	return parseProbe(b.String())
}

// parseProbe reads "step errno" lines; the last one must be "end", or the child
// died in a step.
func parseProbe(text string) (map[string]unix.Errno, error) {
	steps := map[string]unix.Errno{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(value)
		if !ok || err != nil {
			return nil, errors.New("the probing child answered with something else, is MaybeRunChild called first in main?")
		}
		steps[name] = unix.Errno(n)
	}
	if _, done := steps["end"]; !done {
		return nil, errors.New("the probing child gave no answer, is MaybeRunChild called first in main?")
	}
	delete(steps, "end")
	return steps, nil
}

// runProbeChild is the child's part. It reports whether this process was one.
func runProbeChild(args []string) bool {
	if len(args) == 0 || args[0] != probeName {
		return false
	}
	runtime.LockOSThread()
	out := os.NewFile(3, "probe")
	try := func(step string, f func() error) {
		var e unix.Errno
		if err := f(); err != nil {
			e = errnoOrUnknown(err)
		}
		fmt.Fprintf(out, "%s %d\n", step, int(e))
	}
	if os.Getenv(probeModeEnv) == "namespaces" {
		try(stepMounts, probeMounts)
		try(stepTree, probeTree)
		try(stepTerminal, func() error { return probeFS("devpts", "newinstance") })
		try(stepLoopback, probeLoopback)
		try(stepProc, func() error { return probeFS("proc", "") })
	}
	try(stepLandlock, probeLandlock)
	try(stepSeccomp, probeSeccomp)
	fmt.Fprintln(out, "end 0")
	out.Close()
	return true
}

func probeMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	return probeFS("tmpfs", "")
}

// probeTree copies the whole tree as a session does; a copy of the top alone is
// refused where the host has mounts below (locked mounts, user_namespaces(7)).
func probeTree() error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID})
}

func probeFS(kind, flag string) error {
	fsfd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fsfd)
	if flag != "" {
		if err := unix.FsconfigSetFlag(fsfd, flag); err != nil {
			return err
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return err
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func probeLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

func probeLandlock() error {
	abi, err := landlockVersion()
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := landlockRestrict(abi, []landlockRule{{Path: "/dev/null", Access: laDevice, Optional: true}}, true, true); err != nil {
		return err
	}
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
		return errNotEnforced
	}
	if err != unix.EACCES {
		return err
	}
	return nil
}

func probeSeccomp() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog, err := seccompProgram(seccompOptions{Network: sandbox.NetworkNone, LandlockOnly: true})
	if err != nil {
		return unix.ENOTSUP
	}
	if err := seccompInstall(prog); err != nil {
		return err
	}
	// The filter answers before the kernel sees that there is no descriptor -1.
	if _, _, e := unix.RawSyscall(unix.SYS_IOCTL, ^uintptr(0), unix.TIOCSTI, 0); e != unix.EPERM {
		return errNotEnforced
	}
	return nil
}

func errnoOrUnknown(err error) unix.Errno {
	var e unix.Errno
	if errors.As(err, &e) && e != 0 {
		return e
	}
	return unix.ENOMSG // nothing the kernel said
}

var probeCount atomic.Int64

// probeCgroup makes a group with one limit and removes it.
func probeCgroup(controller string) Support {
	l := map[string]sandbox.Limits{"pids": {Procs: 64}, "memory": {Memory: 64 << 20}, "cpu": {CPU: 1}}[controller]
	g, missing, err := newCgroup("probe"+strconv.FormatInt(probeCount.Add(1), 10), l)
	const remedy = "run the server in a cgroup of its own, for example with systemd-run --user --scope -p Delegate=yes, or as root"
	if err != nil {
		return Support{Reason: err.Error(), Remedy: remedy}
	}
	has := g.Has(controller)
	if err := g.Remove(); err != nil {
		return Support{Reason: err.Error(), Remedy: remedy}
	}
	if has {
		return Support{OK: true}
	}
	// The limit was asked for last, after the share every group has.
	reason := missing[len(missing)-1]
	if _, why, ok := strings.Cut(reason, ": "); ok {
		reason = why
	}
	return Support{Reason: reason, Remedy: remedy}
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
