package confine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCgroupDelegated: controllers are turned on where they are there and the
// group is delegated, and nowhere else is the file written.
func TestCgroupDelegated(t *testing.T) {
	for _, c := range []struct {
		name                   string
		delegated              bool
		controllers, on, after string
		want                   bool
	}{
		{"on already", false, "memory", "cpu memory", "cpu memory", true},
		{"not delegated", false, "memory", "", "", false},
		{"delegated", true, "cpu memory", "", "+memory", true},
		{"not there", true, "cpu memory_x", "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			subtree := filepath.Join(dir, "cgroup.subtree_control")
			for file, text := range map[string]string{subtree: c.on, filepath.Join(dir, "cgroup.controllers"): c.controllers} {
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			m := &cgroupMaker{delegated: func(d string) bool { return d == dir && c.delegated }}
			if got := m.lends(dir, "memory"); got != c.want {
				t.Errorf("lends: %v", got)
			}
			if b, _ := os.ReadFile(subtree); string(b) != c.after {
				t.Errorf("written: %q", b)
			}
		})
	}
}

// TestCgroupDelegatedLive: a server in a group below a delegated one gets
// controllers, and one in the delegated group itself is refused by the kernel.
func TestCgroupDelegatedLive(t *testing.T) {
	var group, controller string
	for _, h := range hostCgroups().hierarchies {
		if !h.v2 {
			continue
		}
		for _, parent := range h.parents {
			dir := filepath.Join(parent, "delegated-"+strconv.Itoa(os.Getpid()))
			if group != "" || unix.Mkdir(dir, 0o755) != nil {
				continue
			}
			turnedOn := ""
			t.Cleanup(func() {
				if err := unix.Rmdir(dir); err != nil {
					t.Error(err)
				}
				// The kernel takes it back only when no child lends it.
				if turnedOn != "" {
					if err := writeCgroupFile(filepath.Join(parent, "cgroup.subtree_control"), "-"+turnedOn); err != nil {
						t.Error(err)
					}
				}
			})
			// In a root group nothing may have asked for any yet.
			b, _ := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
			for _, f := range strings.Fields(string(b)) {
				if !listed(filepath.Join(parent, "cgroup.subtree_control"), f) {
					if writeCgroupFile(filepath.Join(parent, "cgroup.subtree_control"), "+"+f) != nil {
						continue
					}
					turnedOn = f
				}
				group, controller = dir, f
				break
			}
		}
	}
	if group == "" {
		t.Log("no cgroup v2 here that is writable and has a controller")
		return
	}
	m := &cgroupMaker{delegated: cgroupDelegated}
	if m.lends(group, controller) {
		t.Error("a group that nobody delegated was written")
	}
	if err := unix.Setxattr(group, "user.delegate", []byte("1"), 0); err != nil {
		t.Logf("no extended attributes on this kernel's cgroups: %v", err)
		return
	}
	cmd, _ := startIdle(t)
	if err := writeCgroupFile(filepath.Join(group, "cgroup.procs"), strconv.Itoa(cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	if m.lends(group, controller) {
		t.Error("a group with a process in it lent a controller")
	}
	// What a server does by itself where its manager has not.
	if !moveBelowIn(group, cgroupDelegated, cmd.Process.Pid) {
		t.Fatal("the process was not moved")
	}
	below := filepath.Join(group, cgroupServer()+"-server")
	if pids, err := cgroupMembers(group); err != nil || len(pids) != 0 {
		t.Errorf("left in the delegated group: %v %v", pids, err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
		if err := unix.Rmdir(below); err != nil {
			t.Error(err)
		}
	}()
	if !m.lends(group, controller) || !listed(filepath.Join(group, "cgroup.subtree_control"), controller) {
		t.Error("a delegated group with its server below lent nothing")
	}
}
