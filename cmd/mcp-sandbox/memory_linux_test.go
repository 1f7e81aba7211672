package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// withoutHugePages keeps transparent huge pages from programs that start until the
// caller calls again: where the system gives them to all, a page touched counts as 2 MiB.
func withoutHugePages(t testing.TB) (again func()) {
	t.Helper()
	// A program inherits it from who starts it (PR_SET_THP_DISABLE(2const)).
	if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0); err != nil {
		t.Skipf("huge pages would be counted: %v", err)
	}
	return func() {
		if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 0, 0, 0, 0); err != nil {
			t.Error(err)
		}
	}
}

// TestInitMemory bounds what each session's own process keeps: 1.3 MB were measured,
// 1.5 with cgo.
func TestInitMemory(t *testing.T) {
	if raceBuilt(t) {
		t.Skip("the race detector's memory would be counted")
	}
	const most = 1700 // kB
	again := withoutHugePages(t)
	c := startServer(t)
	again()
	c.initialize("2025-11-25")
	c.sh("true")
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", c.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, list := range lists {
		inits, _ := os.ReadFile(list) // gone with its thread
		for _, init := range strings.Fields(string(inits)) {
			b, err := os.ReadFile("/proc/" + init + "/smaps_rollup")
			if err != nil {
				continue
			}
			_, rest, _ := strings.Cut(string(b), "Pss_Anon:")
			kB := 0
			if _, err := fmt.Sscan(rest, &kB); err != nil {
				t.Fatal(err)
			}
			looked++
			if kB > most {
				t.Errorf("an init has %d kB of private memory, more than %d", kB, most)
			}
		}
	}
	if looked == 0 {
		t.Skip("only root may look at an init")
	}
}
