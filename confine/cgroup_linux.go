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
	"syscall"
	"time"

	"mcp-sandbox/sandbox"
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
// CPU. It returns what was unavailable, one
// sentence each; a nil cgroup means nothing could, and nothing was made. The
// error is for a name that is not a plain file name.
func newCgroup(name string, l sandbox.Limits) (*cgroup, []string, error) {
	return hostCgroups().make(name, l)
}

// cgroupMaker makes groups in given hierarchies; its functions are replaced in
// tests, where a plain directory plays the file system.
type cgroupMaker struct {
	hierarchies []cgroupHierarchy
	server      string // prefix of the directories' names
	mkdir       func(string) error
	alive       func(prefix string) bool // is the server of that prefix running
	delegated   func(dir string) bool    // is this group ours to set up

	sweptMu sync.Mutex
	swept   map[string]time.Time // by parent, see sweep
}

func hostCgroups() *cgroupMaker {
	m := &cgroupMaker{
		mkdir:     func(p string) error { return os.Mkdir(p, 0o755) },
		alive:     cgroupServerAlive,
		delegated: cgroupDelegated,
	}
	moveBelow()
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

const shareSentence = "CPU time is shared per process"

func cgroupWishes(l sandbox.Limits) []cgroupWish {
	w := []cgroupWish{{"cpu", cgroupShare, shareSentence, nil, nil}}
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

func (m *cgroupMaker) make(name string, l sandbox.Limits) (*cgroup, []string, error) {
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

// grant sets one limit in the first place that takes it: v2 before v1, since a
// controller is in one of them only.
func (m *cgroupMaker) grant(c *cgroup, dir string, w cgroupWish) error {
	reason := errors.New("no cgroup hierarchy has the " + w.controller + " controller")
	for _, h := range m.hierarchies {
		if !h.has(w.controller) {
			continue
		}
		for _, parent := range h.parents {
			if h.v2 && !m.lends(parent, w.controller) {
				reason = errors.New("the " + w.controller + " controller is not delegated to this process")
				continue
			}
			d, err := m.dirIn(c, parent, dir, h.v2)
			if err != nil {
				reason = errors.New("the " + w.controller + " cgroup is " + version(h.v2) + "not writable (" + errnoText(err) + ")")
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

// version names the one that systemd lends to no unit of an ordinary user.
func version(v2 bool) string {
	if v2 {
		return ""
	}
	return "of version 1, which systemd leaves to root, and "
}

// dirIn gives the session's directory below parent, making it when needed. A
// directory of this server can only be empty and new: the name holds this server's pid
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
	// Below a group that has both processes and controllers for threads, a new one
	// is "domain invalid" and takes no process (cgroups(7)).
	if kind, err := os.ReadFile(filepath.Join(path, "cgroup.type")); err == nil && strings.TrimSpace(string(kind)) != "domain" {
		syscall.Rmdir(path)
		return nil, syscall.EOPNOTSUPP
	}
	// A directory nobody can be moved into is of no use: moving needs write
	// access here and at the common ancestor, and the latter shows only in add.
	c.dirs = append(c.dirs, cgroupDir{path: path, v2: v2})
	return &c.dirs[len(c.dirs)-1], nil
}

// sweepGroups is how often a parent is looked through: with a thousand sessions each
// new one would list a thousand directories.
const sweepGroups = 10 * time.Second

// sweep removes directories of servers that are gone. A populated one answers
// EBUSY, so nothing that runs can be hurt.
func (m *cgroupMaker) sweep(parent string) {
	m.sweptMu.Lock()
	again := time.Since(m.swept[parent]) > sweepGroups
	if again && m.swept == nil {
		m.swept = map[string]time.Time{}
	}
	if again {
		m.swept[parent] = time.Now()
	}
	m.sweptMu.Unlock()
	if !again {
		return
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	alive := map[string]bool{} // a server has a directory for each of its sessions
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), cgroupPrefix) || strings.HasPrefix(e.Name(), m.server+"-") {
			continue
		}
		server := e.Name()[:strings.LastIndexByte(e.Name(), '-')]
		if _, asked := alive[server]; !asked {
			alive[server] = m.alive(e.Name())
		}
		if !alive[server] {
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
