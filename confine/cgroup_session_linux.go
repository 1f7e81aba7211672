package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Has says whether a limit ("pids", "memory", "cpu") or cgroupShare is enforced
// by c.
func (c *cgroup) Has(controller string) bool {
	if c == nil {
		return false
	}
	for _, d := range c.dirs {
		for _, k := range d.controllers {
			if k == controller {
				return true
			}
		}
	}
	return false
}

// add moves a process, with what it starts from now on, into groups of c. Init is
// moved before it starts anything. A group it cannot be moved into is removed, and
// its limits are none that c has.
func (c *cgroup) add(dirs []cgroupDir, pid int) error {
	var errs []error
	for _, d := range dirs {
		err := writeCgroupFile(filepath.Join(d.path, "cgroup.procs"), strconv.Itoa(pid))
		if err == nil {
			continue
		}
		errs = append(errs, fmt.Errorf("cgroup: cannot move the session into its group: %w", err))
		syscall.Rmdir(d.path)
		c.dirs = slices.DeleteFunc(c.dirs, func(o cgroupDir) bool { return o.path == d.path })
	}
	return errors.Join(errs...)
}

// cloneOutside is set once clone3(2) with CLONE_INTO_CGROUP has been refused.
var cloneOutside atomic.Bool

// forkInside calls fork, on a locked thread, in such a way that the child is
// born in the group, and returns the directories it could not be born in. Moving
// a process that exists waits for a grace period of the kernel, which is
// milliseconds.
//
// In v2 clone3(2) does it, so attr is changed. In v1, where threads of a process
// may be in different groups, the calling thread enters for the time of the
// fork; a thread that moves itself waits for nobody (Linux 5.15).
func (c *cgroup) forkInside(attr *syscall.SysProcAttr, fork func()) (outside []cgroupDir) {
	if c == nil {
		fork()
		return nil
	}
	for _, d := range c.dirs {
		if d.v2 && !attr.UseCgroupFD && !cloneOutside.Load() {
			fd, err := syscall.Open(d.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err == nil {
				defer syscall.Close(fd)
				attr.UseCgroupFD, attr.CgroupFD = true, fd
				continue
			}
		}
		home := filepath.Join(filepath.Dir(d.path), "tasks")
		// Only where there is a way back.
		if d.v2 || unix.Access(home, unix.W_OK) != nil || writeCgroupFile(filepath.Join(d.path, "tasks"), "0") != nil {
			outside = append(outside, d)
			continue
		}
		defer writeCgroupFile(home, "0")
	}
	fork()
	return outside
}

// enterable gives the directories of c where a thread can be for the time of a fork; not
// ok where it is not all of them.
func (c *cgroup) enterable() (dirs []string, ok bool) {
	if c == nil {
		return nil, true
	}
	for _, d := range c.dirs {
		if d.v2 || unix.Access(filepath.Join(filepath.Dir(d.path), "tasks"), unix.W_OK) != nil {
			return nil, false
		}
		dirs = append(dirs, d.path)
	}
	return dirs, true
}

// cgroupPatience bounds the wait for killed processes to leave a group.
const cgroupPatience = 5 * time.Second

// Remove removes the group's directories. Members must be dead or dying; it
// waits for them and fails when they stay. Calling it again is harmless.
func (c *cgroup) Remove() error {
	if c == nil {
		return nil
	}
	deadline := time.Now().Add(cgroupPatience)
	var errs []error
	left := c.dirs[:0]
	for _, d := range c.dirs {
		err := syscall.Rmdir(d.path)
		for pause := time.Millisecond; err == syscall.EBUSY && time.Now().Before(deadline); pause = min(2*pause, 50*time.Millisecond) {
			time.Sleep(pause)
			err = syscall.Rmdir(d.path)
		}
		if err != nil && err != syscall.ENOENT {
			errs = append(errs, fmt.Errorf("cgroup: a group of this session cannot be removed: %w", err))
			left = append(left, d)
		}
	}
	c.dirs = left
	return errors.Join(errs...)
}

// kill kills whatever is in the group, until nothing is.
func (c *cgroup) kill() error {
	if c == nil {
		return nil
	}
	deadline := time.Now().Add(cgroupPatience)
	for _, d := range c.dirs {
		// Linux 5.14, v2 alone: all at once.
		if d.v2 && writeCgroupFile(filepath.Join(d.path, "cgroup.kill"), "1") == nil {
			return nil
		}
		for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
			pids, err := cgroupMembers(d.path)
			if err != nil || len(pids) == 0 {
				break
			}
			for _, pid := range pids {
				killMember(d.path, pid)
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("cgroup: %d processes stay", len(pids))
			}
			time.Sleep(pause)
		}
	}
	return nil
}

func cgroupMembers(dir string) ([]int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// killMember kills a process that is still in the group once a descriptor holds
// it: the number alone may be another's by then.
func killMember(dir string, pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if pids, err := cgroupMembers(dir); err == nil && slices.Contains(pids, pid) {
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// OOMKills is how often the kernel killed a member for the memory limit. It is
// 0 without a memory limit.
func (c *cgroup) OOMKills() (int, error) {
	if !c.Has("memory") {
		return 0, nil
	}
	return c.count("memory", "memory.events", "memory.oom_control", "oom_kill") // v1 since Linux 4.13
}

// forksRefused is how often a member could not fork for the limit of processes.
func (c *cgroup) forksRefused() (int, error) {
	if !c.Has("pids") {
		return 0, errors.New("cgroup: no limit of processes")
	}
	return c.count("pids", "pids.events", "pids.events", "max")
}

// count reads a number of a controller's events.
func (c *cgroup) count(controller, v2, v1, name string) (int, error) {
	for _, d := range c.dirs {
		if !slices.Contains(d.controllers, controller) {
			continue
		}
		file := v1
		if d.v2 {
			file = v2
		}
		b, err := os.ReadFile(filepath.Join(d.path, file))
		if err != nil {
			return 0, fmt.Errorf("cgroup: cannot read the events of %s: %w", controller, err)
		}
		return cgroupCount(string(b), name)
	}
	return 0, nil
}

// cgroupCount reads one "name number" line of a flat keyed file.
func cgroupCount(text, name string) (int, error) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.Atoi(strings.TrimSpace(v))
		}
	}
	return 0, fmt.Errorf("cgroup: no %s line", name)
}
