package confine

import (
	"os"
	"strconv"
	"strings"
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
// the loopback up, to set securebits, kernel limits of the namespace, and to
// read the marks of commands. They mean nothing outside it.
var initCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETPCAP, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_NICE}

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

func (l *layout) report(level Level, gaps []string) Report {
	r := Report{Level: level}
	missing := map[string]string{}
	for _, g := range gaps {
		k, v, _ := strings.Cut(g, "=")
		missing[k] = v
	}
	if _, ok := missing[gapProc]; ok && level == LevelNamespaces {
		r.Level = LevelNamespacesNoProc
	}
	r.Layers = append(r.Layers, Layer{Name: "landlock", State: stateOn, Detail: "ABI " + strconv.Itoa(landlockABI())})
	r.Warnings = append(r.Warnings, l.warnings...)
	return r
}
