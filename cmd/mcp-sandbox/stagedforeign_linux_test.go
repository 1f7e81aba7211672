package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestStagedForeign: a directory that holds one of another user, which cannot be emptied,
// is not renamed by half; files of others in a directory of one's own are in nobody's way.
func TestStagedForeign(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and python3")
	}
	p := newStagedProject(t)
	for _, name := range []string{"/dir/sub", "/bin/run"} {
		if err := os.Chown(p.dir+name, 54321, 54321); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(from, to string) string {
		return p.session(`python3 -c "import os; os.rename('` + from + `', '` + to + `')" 2>/dev/null; echo status $?; find ` + from + " " + to + " 2>/dev/null | sort; stat -c %a dir")
	}
	for _, to := range []string{"moved", "bin/moved"} {
		if out := rename("dir", to); !strings.Contains(out, "status 1\ndir\ndir/c.txt\ndir/sub\ndir/sub/d.txt\n755\n") {
			t.Errorf("to %s: %s", to, out)
		}
		if all, _ := exec.Command(binary, "review", "--list", "--state-dir", p.state).Output(); len(all) > 0 {
			t.Errorf("to %s: something was changed: %s", to, all)
		}
	}
	if out := rename("bin", "own"); !strings.Contains(out, "status 0\nown\nown/run\n") {
		t.Errorf("a file of another user: %s", out)
	}
}
