package confine

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A group of cgroup v2 lends its controllers to its children only when its
// cgroup.subtree_control says so, and systemd leaves that file of a group it
// delegates to whom it is delegated (systemd's "Control Group APIs and
// Delegation"). It can be written only while the group itself has no process,
// so the server must be in a group below: systemd puts it there from version 254
// on (DelegateSubgroup= in the unit), and elsewhere it does so itself.

// lends says whether groups in parent can have the controller, and turns it on
// where parent is delegated. Anywhere else the file is another's: a root server
// started from a shell would change what the host's own manager set up.
func (m *cgroupMaker) lends(parent, controller string) bool {
	subtree := filepath.Join(parent, "cgroup.subtree_control")
	if listed(subtree, controller) {
		return true
	}
	if m.delegated == nil || !m.delegated(parent) || !listed(filepath.Join(parent, "cgroup.controllers"), controller) {
		return false
	}
	// With a process in it the kernel would refuse memory and lend cpu and pids to
	// threads alone, after which no group below could take a process.
	if pids, err := cgroupMembers(parent); err == nil && len(pids) > 0 {
		return false
	}
	return writeCgroupFile(subtree, "+"+controller) == nil
}

// moveBelow moves this process into a group below its own, once, where that is
// delegated to it and holds nothing else: what DelegateSubgroup= does in systemd
// 254 and newer. Until its first session the server has started nothing.
var moveBelow = sync.OnceFunc(func() {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return
	}
	for _, h := range mountedCgroups(string(self)) {
		if h.v2 && len(h.parents) > 0 {
			moveBelowIn(h.parents[0], cgroupDelegated, os.Getpid())
		}
	}
})

// moveBelowIn moves pid, and says whether it did. The group is one of this
// server's by its name, so that the next server removes it.
func moveBelowIn(dir string, delegated func(string) bool, pid int) bool {
	if !delegated(dir) {
		return false
	}
	pids, err := cgroupMembers(dir)
	if err != nil || len(pids) != 1 || pids[0] != pid {
		return false
	}
	below := filepath.Join(dir, cgroupServer()+"-server")
	if err := os.Mkdir(below, 0o755); err != nil {
		return false
	}
	if err := writeCgroupFile(filepath.Join(below, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
		syscall.Rmdir(below)
		return false
	}
	return true
}

// cgroupDelegated reads the mark that systemd leaves on what it delegates
// (since 251; the older trusted.delegate can be read by root alone).
func cgroupDelegated(dir string) bool {
	var mark [2]byte
	n, err := unix.Getxattr(dir, "user.delegate", mark[:])
	return err == nil && string(mark[:n]) == "1"
}
