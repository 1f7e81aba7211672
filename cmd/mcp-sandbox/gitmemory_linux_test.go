package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGitStageInMemory: where the state directory lies on an overlay, as in a
// container, git directories are staged all the same, and the report says how.
func TestGitStageInMemory(t *testing.T) {
	if !staged() || os.Geteuid() != 0 {
		return // the test mounts the overlay, in a mount namespace of its own
	}
	if fd, err := unix.MemfdCreate("attributes", 0); err == nil {
		err = unix.Fsetxattr(fd, "user.x", []byte("y"), 0)
		unix.Close(fd)
		if err == unix.EOPNOTSUPP {
			t.Skip("this kernel has no attributes of users on tmpfs (Linux 6.6)")
		}
	}
	p := newGitProject(t).repository()
	base := filepath.Dir(p.dir)
	for _, d := range []string{"lower", "upper", "work", "state"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := filepath.WalkDir(p.dir, func(name string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(name, 1001, 1001)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		args = append([]string{"-m", "sh", "-ec", `mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/state"; shift; exec "$@"`, "sh", base, binary}, args...)
		out, err := exec.Command("unshare", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	flags := []string{"--state-dir", filepath.Join(base, "state"), "--root", p.dir}
	report := run(append([]string{"doctor"}, flags...)...)
	if !strings.Contains(report, "staged in memory") {
		t.Fatalf("doctor: %s", report)
	}
	run(append(append([]string{"exec", "--git-user", "S <s@example.com>"}, flags...), "--",
		"set -e; git commit -q --allow-empty -m two; rm -rf .git/hooks; mkdir .git/hooks; printf '#!/bin/sh\\nexit 0\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit; git commit -q --allow-empty -m three; git config core.fsmonitor x; git remote add o https://example.com/x; git gc -q; git init -q --bare b.git; git push -q b.git HEAD:refs/heads/main")...)
	own := []string{"-c", "safe.directory=*"}
	for _, dir := range []string{".", "b.git"} {
		if got := p.must(append(own, "-C", dir, "log", "--format=%s", "main")...); got != "three\ntwo\none\n" {
			t.Errorf("the log of %s is %q outside", dir, got)
		}
	}
	if got := p.must(append(own, "config", "remote.o.url")...); got != "https://example.com/x\n" {
		t.Errorf("the remote is %q outside", got)
	}
	if out, err := p.git(append(own, "config", "core.fsmonitor")...); err == nil {
		t.Errorf("core.fsmonitor is %q outside", out)
	}
	if _, err := os.Lstat(filepath.Join(p.dir, ".git", "hooks", "pre-commit")); err == nil {
		t.Error("the hook is there outside")
	}
}
