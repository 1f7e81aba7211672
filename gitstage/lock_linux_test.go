package gitstage

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// A killed server's lock goes, one of git or of a living server stays.
func TestDropLocks(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := tree{fd}
	defer d.close()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	put := func(name string) string {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	pair := func(pid int, lock string) {
		mine := put(filepath.Join(filepath.Dir(lock), lockPrefix+strconv.Itoa(pid)+"-0"+lockSuffix))
		if err := os.Link(mine, filepath.Join(dir, lock)); err != nil {
			t.Fatal(err)
		}
	}
	pair(gone.Process.Pid, "index.lock")
	pair(gone.Process.Pid, "refs/heads/main.lock")
	pair(os.Getpid(), "config.lock")
	for _, name := range []string{"hooks/x", "hooks/d/x", "branches/x", "remotes/x", "objects/info/alternates"} {
		pair(gone.Process.Pid, name+".lock")
	}
	put("hooks/" + tempPrefix + strconv.Itoa(gone.Process.Pid) + "-1")
	put("hooks/" + tempPrefix + strconv.Itoa(os.Getpid()) + "-1")
	put("HEAD.lock")
	d.dropLocks()
	for name, want := range map[string]bool{
		"hooks/x.lock": false, "hooks/d/x.lock": false, "branches/x.lock": false, "remotes/x.lock": false, "objects/info/alternates.lock": false,
		"hooks/" + tempPrefix + strconv.Itoa(gone.Process.Pid) + "-1": false, "hooks/" + tempPrefix + strconv.Itoa(os.Getpid()) + "-1": true,
		"index.lock": false, "refs/heads/main.lock": false, "config.lock": true, "HEAD.lock": true,
	} {
		if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
	if err := d.locked("index", 0o644, func() ([]byte, error) { return []byte("x"), nil }); err != nil {
		t.Error(err)
	}
	if err := d.locked("HEAD", 0o644, func() ([]byte, error) { return []byte("x"), nil }); err != unix.EEXIST {
		t.Errorf("behind git's lock: %v", err)
	}
}

// An index that leads into a git directory, or names another file, is refused.
func TestIndexPaths(t *testing.T) {
	for p, ok := range map[string]bool{
		"a": true, "a/b.git": true, ".gitignore": true, ".github/x": true, "a/.git": false, ".git/config": false, ".GIT/x": false, "../a": false,
		"a//b": false, "": false, "git~1/x": false, ".git. /x": false, ".g\u200cit/x": false, ".git::$INDEX_ALLOCATION/x": false,
	} {
		if got := validIndexPath(p); got != ok {
			t.Errorf("%q: %v", p, got)
		}
	}
}
