package confine

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// fork starts init for the level of l, with control as its socket. The file is
// what init writes panics to.
func (l *layout) fork(control int) (int, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	defer w.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		r.Close()
		return 0, nil, err
	}
	defer null.Close()
	files := []uintptr{null.Fd(), null.Fd(), w.Fd(), uintptr(control)}
	for _, fd := range l.trees {
		files = append(files, uintptr(fd))
	}
	pid, err := forkInit(l.attr(), files)
	if err != nil {
		r.Close()
		return 0, nil, err
	}
	return pid, r, nil
}

// initCaps are what init keeps inside its user namespace: to mount, to bring
// the loopback up, to set securebits, kernel limits of the namespace, to read the
// marks of commands and, for the guard, the names they pass to the kernel. They mean nothing outside it.
var initCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETPCAP, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_NICE, unix.CAP_SYS_PTRACE}

func (l *layout) attr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	root := os.Geteuid() == 0
	if root {
		// A root server can allow setgroups, and init drops the server's groups
		// with it: group 0 would otherwise still open files.
		attr.Credential = &syscall.Credential{Uid: uint32(l.id.uid), Gid: uint32(l.id.gid)}
	}
	if !l.cfg.Namespaces {
		attr.Pdeathsig = syscall.SIGTERM
		return attr
	}
	attr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
		syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP
	if l.cfg.Network != NetworkHost {
		attr.Cloneflags |= syscall.CLONE_NEWNET
	}
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: l.id.uid, HostID: l.id.uid, Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: l.id.gid, HostID: l.id.gid, Size: 1}}
	attr.GidMappingsEnableSetgroups = root
	attr.AmbientCaps = initCaps
	return attr
}

func (l *layout) environ() []string {
	home := l.cfg.Home
	if l.p.Home != "" {
		home = l.p.Home
	}
	return []string{"PATH=" + l.path, "HOME=" + home, "USER=" + l.id.name, "LOGNAME=" + l.id.name, "SHELL=" + l.id.shell, "TMPDIR=" + l.tmp}
}

// probed is what the host lends, asked only when a session got less than all.
var probed = sync.OnceValue(func() Capabilities { return Probe(context.Background()) })

// capabilities is what the host turned out to lend to the sandbox that started.
func (l *layout) capabilities(gaps map[string]string, cg *cgroup) Capabilities {
	yes := Support{OK: true}
	c := Capabilities{OS: "linux", UID: os.Geteuid(), Namespaces: yes, FreshProc: yes, Seccomp: yes,
		LandlockABI: landlockABI(), Landlock: Support{OK: landlockABI() > 0}, Cgroup: map[string]Support{}}
	if _, masked := gaps[gapProc]; masked || !l.cfg.Namespaces || !c.Landlock.OK {
		p := probed()
		c.Namespaces, c.Landlock = p.Namespaces, p.Landlock
		c.FreshProc = p.FreshProc
		if masked {
			c.FreshProc.OK = false
		}
	}
	for _, k := range []string{"pids", "memory", "cpu"} {
		c.Cgroup[k] = Support{OK: cg.Has(k), Reason: "no control group with it is writable", Remedy: "run the server in a delegated systemd scope or slice"}
	}
	return c
}

// report says which layers hold, from what init and the control groups
// answered, not from what was planned.
func (l *layout) report(level Level, answered []string, cg *cgroup) Report {
	missing := map[string]string{}
	for _, g := range answered {
		k, v, _ := strings.Cut(g, "=")
		missing[k] = v
	}
	if _, ok := missing[gapProc]; ok && level == LevelNamespaces {
		level = LevelNamespacesNoProc
	}
	r := Report{Level: level}
	c := l.capabilities(missing, cg)
	pl := planAt(level, l.p.Network, c)
	on := func(name, format string, args ...any) {
		r.Layers = append(r.Layers, Layer{Name: name, State: stateOn, Detail: fmt.Sprintf(format, args...)})
	}
	if pl.Namespaces {
		kinds := "user, mount, pid, ipc, uts, cgroup"
		if l.p.Network != NetworkHost {
			kinds += ", net"
		}
		on(layerNamespaces, "%s", kinds)
		if pl.Proc == procFresh {
			on(layerProc, "the session's own processes only, read-only")
		}
		on(layerFiles, "a read-only root with the system's programs; the workspace, /tmp and the home are writable")
	}
	if pl.LandlockABI > 0 {
		on(layerLandlock, "%s", landlockDetail(pl.LandlockABI))
	}
	if pl.Seccomp {
		on(layerSeccomp, "%s", seccompSummary(l.seccomp()))
		on("privileges", "uid %d, no capabilities, no_new_privs", l.id.uid)
		on(layerNetwork, "%s", pl.Network)
	}
	lim := l.p.Limits
	on("limits", "files of %d MiB, %d open files, /tmp %d MiB", lim.FileSize>>20, lim.OpenFiles, lim.Tmp>>20)
	if pl.Namespaces && l.id.uid != 0 {
		on(layerProcesses, "at most %d", lim.Procs)
	}
	for _, k := range []string{layerPids, layerMemory, layerCPU} {
		if cg.Has(strings.TrimPrefix(k, "cgroup-")) {
			on(k, "limited for the session as a whole")
		}
	}
	if len(l.p.Protect) > 0 && pl.Namespaces {
		on("protected paths", "%d", len(l.p.Protect))
	}
	for _, g := range gaps(pl, *l.p, l.p.Network, c) {
		// RLIMIT_NPROC is enough for every uid but 0.
		if g.Layer == layerPids && pl.Namespaces && l.id.uid != 0 {
			continue
		}
		r.Layers = append(r.Layers, Layer{Name: g.Layer, State: stateOff, Detail: g.Reason, Remedy: g.Remedy})
		r.Warnings = append(r.Warnings, g.Layer+": "+g.Reason)
	}
	if l.id.uid == 0 && pl.Namespaces {
		r.Warnings = append(r.Warnings, "commands run as uid 0, mapped to the real root: give the workspace to an ordinary user")
	}
	for _, k := range slices.Sorted(maps.Keys(missing)) {
		if k != gapProc {
			r.Warnings = append(r.Warnings, k+": could not be set ("+missing[k]+")")
		}
	}
	r.Warnings = append(r.Warnings, l.warnings...)
	return r
}

// makeCgroup makes the session's control group, or nil. An ordinary uid in a
// user namespace has its processes counted by RLIMIT_NPROC, so for it the group
// is only made for what no rlimit can do.
func (l *layout) makeCgroup() *cgroup {
	if l.cfg.Unconfined {
		return nil
	}
	lim := l.p.Limits
	if l.cfg.Namespaces && l.id.uid != 0 {
		lim.Procs = 0
	}
	if lim.Procs == 0 && lim.Memory == 0 && lim.CPU == 0 {
		return nil
	}
	cg, _, err := newCgroup(strconv.FormatUint(cgroupNumber.Add(1), 10), lim)
	if err != nil {
		l.p.Log.Warn("control group not made", "error", err)
	}
	return cg
}

// cgroupNumber tells the sessions of one server apart.
var cgroupNumber atomic.Uint64
