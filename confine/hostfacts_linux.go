package confine

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hostFacts are the switches of the host that explain a refusal.
type hostFacts struct {
	maxUserNamespaces int      // user.max_user_namespaces, -1 unknown
	zeroLimits        []string // those of user.max_*_namespaces that are 0
	cloneOff          bool     // kernel.unprivileged_userns_clone is 0 (Debian)
	appArmor          bool     // kernel.apparmor_restrict_unprivileged_userns is 1 (Ubuntu)
	profile           string   // the AppArmor profile that confines the server, "" for none
	filtered          bool     // a seccomp filter stands around the server
	cloneFiltered     bool     // and that filter refuses user namespaces
	container         bool     // a container manager left its mark
	root              bool
	lacking           []string // capabilities a root server needs and does not have
	noProc            bool     // /proc is not mounted
	kernel            [3]int   // of the release, 0 unknown
	lsm               string   // the kernel's list of security modules, "" unknown
}

// namespaceLimits are the sysctls that bound the namespaces of a session; 0 in any
// of them is ENOSPC, which does not say which (namespaces(7)).
var namespaceLimits = []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"}

func readHostFacts() hostFacts {
	h := hostFacts{maxUserNamespaces: -1, root: os.Geteuid() == 0}
	for _, kind := range namespaceLimits {
		n, err := strconv.Atoi(readWord("/proc/sys/user/max_" + kind + "_namespaces"))
		if err != nil {
			continue
		}
		if kind == "user" {
			h.maxUserNamespaces = n
		}
		if n == 0 {
			h.zeroLimits = append(h.zeroLimits, "user.max_"+kind+"_namespaces")
		}
	}
	h.cloneOff = readWord("/proc/sys/kernel/unprivileged_userns_clone") == "0"
	h.appArmor = readWord("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1"
	h.profile = appArmorProfile(readWord)
	h.lsm = readWord("/sys/kernel/security/lsm")
	status, err := os.ReadFile("/proc/self/status")
	h.noProc = errors.Is(err, fs.ErrNotExist)
	h.filtered = bytes.Contains(status, []byte("\nSeccomp:\t2"))
	h.cloneFiltered = h.filtered && cloneFiltered()
	if h.root {
		h.lacking = lackingCaps(string(status), rootCaps)
	}
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv", "/run/systemd/container"} {
		if _, err := os.Lstat(mark); !errors.Is(err, fs.ErrNotExist) {
			h.container = true
		}
	}
	h.kernel, _ = kernelVersion(kernelRelease())
	return h
}

// appArmorProfile is the profile in force around the server, such as
// "docker-default". A profile in complain mode refuses nothing.
func appArmorProfile(read func(string) string) string {
	label := read("/proc/self/attr/apparmor/current")
	if label == "" {
		// Of whichever module came first, before Linux 5.8.
		label = read("/proc/self/attr/current")
	}
	name, mode, ok := strings.Cut(label, " (")
	if !ok || mode != "enforce)" {
		return ""
	}
	return name
}

// cloneFiltered says whether a filter refuses clone(2) with a user namespace. The
// kernel has an answer of its own to these flags, which it never takes together,
// and a filter sees the namespace only.
func cloneFiltered() bool {
	_, _, e := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_FS, 0, 0, 0, 0, 0)
	return e != unix.EINVAL
}

// capability is one of capabilities(7).
type capability struct {
	number int
	name   string
}

// rootCaps are what a root server needs to start sessions as their users and to
// map uid 0. With capSysAdmin it mounts what those users cannot walk to.
var (
	rootCaps    = []capability{{0, "CAP_CHOWN"}, {5, "CAP_KILL"}, {6, "CAP_SETGID"}, {7, "CAP_SETUID"}, {31, "CAP_SETFCAP"}}
	capSysAdmin = capability{21, "CAP_SYS_ADMIN"}
)

// lackingCaps are those of caps that CapEff of a status file leaves out
// (proc_pid_status(5)).
func lackingCaps(status string, caps []capability) []string {
	var lacking []string
	for line := range strings.Lines(status) {
		hex, ok := strings.CutPrefix(line, "CapEff:\t")
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			return nil
		}
		for _, c := range caps {
			if set&(1<<c.number) == 0 {
				lacking = append(lacking, c.name)
			}
		}
	}
	return lacking
}

// runningVersion is the kernel.org version of the running kernel, "" where
// nothing tells it.
func runningVersion() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return kernelOrg(unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]), readWord("/proc/version_signature"))
}

func readWord(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
