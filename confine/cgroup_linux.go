package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is one session's control group: a directory in each hierarchy that was
// writable and needed. It is an extra where the host lends one (root, or a
// delegated systemd slice), never a requirement.
//
// Directories are named after the server that made them, so those of a server
// that was killed are swept by the next one.
type cgroup struct {
	dirs []cgroupDir
}

// cgroupDir is the session's directory in one hierarchy.
type cgroupDir struct {
	path        string
	v2          bool
	controllers []string
}

// cgroupHeadroom is what init's own threads take from the process limit.
const cgroupHeadroom = 16

// newCgroup makes the control group of a session: for its share of the
// processors, and for those of its limits that are set, Procs (pids), Memory and
// CPU. It returns what could not be had, one
// sentence each; a nil cgroup means nothing could, and nothing was made. The
// error is for a name that is no plain file name.
func newCgroup(name string, l Limits) (*cgroup, []string, error) {
	return hostCgroups().make(name, l)
}

// newKillCgroup makes an empty v2 group without limits, for Kill alone: it
// reaches every descendant however it hid. Nil where v2 is not writable.
func newKillCgroup(name string) (*cgroup, error) {
	return hostCgroups().makeKill(name)
}

// cgroupMaker makes groups in given hierarchies; its functions are replaced in
// tests, where a plain directory plays the file system.
type cgroupMaker struct {
	hierarchies []cgroupHierarchy
	server      string // prefix of the directories' names
	mkdir       func(string) error
	alive       func(prefix string) bool // is the server of that prefix running
}

func hostCgroups() *cgroupMaker {
	m := &cgroupMaker{
		mkdir: func(p string) error { return os.Mkdir(p, 0o755) },
		alive: cgroupServerAlive,
	}
	if self, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		m.hierarchies = mountedCgroups(string(self))
	}
	m.server = cgroupServer()
	return m
}

// mountedCgroups reads the mounts once for each place this process is moved to:
// their list is long on hosts with containers.
func mountedCgroups(self string) []cgroupHierarchy {
	known := &knownCgroups
	known.Lock()
	defer known.Unlock()
	if known.self != self {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return nil
		}
		known.self, known.hierarchies = self, cgroupHierarchies(string(mounts), self)
	}
	return known.hierarchies
}

var knownCgroups struct {
	sync.Mutex
	self        string
	hierarchies []cgroupHierarchy
}

// cgroupServer is the prefix of this server's directories.
var cgroupServer = sync.OnceValue(func() string {
	start, _ := procStartTime(os.Getpid())
	return cgroupPrefix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(start, 10)
})

// cgroupPrefix marks our directories among those of the host.
const cgroupPrefix = "mcp-sandbox-"

// cgroupWish is one limit in both dialects of the file system.
type cgroupWish struct {
	controller string
	name       string // what Has calls it
	sentence   string
	v1, v2     []cgroupSetting
}

// cgroupSetting is one value to write. An optional file may be missing (swap
// accounting is often compiled out).
type cgroupSetting struct {
	file, value string
	optional    bool
}

func cgroupWishes(l Limits) []cgroupWish {
	w := []cgroupWish{{"cpu", cgroupShare, "processors are shared process by process", nil, nil}}
	if l.Procs > 0 {
		n := strconv.Itoa(l.Procs + cgroupHeadroom)
		w = append(w, cgroupWish{"pids", "pids", "the process limit is kept by RLIMIT_NPROC alone, which does not bind uid 0",
			[]cgroupSetting{{"pids.max", n, false}}, []cgroupSetting{{"pids.max", n, false}}})
	}
	if l.Memory > 0 {
		n := strconv.FormatInt(l.Memory, 10)
		w = append(w, cgroupWish{"memory", "memory", "the memory limit is not enforced",
			// memsw must not be below limit: this order.
			[]cgroupSetting{{"memory.limit_in_bytes", n, false}, {"memory.memsw.limit_in_bytes", n, true}},
			[]cgroupSetting{{"memory.max", n, false}, {"memory.swap.max", "0", true}}})
	}
	if l.CPU > 0 {
		const period = 100_000 // microseconds, the kernel's default
		q := strconv.FormatInt(int64(math.Max(1_000, math.Round(l.CPU*period))), 10)
		w = append(w, cgroupWish{"cpu", "cpu", "the CPU limit is not enforced",
			[]cgroupSetting{{"cpu.cfs_period_us", strconv.Itoa(period), false}, {"cpu.cfs_quota_us", q, false}},
			[]cgroupSetting{{"cpu.max", q + " " + strconv.Itoa(period), false}}})
	}
	return w
}

