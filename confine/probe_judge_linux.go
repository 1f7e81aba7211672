package confine

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// judge turns the errnos of the probing child into capabilities with a reason
// and a remedy. It is pure except for the Landlock ABI number.
func (c *Capabilities) judge(steps map[string]unix.Errno, h hostFacts) {
	c.Namespaces = judgeNamespaces(steps, h)
	c.FreshProc = judgeProc(steps, h, c.Namespaces)
	c.Landlock = judgeLandlock(steps, h)
	if c.Landlock.OK {
		c.LandlockABI = landlockABI()
	}
	c.Seccomp = judgeSeccomp(steps, h)
}

// Remedies, one sentence each.
const (
	remedyMaxUserNS = "as root: sysctl -w user.max_user_namespaces=15000, and the same in a file of /etc/sysctl.d"
	remedyClone     = "as root: sysctl -w kernel.unprivileged_userns_clone=1, and the same in a file of /etc/sysctl.d"
	remedyAppArmor  = "install the AppArmor profile packaging/apparmor/mcp-sandbox with apparmor_parser -r, it allows user namespaces to this program alone"
	remedyDocker    = "start the container with the seccomp profile of docs/docker.md, or with --security-opt seccomp=unconfined"
	remedyProc      = "start the container with --security-opt systempaths=unconfined (Docker) or --security-opt unmask=ALL (Podman)"
	remedyMemory    = "free memory and processes, and with vm.overcommit_memory=2 raise vm.overcommit_ratio"
	remedyRootCaps  = "run the server, or its container (--user), as an ordinary user, or leave root its capabilities"
	remedyKernel    = "use a kernel with CONFIG_USER_NS, 5.12 or newer"
	remedyLSM       = "add landlock to the lsm= list of the kernel command line"
	remedyNewer     = "use Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK"
)

// judgeNamespaces explains why a child in new namespaces did not start or could
// not build its file system. The kernel answers EPERM for four different
// switches, so the order matters: the one that is certain comes first.
func judgeNamespaces(steps map[string]unix.Errno, h hostFacts) Support {
	e, failed := steps[stepClone]
	step := "a user namespace"
	if !failed {
		for _, s := range []struct{ name, what string }{
			{stepMounts, "a mount in a user namespace"},
			{stepTree, "a copy of the file tree in a user namespace"},
			{stepTerminal, "a terminal file system in a user namespace"},
			{stepLoopback, "the loopback interface of a network namespace"},
		} {
			n, tried := steps[s.name]
			if !tried {
				return Support{Reason: "the probing child gave no answer", Remedy: "report this as a bug"}
			}
			if n != 0 {
				e, failed, step = n, true, s.what
				break
			}
		}
	}
	if !failed {
		return Support{OK: true}
	}
	refused := e == unix.EPERM || e == unix.EACCES
	atClone := step == "a user namespace"
	switch {
	case h.maxUserNamespaces == 0 || e == unix.ENOSPC && h.maxUserNamespaces < 0:
		return Support{Reason: "the host allows no user namespaces: user.max_user_namespaces is 0", Remedy: remedyMaxUserNS}
	case e == unix.ENOSPC && len(h.zeroLimits) > 0:
		name := h.zeroLimits[0]
		return Support{Reason: "the host allows none of the namespaces a session needs: " + name + " is 0", Remedy: "as root: sysctl -w " + name + "=15000, and the same in a file of /etc/sysctl.d"}
	case e == unix.ENOSPC:
		return Support{Reason: fmt.Sprintf("a limit of namespaces is used up, here or in a namespace around: user.max_user_namespaces is %d, others are in /proc/sys/user", h.maxUserNamespaces), Remedy: remedyMaxUserNS}
	case e == unix.ENOMEM || e == unix.EAGAIN:
		return Support{Reason: fmt.Sprintf("%s could not be tried: the kernel had no memory or process to spare (%v)", step, e), Remedy: remedyMemory}
	case h.noProc:
		return Support{Reason: "/proc is not mounted where the server runs", Remedy: "mount it: mount -t proc proc /proc"}
	case e == unix.EUSERS:
		return Support{Reason: "user namespaces are nested too deep (32 is the kernel's limit)", Remedy: "run the server outside of nested containers"}
	case e == unix.ENOSYS && h.kernel != [3]int{} && versionLess(h.kernel, [3]int{5, 12, 0}):
		return Support{Reason: fmt.Sprintf("Linux 5.12 or newer is needed for the mounts of a session, this is %d.%d", h.kernel[0], h.kernel[1]), Remedy: remedyKernel}
	case refused && h.cloneOff && !h.root:
		return Support{Reason: "the host keeps user namespaces from ordinary users: kernel.unprivileged_userns_clone is 0", Remedy: remedyClone}
	case refused && h.appArmor && !h.root && h.profile == "":
		return Support{Reason: "AppArmor keeps user namespaces from programs without a profile: kernel.apparmor_restrict_unprivileged_userns is 1", Remedy: remedyAppArmor}
	case refused && len(h.lacking) > 0:
		return Support{Reason: "the server is root without " + strings.Join(h.lacking, ", ") + ", so it can start no session as another user", Remedy: remedyRootCaps}
	case refused && h.cloneFiltered:
		return Support{Reason: "a seccomp filter around the server refuses user namespaces, as the default profile of Docker does", Remedy: remedyDocker}
	case refused && h.profile != "" && (e == unix.EACCES || atClone || !h.filtered):
		return Support{Reason: fmt.Sprintf("the AppArmor profile %q around the server refuses %s", h.profile, step), Remedy: "start the container with --security-opt apparmor=unconfined, or allow userns and mount in that profile"}
	case e == unix.EACCES && atClone:
		return Support{Reason: "a security module refuses user namespaces to the server", Remedy: "look at the kernel's log for the module and its rule"}
	case refused && h.filtered && !atClone:
		return Support{Reason: "a seccomp filter around the server refuses " + step, Remedy: remedyDocker}
	case refused && h.container:
		return Support{Reason: "the container around the server refuses user namespaces", Remedy: remedyDocker}
	case refused:
		return Support{Reason: fmt.Sprintf("%s was refused (%v), by a security module, a chroot or a filter around the server", step, e), Remedy: "run the server outside of a chroot and look at the security module's log"}
	case e == unix.EINVAL || e == unix.ENOSYS || e == unix.ENODEV:
		return Support{Reason: fmt.Sprintf("the kernel lacks what is needed for %s (%v)", step, e), Remedy: remedyKernel}
	}
	return Support{Reason: fmt.Sprintf("%s failed (%v)", step, e), Remedy: "run the server outside of a container and look at the kernel log"}
}

