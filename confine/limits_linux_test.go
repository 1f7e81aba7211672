package confine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

// TestUnenforced: which limit is asked for, kept, and missed.
func TestUnenforced(t *testing.T) {
	for _, c := range []struct {
		name  string
		asked sandbox.Limits
		uid   int
		has   string
		want  string // "" starts
	}{
		{"nothing asked", sandbox.Limits{}, 0, "", ""},
		{"kept", sandbox.Limits{Memory: 1 << 30, CPU: 1}, 1000, "memory cpu", ""},
		{"memory", sandbox.Limits{Memory: 1 << 30}, 1000, "cpu", "the memory limit"},
		{"CPU", sandbox.Limits{CPU: 1}, 1000, "memory", "the CPU limit"},
		{"both", sandbox.Limits{Memory: 1 << 30, CPU: 1}, 1000, "", "the memory and CPU limit"},
		{"best effort", sandbox.Limits{Memory: 1 << 30, CPU: 1, BestEffort: true}, 1000, "", ""},
		{"processes by RLIMIT_NPROC", sandbox.Limits{Procs: 10}, 1000, "", ""},
		{"processes of uid 0", sandbox.Limits{Procs: 10}, 0, "", "the process limit"},
		{"processes of uid 0, kept", sandbox.Limits{Procs: 10}, 0, "pids", ""},
	} {
		err := unenforced(c.asked, c.uid, func(k string) bool { return strings.Contains(c.has, k) }, []string{"why"})
		if c.want == "" && err != nil || c.want != "" && (sandbox.CodeOf(err) != "confinement_unavailable" || !strings.Contains(err.Error(), c.want+" (why)")) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := CheckLimits(sandbox.Limits{Memory: 1 << 30}, sandbox.LevelNone); err == nil {
		t.Error("a limit without confinement is taken")
	}
	if why := lostLimits([]string{shareSentence + ": a", "the memory limit is not enforced: b", "the CPU limit is not enforced: b"}); len(why) != 1 || why[0] != "b" {
		t.Errorf("%q", why)
	}
}

func TestSharesSignals(t *testing.T) {
	for _, c := range []struct {
		level sandbox.Level
		abi   int
		want  bool
	}{
		{sandbox.LevelNamespaces, 0, false}, {sandbox.LevelNamespacesNoProc, 1, false}, {sandbox.LevelNone, 7, true},
		{sandbox.LevelLandlock, 5, true}, {sandbox.LevelLandlock, 6, false}, {sandbox.LevelSeatbelt, 0, false},
	} {
		if got := sharesSignals(c.level, c.abi); got != c.want {
			t.Errorf("%s, ABI %d: %v", c.level, c.abi, got)
		}
	}
}

// TestMoveBelow: this process goes into a group below its own where that is
// delegated and holds nothing else.
func TestMoveBelow(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		name      string
		delegated bool
		procs     string
		want      bool
	}{
		{"delegated, alone", true, self + "\n", true},
		{"not delegated", false, self + "\n", false},
		{"another process", true, self + "\n4711\n", false},
		{"not in it", true, "", false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(c.procs), 0o644); err != nil {
			t.Fatal(err)
		}
		below := filepath.Join(dir, cgroupServer()+"-server")
		// A plain file system makes no files in a new directory, so it is made here.
		if c.want {
			if moveBelowIn(dir, func(string) bool { return true }, os.Getpid()) {
				t.Errorf("%s: moved without a cgroup.procs below", c.name)
			}
			if _, err := os.Stat(below); err == nil {
				t.Errorf("%s: the group stays after a refusal", c.name)
			}
			continue
		}
		if moveBelowIn(dir, func(string) bool { return c.delegated }, os.Getpid()) {
			t.Errorf("%s: moved", c.name)
		}
	}
}

// TestCgroupDomainInvalid: a group that takes no process is not used, and one that
// a session cannot enter is none that it has.
func TestCgroupDomainInvalid(t *testing.T) {
	m, _ := fakeCgroupFS(t, true, "memory", "memory.max", "cgroup.procs")
	mkdir := m.mkdir
	m.mkdir = func(p string) error {
		err := mkdir(p)
		if err == nil {
			err = os.WriteFile(filepath.Join(p, "cgroup.type"), []byte("domain invalid\n"), 0o644)
		}
		return err
	}
	g, missing, err := m.make("s", sandbox.Limits{Memory: 64 << 20})
	if err != nil || g.Has("memory") || len(missing) == 0 {
		t.Errorf("%+v %q %v", g, missing, err)
	}
	m, root := fakeCgroupFS(t, true, "memory", "memory.max")
	g, _, err = m.make("s", sandbox.Limits{Memory: 64 << 20})
	if err != nil || !g.Has("memory") {
		t.Fatalf("%+v %v", g, err)
	}
	if err := g.add(g.dirs, os.Getpid()); err == nil || g.Has("memory") {
		t.Errorf("a session outside of its group has the limit: %v", err)
	}
	_ = root
}
