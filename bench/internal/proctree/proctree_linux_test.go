package proctree

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// TestTree: a grandchild is found below this process, by its arguments and with
// its memory and descriptors, and is gone once it is killed and reaped.
func TestTree(t *testing.T) {
	if err := AdoptOrphans(); err != nil {
		t.Fatal(err)
	}
	const mark = "86400.25"
	// The name in stat(5) is made to look like the end of the field.
	cmd := exec.Command("/bin/sh", "-c", `printf ') Z 1 1' > /proc/self/comm; sleep `+mark+` & wait`)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		EndOrphans()
		_ = cmd.Wait()
	}()
	sleeper := func() []int { return Named("sleep\x00" + mark) }
	for limit := time.Now().Add(20 * time.Second); len(sleeper()) == 0; {
		if time.Now().After(limit) {
			t.Fatal("sleep did not start")
		}
		time.Sleep(5 * time.Millisecond)
	}
	pid := sleeper()[0]
	below := Descendants(os.Getpid())
	if !slices.Contains(below, cmd.Process.Pid) || !slices.Contains(below, pid) {
		t.Errorf("%d and %d are not in %v", cmd.Process.Pid, pid, below)
	}
	if tree := Tree(cmd.Process.Pid); !slices.Equal(tree, []int{cmd.Process.Pid, pid}) {
		t.Errorf("the tree of %d is %v, not it and %d", cmd.Process.Pid, tree, pid)
	}
	if PSS([]int{pid}) < 1<<10 || RSS(pid) < PSS([]int{pid}) || OpenFiles(pid) < 3 {
		t.Errorf("pss %d, rss %d, %d descriptors", PSS([]int{pid}), RSS(pid), OpenFiles(pid))
	}
	if CPUTime(pid) > time.Second {
		t.Errorf("a sleep took %v of processor time", CPUTime(pid))
	}
	for start := time.Now(); CPUTime(os.Getpid()) == 0 && time.Since(start) < 20*time.Second; {
	}
	if CPUTime(os.Getpid()) == 0 {
		t.Error("this process took no time")
	}
	if n := EndOrphans(); n != 2 {
		t.Errorf("%d ended", n)
	}
	if left := sleeper(); len(left) > 0 || len(Descendants(os.Getpid())) > 0 {
		t.Errorf("left: %v", left)
	}
	if RSS(pid) != 0 || OpenFiles(pid) != 0 || CPUTime(pid) != 0 || parentOf(pid) != 0 {
		t.Error("what is gone has a size")
	}
}
