package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGitOfAGroup: git works where a repository has a group that the sandbox has no
// number for, as those that people share have.
func TestGitOfAGroup(t *testing.T) {
	if !staged() || os.Geteuid() != 0 {
		return // only root gives files to a group it is not in
	}
	p := newGitProject(t).repository()
	err := filepath.WalkDir(filepath.Dir(p.dir), func(name string, _ fs.DirEntry, err error) error {
		gid := 1001
		if strings.Contains(name, ".git") {
			gid = 4242
		}
		if err == nil {
			err = os.Lchown(name, 1001, gid)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c := p.serve()
	c.sh("set -e; echo x > x; git add x; git commit -q -m x; git checkout -q -b new; git commit -q --amend -m y; git branch -m newer; git tag -a t -m t; git gc -q; git reflog; git status")
	out := c.sh("git rev-parse newer")
	c.stop()
	if got := p.must("-c", "safe.directory=*", "rev-parse", "newer"); got != out {
		t.Errorf("newer is %q outside, %q inside", got, out)
	}
}
