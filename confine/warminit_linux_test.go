package confine

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// wait returns when the init on its way up waits.
func (s *WarmInit) wait() *initProcess {
	s.mu.Lock()
	n := s.next
	s.mu.Unlock()
	if n == nil {
		return nil
	}
	<-n.up
	return n.init
}

// descriptors counts this process's open files.
func descriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// A waiting init becomes the next session, is never used twice, and is gone with
// its descriptors and its group after Close.
func TestStandby(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		needNamespaces(t, p.Level)
		warm, err := Start(t.Context(), p) // opens what stays open, such as the program
		if err != nil {
			t.Fatal(err)
		}
		warm.Close()
		before := descriptors(t)
		sb := &WarmInit{}
		defer sb.Close()
		sb.Prepare(p)
		b := sb.wait()
		if b == nil {
			t.Fatal("nothing waits")
		}
		s, err := sb.Start(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if s.pid != b.pid {
			t.Error("the waiting init was not taken")
		}
		want(t, s, p.Workspace, "echo x > f; cat f; rm f; set -- /proc/[0-9]*; echo $#", "x\n2\n")
		next := sb.wait()
		if next == nil || next.pid == b.pid {
			t.Fatal("no new one waits")
		}
		s.Close()
		sb.Close()
		if err := unix.Kill(next.pid, 0); err != unix.ESRCH {
			t.Errorf("the waiting init lives after Close: %v", err)
		}
		if left := ourCgroups(t); len(left) > 0 {
			t.Errorf("groups left: %v", left)
		}
		eventually(t, "its descriptors are closed", func() bool { return descriptors(t) <= before })
		// A closed one starts sessions as if it were not there.
		again := startWarm(t, sb, p)
		want(t, again, p.Workspace, "echo on", "on\n")
		if sb.wait() != nil {
			t.Error("an init was started after Close")
		}
	})
}

func startWarm(t *testing.T, w *WarmInit, p sandbox.Policy) *Sandbox {
	t.Helper()
	s, err := w.Start(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// One that does not fit, that died, or that was forked before a mount of the host
// is not used.
func TestStandbyNotUsed(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, p *sandbox.Policy, b *initProcess)
		root  bool
	}{
		{"another network", func(t *testing.T, p *sandbox.Policy, b *initProcess) { p.Network = sandbox.NetworkHost }, false},
		{"other limits", func(t *testing.T, p *sandbox.Policy, b *initProcess) { p.Limits.Procs = 77 }, false},
		{"killed", func(t *testing.T, p *sandbox.Policy, b *initProcess) {
			unix.Kill(b.pid, unix.SIGKILL)
			eventually(t, "it has ended", func() bool { return b.ended() })
		}, false},
		{"mount", func(t *testing.T, p *sandbox.Policy, b *initProcess) {
			dir := t.TempDir()
			if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(dir, 0) })
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				return // only root can mount on the host
			}
			p := testPolicy(t)
			needNamespaces(t, p.Level)
			warm := &WarmInit{}
			defer warm.Close()
			warm.Prepare(p)
			b := warm.wait()
			if b == nil {
				t.Fatal("nothing waits")
			}
			c.spoil(t, &p, b)
			s := startWarm(t, warm, p)
			if s.pid == b.pid {
				t.Error("it was used")
			}
			want(t, s, p.Workspace, "echo on", "on\n")
			eventually(t, "it is gone", func() bool { return unix.Kill(b.pid, 0) == unix.ESRCH })
			s.Close()
		})
	}
}

// A mount of the host has the waiting init let go by itself: it would hold what
// is unmounted.
func TestStandbyLetsGoOfMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can mount on the host
	}
	p := testPolicy(t)
	needNamespaces(t, p.Level)
	before := descriptors(t)
	sb := &WarmInit{}
	sb.Prepare(p)
	b := sb.wait()
	if b == nil {
		t.Fatal("nothing waits")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, 0)
	eventually(t, "it is gone", func() bool { return unix.Kill(b.pid, 0) == unix.ESRCH })
	sb.Close()
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// Init is born in the session's group, and the server's thread that forks comes
// back out of it.
func TestForkedInsideGroup(t *testing.T) {
	p := testPolicy(t)
	p.Limits.Memory, p.Limits.BestEffort = 64<<20, true
	s := start(t, p)
	for _, d := range s.cgroup.list() {
		in := false
		for _, m := range d.members() {
			in = in || m == s.pid
		}
		if !in {
			t.Errorf("init is not in its %v group", d.controllers)
		}
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range threads {
		if b, _ := os.ReadFile("/proc/self/task/" + th.Name() + "/cgroup"); strings.Contains(string(b), cgroupPrefix) {
			t.Errorf("thread %s of the server is in a session's group", th.Name())
		}
	}
	if s.cgroup.Has(cgroupShare) != hasLayer(s.Report(), layerShare, sandbox.StateOn) {
		t.Errorf("the report does not say whether the session has its share: %+v", s.Report().Layers)
	}
}

// list is c's directories; a nil group has none.
func (c *cgroup) list() []cgroupDir {
	if c == nil {
		return nil
	}
	return c.dirs
}

func hasLayer(r sandbox.Report, name, state string) bool {
	for _, l := range r.Layers {
		if l.Name == name && l.State == state {
			return true
		}
	}
	return false
}