func (m *cgroupMaker) dirName(name string) (string, error) {
	if name == "" || strings.ContainsAny(name, "/\x00\n") || name == "." || name == ".." || len(name) > 100 {
		return "", fmt.Errorf("cgroup: %q is not a plain name", name)
	}
	return m.server + "-" + name, nil
}

func (m *cgroupMaker) make(name string, l Limits) (*cgroup, []string, error) {
	dir, err := m.dirName(name)
	if err != nil {
		return nil, nil, err
	}
	c := &cgroup{}
	var missing []string
	for _, w := range cgroupWishes(l) {
		if err := m.grant(c, dir, w); err != nil {
			missing = append(missing, fmt.Sprintf("%s: %s", w.sentence, err))
		}
	}
	c.dropUnused()
	if len(c.dirs) == 0 {
		return nil, missing, nil
	}
	return c, missing, nil
}

func (m *cgroupMaker) makeKill(name string) (*cgroup, error) {
	dir, err := m.dirName(name)
	if err != nil {
		return nil, err
	}
	c := &cgroup{}
	for _, h := range m.hierarchies {
		if !h.v2 {
			continue
		}
		for _, parent := range h.parents {
			d, err := m.dirIn(c, parent, dir, true)
			if err != nil {
				continue
			}
			if _, err := os.Stat(filepath.Join(d.path, "cgroup.kill")); err != nil {
				c.dropUnused()
				return nil, errors.New("cgroup: this kernel has no cgroup.kill (Linux 5.14)")
			}
			d.controllers = append(d.controllers, "kill")
			return c, nil
		}
	}
	return nil, errors.New("cgroup: no writable v2 hierarchy")
}

// grant sets one limit in the first place that takes it: v2 before v1, since a
// controller is in one of them only.
func (m *cgroupMaker) grant(c *cgroup, dir string, w cgroupWish) error {
	reason := errors.New("no cgroup hierarchy has the " + w.controller + " controller")
	for _, h := range m.hierarchies {
		if !h.has(w.controller) {
			continue
		}
		for _, parent := range h.parents {
			if h.v2 && !listed(filepath.Join(parent, "cgroup.subtree_control"), w.controller) {
				reason = errors.New("the " + w.controller + " controller is not delegated to this process")
				continue
			}
			d, err := m.dirIn(c, parent, dir, h.v2)
			if err != nil {
				reason = errors.New("the " + w.controller + " cgroup is not writable (" + errnoText(err) + ")")
				continue
			}
			settings := w.v1
			if h.v2 {
				settings = w.v2
			}
			if err := d.write(settings); err != nil {
				reason = errors.New("the " + w.controller + " cgroup refused the value (" + errnoText(err) + ")")
				continue
			}
			d.controllers = append(d.controllers, w.name)
			return nil
		}
	}
	return reason
}

// dirIn gives the session's directory below parent, making it when needed. A
// directory of ours can only be empty and new: the name holds this server's pid
// and start time, so an existing one is a mistake.
func (m *cgroupMaker) dirIn(c *cgroup, parent, dir string, v2 bool) (*cgroupDir, error) {
	path := filepath.Join(parent, dir)
	for i := range c.dirs {
		if c.dirs[i].path == path {
			return &c.dirs[i], nil
		}
	}
	m.sweep(parent)
	if err := m.mkdir(path); err != nil {
		return nil, err
	}
	// A directory nobody can be moved into is of no use: moving needs write
	// access here and at the common ancestor, and the latter shows only in Add.
	c.dirs = append(c.dirs, cgroupDir{path: path, v2: v2})
	return &c.dirs[len(c.dirs)-1], nil
}

