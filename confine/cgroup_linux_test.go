package confine

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

func TestCgroupHierarchies(t *testing.T) {
	const (
		v2mount   = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
		dockerNoN = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
		hybrid    = "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n" +
			"32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
			"33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n" +
			"34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	)
	for _, c := range []struct {
		name, mounts, self string
		want               []cgroupHierarchy
	}{
		{"systemd user", v2mount, "0::/user.slice/u.service/app.slice/x.scope\n", []cgroupHierarchy{
			{v2: true, parents: []string{"/sys/fs/cgroup/user.slice/u.service/app.slice/x.scope", "/sys/fs/cgroup/user.slice/u.service/app.slice"}}}},
		{"container with its own namespace", v2mount, "0::/\n", []cgroupHierarchy{{v2: true, parents: []string{"/sys/fs/cgroup"}}}},
		{"container without", dockerNoN, "0::/docker/abc/y\n", []cgroupHierarchy{{v2: true, parents: []string{"/sys/fs/cgroup/y", "/sys/fs/cgroup"}}}},
		{"not in what is mounted", dockerNoN, "0::/docker/other\n", nil},
		{"prefix is not beneath", dockerNoN, "0::/docker/abcd\n", nil},
		{"above the namespace", v2mount, "0::/../x\n", nil},
		{"hybrid", hybrid, "4:memory:/a\n3:cpu,cpuacct:/\n1:name=systemd:/b\n0::/c\n", []cgroupHierarchy{
			{v2: true, parents: []string{"/sys/fs/cgroup/unified/c", "/sys/fs/cgroup/unified"}},
			{controllers: []string{"cpu", "cpuacct"}, parents: []string{"/sys/fs/cgroup/cpu"}},
			{controllers: []string{"memory"}, parents: []string{"/sys/fs/cgroup/memory/a"}},
			{controllers: []string{"name=systemd"}, parents: []string{"/sys/fs/cgroup/systemd/b"}}}},
		{"none", "", "", nil},
		{"garbage", "a b\n - \nx - cgroup2\n", "::\nfoo\n", nil},
		{"a space in the path", "30 23 0:26 / /mnt/c\\040g rw - cgroup2 cgroup2 rw\n", "0::/\n", []cgroupHierarchy{{v2: true, parents: []string{"/mnt/c g"}}}},
	} {
		if got := cgroupHierarchies(c.mounts, c.self); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

// Whatever /proc says, no directory outside of a mount is ever named.
func FuzzCgroupHierarchies(f *testing.F) {
	f.Add("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/a/b\n")
	f.Add("30 23 0:26 /x /sys/fs/cgroup rw - cgroup cgroup rw,pids\n", "3:pids:/x/../../y\n0::/\n")
	f.Add("30 23 0:26 /../z /m rw - cgroup2 c rw\n", "0::/../z\n")
	f.Fuzz(func(t *testing.T, mounts, self string) {
		for _, h := range cgroupHierarchies(mounts, self) {
			for _, p := range h.parents {
				point := slices.ContainsFunc(strings.Split(mounts, "\n"), func(line string) bool {
					f := strings.Fields(line)
					return len(f) > 4 && within(p, filepath.Clean(unescapeMount(f[4])))
				})
				if !point {
					t.Errorf("%q lies in no mount", p)
				}
			}
		}
	})
}

// fakeCgroupFS lets a plain directory play a hierarchy: mkdir fills a new group
// with the files of its controllers.
func fakeCgroupFS(t *testing.T, v2 bool, subtree string, files ...string) (*cgroupMaker, string) {
	root := t.TempDir()
	if v2 {
		os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte(subtree), 0o644)
	}
	h := cgroupHierarchy{v2: v2, parents: []string{root}}
	if !v2 {
		h.controllers = []string{"pids", "memory", "cpu"}
	}
	return &cgroupMaker{hierarchies: []cgroupHierarchy{h}, server: cgroupPrefix + "1-2", alive: func(string) bool { return true },
		mkdir: func(p string) error {
			if err := os.Mkdir(p, 0o755); err != nil {
				return err
			}
			for _, f := range files {
				if err := os.WriteFile(filepath.Join(p, f), nil, 0o644); err != nil {
					return err
				}
			}
			return nil
		}}, root
}

func TestCgroupSettings(t *testing.T) {
	limits := sandbox.Limits{Procs: 100, Memory: 1 << 20, CPU: 1.5}
	for _, c := range []struct {
		name    string
		v2      bool
		subtree string
		files   []string
		want    map[string]string
		missing int
	}{
		{"v2", true, "cpu memory pids", []string{"pids.max", "memory.max", "memory.swap.max", "cpu.max", "cgroup.procs"},
			map[string]string{"pids.max": "116", "memory.max": "1048576", "memory.swap.max": "0", "cpu.max": "150000 100000"}, 0},
		{"v2 without swap accounting", true, "memory pids", []string{"pids.max", "memory.max", "cgroup.procs"},
			map[string]string{"pids.max": "116", "memory.max": "1048576"}, 2},
		{"v1", false, "", []string{"pids.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cgroup.procs"},
			map[string]string{"pids.max": "116", "memory.limit_in_bytes": "1048576", "memory.memsw.limit_in_bytes": "1048576", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"}, 0},
		{"nothing delegated", true, "", []string{"cgroup.procs"}, nil, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, root := fakeCgroupFS(t, c.v2, c.subtree, c.files...)
			g, missing, err := m.make("s", limits)
			if err != nil {
				t.Fatal(err)
			}
			if len(missing) != c.missing {
				t.Errorf("missing %q, want %d", missing, c.missing)
			}
			for _, s := range missing {
				if strings.Contains(s, root) {
					t.Errorf("%q names a host path", s)
				}
			}
			if c.want == nil {
				if e, _ := os.ReadDir(root); g != nil || slices.ContainsFunc(e, os.DirEntry.IsDir) {
					t.Error("something was made where nothing can be limited")
				}
				return
			}
			for f, v := range c.want {
				if b, err := os.ReadFile(filepath.Join(g.dirs[0].path, f)); err != nil || string(b) != v {
					t.Errorf("%s: %q (%v), want %q", f, b, err, v)
				}
			}
			if err := g.add(g.dirs, 4711); err != nil {
				t.Error(err)
			}
			if b, _ := os.ReadFile(filepath.Join(g.dirs[0].path, "cgroup.procs")); string(b) != "4711" {
				t.Errorf("cgroup.procs: %q", b)
			}
		})
	}
}

// TestCgroupNotWritable: a limit that is unavailable says whether version 1 of control groups
// is why.
func TestCgroupNotWritable(t *testing.T) {
	for _, v2 := range []bool{false, true} {
		m, _ := fakeCgroupFS(t, v2, "pids memory cpu")
		m.mkdir = func(string) error { return unix.EACCES }
		_, missing, _ := m.make("s", sandbox.Limits{Memory: 1 << 20})
		if s := strings.Join(missing, "\n"); !strings.Contains(s, "not writable (permission denied)") || strings.Contains(s, "of version 1") == v2 {
			t.Errorf("version 2 %t: %q", v2, s)
		}
	}
}

func TestCgroupRefusesNames(t *testing.T) {
	m, _ := fakeCgroupFS(t, true, "pids", "pids.max")
	for _, n := range []string{"", "..", "a/b", "a\x00", "a\nb", strings.Repeat("x", 200)} {
		if _, _, err := m.make(n, sandbox.Limits{Procs: 1}); err == nil {
			t.Errorf("%q accepted", n)
		}
	}
}

// AC-46: what a killed server left is swept by the next.
func TestCgroupSweep(t *testing.T) {
	m, root := fakeCgroupFS(t, true, "pids", "pids.max", "cgroup.procs")
	m.alive = cgroupServerAlive
	self, err := procStartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	keep := []string{fmt.Sprintf("%s%d-%d-other", cgroupPrefix, os.Getpid(), self), cgroupPrefix + "notours", "user.slice"}
	gone := []string{fmt.Sprintf("%s%d-%d-x", cgroupPrefix, os.Getpid(), self+1), cgroupPrefix + "4194304-1-y"}
	for _, n := range append(slices.Clone(keep), gone...) {
		if err := os.Mkdir(filepath.Join(root, n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := m.make("s", sandbox.Limits{Procs: 1}); err != nil {
		t.Fatal(err)
	}
	for _, n := range keep {
		if _, err := os.Stat(filepath.Join(root, n)); err != nil {
			t.Errorf("%s was removed", n)
		}
	}
	for _, n := range gone {
		if _, err := os.Stat(filepath.Join(root, n)); err == nil {
			t.Errorf("%s is still there", n)
		}
	}
}

func TestCgroupCount(t *testing.T) {
	if n, err := cgroupCount("low 0\noom 3\noom_kill 2\noom_group_kill 9\n", "oom_kill"); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := cgroupCount("oom_kill_disable 0\nunder_oom 0\n", "oom_kill"); err == nil {
		t.Error("a missing line counted")
	}
}

// ourCgroups lists every directory of this test process in all hierarchies.
func ourCgroups(t *testing.T) []string {
	t.Helper()
	var out []string
	m := hostCgroups()
	for _, h := range m.hierarchies {
		for _, p := range h.parents {
			got, _ := filepath.Glob(filepath.Join(p, m.server+"-*"))
			out = append(out, got...)
		}
	}
	return out
}

// startIdle starts a shell that reads commands from its standard input.
func startIdle(t *testing.T) (*exec.Cmd, func(string)) {
	t.Helper()
	cmd := exec.Command("/bin/sh")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	return cmd, func(s string) { fmt.Fprintln(in, s) }
}

// AC-47: a fork bomb and a memory hog stop at the limit, on the host's own
// cgroups where they are writable; where not, nothing is made and the reason is
// told.
func TestCgroupLive(t *testing.T) {
	limits := sandbox.Limits{Procs: 40, Memory: 64 << 20, CPU: 1}
	g, missing, err := newCgroup("live", limits)
	if err != nil {
		t.Fatal(err)
	}
	if g == nil {
		if len(missing) != 4 {
			t.Errorf("no group, but the reasons are %q", missing)
		}
		if left := ourCgroups(t); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		t.Logf("no writable cgroup here: %q", missing)
		return
	}
	defer func() {
		killMembers(g)
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		if err := g.Remove(); err != nil {
			t.Errorf("a second removal: %v", err)
		}
		if left := ourCgroups(t); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}()
	cmd, say := startIdle(t)
	if err := g.add(g.dirs, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if g.Has("memory") {
		if n, err := g.OOMKills(); n != 0 || err != nil {
			t.Errorf("before: %d kills, %v", n, err)
		}
		// The shell survives the child the kernel picks.
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		hog, sayHog := startIdleWith(t, w)
		w.Close()
		if err := g.add(g.dirs, hog.Process.Pid); err != nil {
			t.Fatal(err)
		}
		sayHog(`x=$(head -c 200000000 /dev/zero | tr '\0' a); echo done`)
		sayHog("exit 0")
		bufio.NewReader(r).ReadString('\n')
		hog.Wait()
		if n, err := g.OOMKills(); n == 0 || err != nil {
			t.Errorf("after 200 MB under a limit of 64: %d kills, %v", n, err)
		}
	}
	if g.Has("pids") {
		say("i=0; while [ $i -lt 200 ]; do sleep 600 & i=$((i+1)); done")
		max := 0
		waitUntil(t, "the group is full", func() bool {
			for _, d := range g.dirs {
				if slices.Contains(d.controllers, "pids") {
					max = len(d.members())
				}
			}
			return max >= limits.Procs
		})
		if max > limits.Procs+cgroupHeadroom {
			t.Errorf("%d processes, the limit is %d", max, limits.Procs+cgroupHeadroom)
		}
	}
}

func startIdleWith(t *testing.T, out *os.File) (*exec.Cmd, func(string)) {
	t.Helper()
	cmd := exec.Command("/bin/sh")
	cmd.Stdout = out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	return cmd, func(s string) { fmt.Fprintln(in, s) }
}

// killMembers ends what the test put into c.
func killMembers(c *cgroup) {
	for _, d := range c.dirs {
		for _, p := range d.members() {
			syscall.Kill(p, syscall.SIGKILL)
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