// untried is a layer that no child could try.
func untried(layer string, steps map[string]unix.Errno, h hostFacts) Support {
	e, ok := steps[stepChild]
	switch {
	case h.noProc:
		return Support{Reason: layer + " could not be tried: /proc is not mounted where the server runs", Remedy: "mount it: mount -t proc proc /proc"}
	case ok:
		return Support{Reason: fmt.Sprintf("%s could not be tried: the child that tries it did not start (%v)", layer, e), Remedy: remedyMemory}
	}
	return Support{Reason: layer + " could not be tried", Remedy: "report this as a bug"}
}

func judgeProc(steps map[string]unix.Errno, h hostFacts, ns Support) Support {
	e, tried := steps[stepProc]
	switch {
	case tried && e == 0:
		return Support{OK: true}
	case !ns.OK:
		return Support{Reason: "a /proc of its own needs namespaces", Remedy: ns.Remedy}
	case e == unix.EPERM || e == unix.EACCES:
		return Support{Reason: "parts of the host's /proc are masked, as containers do, so the kernel refuses a fresh one", Remedy: remedyProc}
	}
	return Support{Reason: fmt.Sprintf("a fresh /proc cannot be mounted (%v)", e), Remedy: remedyProc}
}

func judgeLandlock(steps map[string]unix.Errno, h hostFacts) Support {
	e, tried := steps[stepLandlock]
	switch {
	case !tried:
		return untried("Landlock", steps, h)
	case e == 0:
		return Support{OK: true}
	case e == unix.EOPNOTSUPP:
		return Support{Reason: "the kernel has Landlock and it is not turned on", Remedy: remedyLSM}
	case e == unix.ENOSYS && h.lsm != "" && slices.Contains(strings.Split(h.lsm, ","), "landlock"):
		return Support{Reason: "a seccomp filter around the server hides Landlock", Remedy: remedyDocker}
	case e == unix.ENOSYS:
		return Support{Reason: "the kernel has no Landlock", Remedy: remedyNewer}
	case e == unix.EPERM:
		return Support{Reason: "a seccomp filter around the server refuses Landlock", Remedy: remedyDocker}
	case e == errNotEnforced:
		return Support{Reason: "a Landlock domain was accepted and does not hold", Remedy: "use another kernel and report this"}
	}
	return Support{Reason: fmt.Sprintf("Landlock failed (%v)", e), Remedy: remedyNewer}
}

func judgeSeccomp(steps map[string]unix.Errno, h hostFacts) Support {
	e, tried := steps[stepSeccomp]
	switch {
	case !tried:
		return untried("seccomp", steps, h)
	case e == 0:
		return Support{OK: true}
	case e == unix.ENOTSUP:
		return Support{Reason: errNoSeccompArch.Error(), Remedy: "run on amd64 or arm64"}
	case e == unix.ENOSYS, e == unix.EINVAL:
		return Support{Reason: "the kernel has no seccomp filters", Remedy: "use a kernel with CONFIG_SECCOMP_FILTER"}
	case e == unix.EPERM || e == unix.EACCES:
		return Support{Reason: "a filter around the server refuses seccomp", Remedy: remedyDocker}
	case e == errNotEnforced:
		return Support{Reason: "a seccomp filter was accepted and does not hold", Remedy: "use another kernel and report this"}
	}
	return Support{Reason: fmt.Sprintf("seccomp failed (%v)", e), Remedy: "use a kernel with CONFIG_SECCOMP_FILTER"}
}
