package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// gitWork is what is killed at any moment: commits, rebases, gc, and with the end of
// each command the publishing of what it made.
var gitWork = []string{
	"for i in 1 2 3; do date +%N > a; git commit -q -a -m more; done",
	"git rebase -q --force-rebase HEAD~2",
	"echo b > b; git add b; git commit -q --amend -m amended; git tag -f last",
	"git gc -q --prune=now",
	"git checkout -q -B side; date +%N > c; git add c; git commit -q -m side; git checkout -q main; git merge -q --no-ff -m merged side",
	"git pack-refs --all; git reflog expire --expire=now --all; git stash -q; git stash pop -q; date +%N > d; git stash -q -u; git stash drop -q",
}

// TestKilledGit kills the server, or git in it, with SIGKILL while git works. The
// repository outside is whole afterwards, and the next session goes on with it. With
// -kills 400 and more there are 200.
func TestKilledGit(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	rounds := 4
	if *killPoints > 100 {
		rounds = min(*killPoints/2, 200)
	}
	if testing.Short() {
		rounds = 2
	}
	random := killRand(t)
	p := newGitProject(t).repository()
	for range 3 {
		p.must("commit", "-q", "--allow-empty", "-m", "base")
	}
	base := t.TempDir()
	killed := 0
	for round := range rounds {
		c := launchClient(t, filepath.Join(base, "state"), base, "--root", p.dir, "--git-user", "S <s@example.com>")
		c.initialize("2025-11-25")
		// A killed git leaves its locks, as it does outside.
		c.sh("find -L .git -name '*.lock' -delete; git rebase --abort; git merge --abort; git checkout -q -f main; true")
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(900*time.Millisecond))), func() { _ = c.cmd.Process.Kill() })
		for i := random.IntN(len(gitWork)); ; i++ {
			cmd := gitWork[i%len(gitWork)]
			if round%2 == 1 {
				cmd = fmt.Sprintf("(%s) & sleep 0.0%d; kill -9 $(pgrep -x git) $! 2>/dev/null; wait; find -L .git -name '*.lock' -delete", cmd, random.IntN(10))
			}
			_, ch := c.sendCall("exec_command", map[string]any{"cmd": cmd, "yield_time_ms": 20000})
			select {
			case <-ch:
				continue
			case <-c.closed:
			}
			break
		}
		timer.Stop()
		_ = c.cmd.Wait()
		killed++
		if out, err := p.git("fsck", "--strict", "--no-dangling"); err != nil || strings.Contains(out, "missing") || strings.Contains(out, "error") {
			t.Fatalf("round %d: %v: %s", round, err, out)
		}
	}
	c := launchClient(t, filepath.Join(base, "state"), base, "--root", p.dir, "--git-user", "S <s@example.com>")
	c.initialize("2025-11-25")
	c.sh("set -e; git rebase --abort || true; git merge --abort || true; git checkout -q -f main; git fsck --strict --no-dangling; git commit -q --allow-empty -m last")
	inside := c.sh("git rev-parse main")
	c.stop()
	if outside := p.must("rev-parse", "main"); inside != outside {
		t.Errorf("main is %s inside and %s outside", inside, outside)
	}
	p.must("fsck", "--strict", "--no-dangling")
	t.Logf("%d kills, %s commits", killed, strings.TrimSpace(p.must("rev-list", "--count", "--all")))
}

// TestGitTogether: commits inside and of the user's git on another branch at the same
// time are all there.
func TestGitTogether(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	calls := 8
	if long() {
		calls = 200
	}
	const each = 5
	p := newGitProject(t).repository()
	host := filepath.Join(filepath.Dir(p.dir), "host")
	p.must("worktree", "add", "-q", host, "-b", "host")
	openPath(t, host)
	c := p.serve()
	stop, commits := make(chan struct{}), 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if out, err := p.git("-C", host, "commit", "-q", "--allow-empty", "-m", "of the host"); err != nil {
				t.Errorf("the host's commit: %v: %s", err, out)
				return
			}
			commits++
		}
	})
	for n := range calls {
		o := c.exec(map[string]any{"cmd": "set -e; for i in " + strings.Repeat("x ", each) + "; do echo " + strconv.Itoa(n) + " >> a; git commit -q -a -m 'of the session'; done", "yield_time_ms": 40000})
		if o.ExitCode == nil || *o.ExitCode != 0 || len(o.Notices) > 0 {
			t.Fatalf("call %d: %v %q %q", n, o.ExitCode, o.Output, o.Notices)
		}
	}
	close(stop)
	wg.Wait()
	for branch, want := range map[string]int{"main": calls*each + 1, "host": commits + 1} {
		want := strconv.Itoa(want) + "\n"
		if got := p.must("rev-list", "--count", branch); got != want {
			t.Errorf("%s has %s commits outside, want %s", branch, got, want)
		}
		if got := c.sh("git rev-list --count " + branch); got != want {
			t.Errorf("%s has %s commits inside, want %s", branch, got, want)
		}
	}
	p.must("fsck", "--strict")
	t.Logf("%d commits inside, %d outside", calls*each, commits)
}

// BenchmarkGit is git status and git commit in a repository of 13,000 files, inside
// and outside in one run.
func BenchmarkGit(b *testing.B) {
	dir := b.TempDir()
	openPath(b, dir)
	for i := range 13_000 {
		name := filepath.Join(dir, fmt.Sprintf("d%d/e%d/f%d", i%13, i%100, i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, fmt.Appendf(nil, "%d\n", i), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	outside := func(cmd string) time.Duration {
		b.Helper()
		start := time.Now()
		sh := exec.Command("bash", "-c", cmd)
		sh.Dir = dir
		sh.Env = append(os.Environ(), "HOME="+dir, "GIT_AUTHOR_NAME=u", "GIT_AUTHOR_EMAIL=u@h", "GIT_COMMITTER_NAME=u", "GIT_COMMITTER_EMAIL=u@h")
		if out, err := sh.CombinedOutput(); err != nil {
			b.Fatalf("%s: %v: %s", cmd, err, out)
		}
		return time.Since(start)
	}
	outside("git init -q -b main; git add .; git commit -q -m all")
	c := startServer(b, "--root", dir, "--git-user", "S <s@example.com>")
	c.initialize("2025-11-25")
	c.sh("git status; git commit -q --allow-empty -m warm")
	inside := func(cmd string) time.Duration {
		start := time.Now()
		c.exec(map[string]any{"cmd": cmd, "yield_time_ms": 40000})
		return time.Since(start)
	}
	for name, cmd := range map[string]string{
		"status": "for i in 1 2 3 4 5; do git status --porcelain; done",
		"commit": "for i in 1 2 3 4 5; do date +%N > d1/f; git add d1/f; git commit -q -m more; done",
	} {
		b.Run(name, func(b *testing.B) {
			// Each side takes the index that the other wrote for stale once where
			// files have another owner inside.
			for range 2 {
				inside(cmd)
				outside(cmd)
			}
			var in, out time.Duration
			n := 0
			for b.Loop() {
				in, out, n = in+inside(cmd), out+outside(cmd), n+5
			}
			b.ReportMetric(float64(in.Microseconds())/float64(n), "inside-µs")
			b.ReportMetric(float64(out.Microseconds())/float64(n), "outside-µs")
			b.ReportMetric(float64(in)/float64(out), "ratio")
		})
	}
}
