package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestGitShallow: a fetch may bring commits without what is before them, and git outside
// is told so. That is never told of commits that were there, whose history the next gc
// would remove.
func TestGitShallow(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	p := newGitProject(t).repository()
	up := filepath.Join(filepath.Dir(p.dir), "up")
	if out, err := p.shell("git commit -q --allow-empty -m two; git clone -q . " + up + "; cd " + up + "; for i in 1 2 3; do git commit -q --allow-empty -m up$i; done"); err != nil {
		t.Fatal(err, out)
	}
	openPath(t, up)
	p.must("remote", "add", "origin", "file://"+up)
	had, tip := p.must("rev-list", "--count", "main"), strings.TrimSpace(p.must("rev-parse", "main"))
	c := p.serve("--read", up)
	c.ok("exec_command", map[string]any{"cmd": "git config --global safe.directory '*'; git fetch -q --depth 1 origin"})
	if out := p.must("log", "--format=%s", "origin/main"); out != "up3\n" {
		t.Errorf("the fetched history outside is %q", out)
	}
	p.must("fsck", "--strict")
	for _, pack := range []bool{false, true} {
		if pack {
			p.must("gc", "-q")
		}
		text := c.ok("exec_command", map[string]any{"cmd": "git rev-parse main >> .git/shallow"}).text()
		if !pack && !strings.Contains(text, "shallow") { // it is said once
			t.Errorf("nothing says that it stays: %s", text)
		}
		if out, err := p.shell("cat .git/shallow"); err != nil || strings.Contains(out, tip) {
			t.Errorf("in a pack: %t: shallow is %q", pack, out)
		}
		if now := p.must("rev-list", "--count", "main"); now != had {
			t.Errorf("main has %s commits, it had %s", now, had)
		}
	}
}

// TestGitLooksOnce: what git outside has looked at is not looked at again inside, where
// files have another owner if the server is root: its index stays as it is.
func TestGitLooksOnce(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	p := newGitProject(t).repository()
	if out, err := p.shell("touch -d '1 hour ago' * && git status"); err != nil {
		t.Fatal(err, out)
	}
	c := p.serve()
	sum := "sha256sum .git/index"
	had, err := p.shell(sum)
	if err != nil {
		t.Fatal(err, had)
	}
	if text := c.ok("exec_command", map[string]any{"cmd": "git status; " + sum}).text(); !strings.Contains(text, "clean") || !strings.Contains(text, had) {
		t.Errorf("the index was %q and is now\n%s", had, text)
	}
}
