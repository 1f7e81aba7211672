package confine

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// forkedBy is what forks for s now, nil for the server itself.
func (s *WarmInit) forkedBy() *forkProcess {
	s.forkMu.Lock()
	defer s.forkMu.Unlock()
	return s.by
}

// given says whether it was given up.
func (f *forkProcess) givenUp() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.off
}

// forkedAs is what /proc says of an init, except the numbers that are its own.
func forkedAs(t *testing.T, pid int) map[string]string {
	t.Helper()
	got := map[string]string{}
	dir := "/proc/" + itoa(pid)
	for _, f := range []string{"uid_map", "gid_map", "setgroups", "cmdline", "environ", "limits", "oom_score_adj"} {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil && os.Geteuid() == 0 {
			t.Fatal(err)
		}
		got[f] = string(b)
	}
	// It counts the threads that init has by chance.
	got["limits"] = regexp.MustCompile(`Max processes.*`).ReplaceAllString(got["limits"], "")
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(status)) {
		k, v, _ := strings.Cut(l, ":")
		if slices.Contains([]string{"PPid", "TracerPid", "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn"}, k) {
			got[k] = v
		}
	}
	fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
	var open []string
	for _, fd := range fds {
		to, _ := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		kind, _, _ := strings.Cut(to, ":")
		open = append(open, strings.ReplaceAll(kind, "/"+itoa(pid)+"/", "/PID/"))
	}
	slices.Sort(open)
	got["fd"] = strings.Join(open, " ")
	return got
}

// An init that the process for it forks is as one of the server's own, its child too.
func TestForkProcess(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		needNamespaces(t, p.Level)
		w := &WarmInit{}
		defer w.Close()
		// The init that waits for the next is the second.
		first := startWarm(t, w, p)
		if w.wait(); w.forkedBy() != nil {
			t.Fatal("a server with one session has a process that forks")
		}
		second := startWarm(t, w, p)
		w.wait()
		third := startWarm(t, w, p)
		by := w.forkedBy()
		if by == nil || by.givenUp() {
			t.Fatal("nothing forks for the server")
		}
		if a, b := forkedAs(t, first.pid), forkedAs(t, third.pid); a["PPid"] != "\t"+itoa(os.Getpid())+"\n" {
			t.Errorf("the parent of init is %s", a["PPid"])
		} else {
			for k := range a {
				if a[k] != b[k] {
					t.Errorf("%s: forked by the server %q, by its process %q", k, a[k], b[k])
				}
			}
		}
		if a, b := len(first.cgroup.enterableOrNone()), len(third.cgroup.enterableOrNone()); a != b {
			t.Errorf("%d groups, %d of the server's own", b, a)
		}
		for _, d := range third.cgroup.enterableOrNone() {
			b, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
			if err != nil || !slices.Contains(strings.Fields(string(b)), itoa(third.pid)) {
				t.Errorf("init is not in its group: %q %v", b, err)
			}
		}
		for _, s := range []*Sandbox{second, third} {
			want(t, s, p.Workspace, "echo x > f; cat f; rm f", "x\n")
		}
		w.wait() // for the init that it forks now
		forker := by.pid
		if open := forkedAs(t, forker)["fd"]; strings.Contains(open, "pipe") || strings.Count(open, "socket") > 1 {
			t.Errorf("it keeps what inits were given: %s", open)
		}
		w.Close()
		if err := unix.Kill(forker, 0); err != unix.ESRCH {
			t.Errorf("the process that forks lives after Close: %v", err)
		}
		want(t, third, p.Workspace, "echo on", "on\n")
	})
}

func (c *cgroup) enterableOrNone() []string {
	dirs, _ := c.enterable()
	return dirs
}

// Sessions start without the process that forks when it was killed, or has refused.
func TestForkProcessGone(t *testing.T) {
	p := testPolicy(t)
	needNamespaces(t, p.Level)
	for name, spoil := range map[string]func(t *testing.T, f *forkProcess){
		"killed": func(t *testing.T, f *forkProcess) { unix.Kill(f.pid, unix.SIGKILL) },
		"refuses": func(t *testing.T, f *forkProcess) {
			null, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			defer null.Close()
			if pid, asked, err := f.fork(bootKey{}, []uintptr{null.Fd()}, []string{"/no/such/group"}); asked || err != nil {
				t.Errorf("forked %d outside of its group, %v", pid, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &WarmInit{forks: firstForks}
			defer w.Close()
			startWarm(t, w, p)
			w.wait()
			before := w.forkedBy()
			if before == nil {
				t.Fatal("nothing forks for the server")
			}
			spoil(t, before)
			startWarm(t, w, p) // the one that waits
			w.wait()
			s := startWarm(t, w, p)
			want(t, s, p.Workspace, "echo on", "on\n")
			if !before.givenUp() {
				t.Error("it is still asked")
			}
		})
	}
}
