package confine

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A group of cgroup v2 lends its controllers to its children only when its
// cgroup.subtree_control says so, and systemd leaves that file of a group it
// delegates to whom it is delegated (systemd's "Control Group APIs and
// Delegation"). It can be written only while the group itself has no process,
// so the server must have been put into a group below, which is what
// DelegateSubgroup= in the unit does.

// lends says whether groups in parent can have the controller, and turns it on
// where parent is delegated. Anywhere else the file is another's: a root server
// started from a shell would change what the host's own manager set up.
func (m *cgroupMaker) lends(parent, controller string) bool {
	subtree := filepath.Join(parent, "cgroup.subtree_control")
	if listed(subtree, controller) {
		return true
	}
	return m.delegated != nil && m.delegated(parent) &&
		listed(filepath.Join(parent, "cgroup.controllers"), controller) &&
		writeCgroupFile(subtree, "+"+controller) == nil
}

// cgroupDelegated reads the mark that systemd leaves on what it delegates
// (since 251; the older trusted.delegate can be read by root alone).
func cgroupDelegated(dir string) bool {
	var mark [2]byte
	n, err := unix.Getxattr(dir, "user.delegate", mark[:])
	return err == nil && string(mark[:n]) == "1"
}