// sweep removes directories of servers that are gone. A populated one answers
// EBUSY, so nothing that runs can be hurt.
func (m *cgroupMaker) sweep(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), cgroupPrefix) && !strings.HasPrefix(e.Name(), m.server+"-") && !m.alive(e.Name()) {
			syscall.Rmdir(filepath.Join(parent, e.Name()))
		}
	}
}

// cgroupServerAlive says whether the server that named a directory still runs.
func cgroupServerAlive(name string) bool {
	pid, rest, ok := strings.Cut(strings.TrimPrefix(name, cgroupPrefix), "-")
	start, _, ok2 := strings.Cut(rest, "-")
	n, err := strconv.Atoi(pid)
	want, err2 := strconv.ParseUint(start, 10, 64)
	if !ok || !ok2 || err != nil || err2 != nil {
		return true // not a name this version makes
	}
	got, err := procStartTime(n)
	return err == nil && got == want
}

// procStartTime is field 22 of /proc/PID/stat (proc_pid_stat(5)): with the pid
// it names a process for good.
func procStartTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything, so count from the last one.
	i := strings.LastIndexByte(string(b), ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return 0, errors.New("malformed stat line")
	}
	return strconv.ParseUint(f[19], 10, 64)
}

func (d *cgroupDir) write(settings []cgroupSetting) error {
	for _, s := range settings {
		err := writeCgroupFile(filepath.Join(d.path, s.file), s.value)
		if err != nil && !(s.optional && errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

func writeCgroupFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// listed says whether a space-separated file holds word.
func listed(path, word string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for _, f := range strings.Fields(string(b)) {
		if f == word {
			return true
		}
	}
	return false
}

// dropUnused removes directories in which no limit was accepted.
func (c *cgroup) dropUnused() {
	kept := c.dirs[:0]
	for _, d := range c.dirs {
		if len(d.controllers) == 0 {
			syscall.Rmdir(d.path)
			continue
		}
		kept = append(kept, d)
	}
	c.dirs = kept
}

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

// Add moves a process, with what it starts from now on, into the group. Add
// init before it starts anything.
func (c *cgroup) Add(pid int) error {
	if c == nil {
		return nil
	}
	return addToCgroups(c.dirs, pid)
}

func addToCgroups(dirs []cgroupDir, pid int) error {
	for _, d := range dirs {
		if err := writeCgroupFile(filepath.Join(d.path, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("cgroup: cannot move the session into its group: %w", err)
		}
	}
	return nil
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

// Kill sends SIGKILL to all members until none is left or the time Remove
// allows has passed. It is safe against forking: v2 kills the group as one, in
// v1 the loop outruns only a fork bomb below its pids limit.
func (c *cgroup) Kill() {
	if c == nil {
		return
	}
	deadline := time.Now().Add(cgroupPatience)
	for _, d := range c.dirs {
		for time.Now().Before(deadline) {
			if d.v2 && writeCgroupFile(filepath.Join(d.path, "cgroup.kill"), "1") == nil {
				break
			}
			pids := d.members()
			if len(pids) == 0 {
				break
			}
			for _, p := range pids {
				syscall.Kill(p, syscall.SIGKILL)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func (d *cgroupDir) members() []int {
	b, err := os.ReadFile(filepath.Join(d.path, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		// 0 is a process of a pid namespace that is not ours to see, and as a
		// target of kill(2) it would be this very process group.
		if p, err := strconv.Atoi(f); err == nil && p > 0 {
			pids = append(pids, p)
		}
	}
	return pids
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

// OOMKills is how often the kernel killed a member for the memory limit. It is
// 0 without a memory limit.
func (c *cgroup) OOMKills() (int, error) {
	if !c.Has("memory") {
		return 0, nil
	}
	for _, d := range c.dirs {
		for _, k := range d.controllers {
			if k != "memory" {
				continue
			}
			file := "memory.oom_control" // v1, since Linux 4.13
			if d.v2 {
				file = "memory.events"
			}
			b, err := os.ReadFile(filepath.Join(d.path, file))
			if err != nil {
				return 0, fmt.Errorf("cgroup: cannot read the out-of-memory count: %w", err)
			}
			return cgroupCount(string(b), "oom_kill")
		}
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
