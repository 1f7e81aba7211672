package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// gitTable are commands of agents and people. Each must end with 0 in every kind of
// repository; those that begin with "tree:" need a working tree.
var gitTable = []string{
	"tree:git init -q -b main .",
	"tree:echo one >> a; git add a; git commit -q -m first --allow-empty",
	"git config core.editor vim; test $(git config core.editor) = vim",
	"git remote add o2 https://example.com/x.git; git remote -v | grep -q example.com",
	"git log --oneline; git reflog; git show --stat HEAD; git rev-parse HEAD",
	"tree:echo two >> a; git commit -q -a -m second; git commit -q --amend -m second-amended",
	"git branch side; git branch -m side side2",
	"tree:git checkout -q -b feature; echo f > f; git add f; git commit -q -m feature; git checkout -q -",
	"tree:git merge -q --no-ff -m merged feature",
	"git tag v1; git tag -a v2 -m two",
	"tree:echo dirty >> a; git stash -q; git stash pop -q; git checkout -q a",
	"tree:git diff HEAD~1 >/dev/null; git blame a > /dev/null",
	"tree:GIT_SEQUENCE_EDITOR='sed -i s/pick/reword/' GIT_EDITOR=true git rebase -q -i HEAD~1",
	"tree:git worktree add -q wt -b wtb; git -C wt commit -q --allow-empty -m inwt; git worktree list | grep -q wt",
	"tree:echo x > wt/x; git -C wt add x; git -C wt commit -qm x; git worktree add -q wt3 -b wtc; git worktree remove --force wt3; git worktree prune",
	"git pack-refs --all; git gc -q; git fsck",
	"tree:h=$(git rev-parse --git-path hooks); mkdir -p $h; printf '#!/bin/sh\\necho hook ran > hook.out\\n' > $h/post-commit; chmod +x $h/post-commit; git commit -q --allow-empty -m hooked; grep -q ran hook.out; rm hook.out $h/post-commit",
	"git clone -q . copy; git -C copy log --oneline; git -C copy push -q -u origin HEAD:refs/heads/pushed",
	"git clone -q --bare . copy.git; git -C copy.git log -1 --oneline",
	"tree:git -c protocol.file.allow=always submodule add $PWD/copy.git subm; git commit -qm subm; git -C subm log -1 --oneline",
	"tree:cd subm; git commit -q --allow-empty -m insub; git push -q origin HEAD:refs/heads/pushed; cd ..; git submodule status; git add subm; git commit -qm bump; git -C subm log --oneline | grep -q insub",
	"tree:git submodule deinit -f subm; git -c protocol.file.allow=always submodule update --init subm; git -C subm status",
	"tree:git -c protocol.file.allow=always clone -q . rec; git -C rec -c protocol.file.allow=always submodule update --init subm; ls rec/subm/.git; rm -rf rec",
	"tree:git init -q --separate-git-dir sep.git sepw; git -C sepw commit -q --allow-empty -m s; git -C sepw log --oneline",
	"git clone -q --separate-git-dir sep2.git . sepw2; git -C sepw2 log -1 --oneline; rm -rf sepw2",
	"git clone -q --shared . shared; git -C shared log -1 --oneline; git -C shared commit -q --allow-empty -m sh",
	"git clone -q --mirror . mir.git; git -C mir.git fsck; ! git clone -q /nowhere/at/all failed; test ! -e failed",
	"tree:git init -q nested; git -C nested commit -q --allow-empty -m n; mv nested moved; git -C moved log --oneline; rm -rf moved",
	"tree:git init -q ab; git -C ab commit -q --allow-empty -m n; git submodule add ./ab ab; git submodule absorbgitdirs; git -C ab log --oneline; git rm -qf ab; git rm -qf .gitmodules || true",
	"tree:git notes add -m note HEAD; git bisect start HEAD HEAD~1; git bisect reset",
	"tree:mkdir -p d; git sparse-checkout set d; git sparse-checkout disable",
	"tree:git switch -q -c s; git restore a; git switch -q -; git branch -D s; git tag -d v1; git shortlog -s HEAD; git describe --always",
	"tree:git checkout -q -b conflict HEAD~1; echo other > a; git commit -q -a -m other; git checkout -q -; echo mine > a; git commit -q -a -m mine; ! git merge -q conflict; git merge --abort",
	"tree:git cherry-pick -X theirs conflict; git revert --no-edit HEAD",
	"git update-ref refs/heads/u HEAD; git symbolic-ref refs/heads/sy refs/heads/u; git branch -D u sy",
	"git repack -adq; git prune; git count-objects -v >/dev/null; git commit-graph write; git multi-pack-index write",
	"tree:git lfs install --local; git lfs track '*.bin'; echo big > x.bin; git add .gitattributes x.bin; git commit -q -m lfs; git show HEAD:x.bin | grep -q git-lfs; rm x.bin; git checkout -q x.bin; grep -q big x.bin; git rm -qf x.bin .gitattributes; git commit -q -m 'no lfs'",
	"tree:git format-patch -1 -o p HEAD >/dev/null; git reset -q --hard HEAD~1; git am -q p/*; rm -rf p",
	"git bundle create b.bundle HEAD; git bundle verify -q b.bundle; git archive HEAD | tar t >/dev/null; rm b.bundle",
	"tree:git clean -qfdn; git ls-files | grep -q a; git grep -c mine HEAD -- a; git rm -q --cached f; git reset -q -- f",
	"tree:git maintenance run; git replace --list; git rerere; git config --get-regexp remote",
}

// gitTableKinds are kinds of workspace, made by the user outside.
var gitTableKinds = []struct{ name, make string }{
	{"linked worktree", `git init -q main; cd main; echo one > a; git add .; git commit -qm one; git worktree add -q "$D" -b other`},
	{"submodule checkout", `git init -q lib; (cd lib; echo one > a; git add .; git commit -qm one); git init -q super; cd super; git -c protocol.file.allow=always submodule --quiet add "$TOP/lib" ws; git commit -qm sub`},
	{"repository", `git init -q "$D"; cd "$D"; echo one > a; git add .; git commit -qm one`},
	{"empty folder", `mkdir "$D"`},
	{"separate git directory", `git init -q --separate-git-dir "$TOP/real.git" "$D"; cd "$D"; echo one > a; git add .; git commit -qm one`},
	{"alternates", `git init -q src; (cd src; echo one > a; git add .; git commit -qm one); git clone -q --shared src "$D"`},
	{"nested repository", `git init -q "$D"; cd "$D"; echo one > a; git add a; git commit -qm one; git init -q n; cd n; echo x > x; git add .; git commit -qm n`},
	{"bare", `git init -q src; (cd src; echo one > a; git add .; git commit -qm one); git clone -q --bare src "$D"`},
	{"separate git directory in the workspace", `mkdir "$D"; git init -q --separate-git-dir "$D/.bare" "$D"; cd "$D"; echo .bare > .bare/info/exclude; echo one > a; git add .; git commit -qm one`},
	{"linked git directory", `git init -q "$D"; cd "$D"; echo one > a; git add .; git commit -qm one; mv .git .real; ln -s .real .git; echo .real > .git/info/exclude`},
	{"superproject", `git init -q lib; (cd lib; echo one > a; git add .; git commit -qm one); git init -q "$D"; cd "$D"; echo one > a; git add a; git -c protocol.file.allow=always submodule --quiet add "$TOP/lib" sub; git commit -qm sub`},
	{"with worktrees", `git init -q "$D"; cd "$D"; echo one > a; git add .; git commit -qm one; git worktree add -q "$TOP/out" -b out; git worktree add -q in -b in`},
}

// TestGitTable: all of git works inside whatever a workspace's git directory is and
// wherever it lies, and git outside sees the same afterwards.
func TestGitTable(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	if len(gitTable) < 40 {
		t.Errorf("only %d commands are tried", len(gitTable))
	}
	_, noLFS := exec.LookPath("git-lfs")
	for i, kind := range gitTableKinds {
		if !long() && (i > 1 || testing.Short() && i > 0) {
			continue
		}
		t.Run(strings.ReplaceAll(kind.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			p := newGitProject(t)
			top := filepath.Dir(p.dir)
			openPath(t, top)
			p.dir = filepath.Join(top, "ws")
			if kind.name == "submodule checkout" {
				p.dir = filepath.Join(top, "super", "ws")
			}
			make := exec.Command("sh", "-ec", kind.make)
			make.Dir = top
			make.Env = append(os.Environ(), "HOME="+p.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=init.defaultBranch", "GIT_CONFIG_VALUE_0=main",
				"D="+p.dir, "TOP="+top, "GIT_AUTHOR_NAME=u", "GIT_AUTHOR_EMAIL=u@h", "GIT_COMMITTER_NAME=u", "GIT_COMMITTER_EMAIL=u@h")
			if out, err := make.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			c := p.serve()
			for _, cmd := range gitTable {
				cmd, tree := strings.CutPrefix(cmd, "tree:")
				if tree && kind.name == "bare" || noLFS != nil && strings.Contains(cmd, "lfs") {
					continue
				}
				o := c.exec(map[string]any{"cmd": "set -e; " + cmd, "yield_time_ms": 40000})
				if o.ExitCode == nil || *o.ExitCode != 0 {
					t.Errorf("%s: exit %v, %q %q", cmd, o.ExitCode, o.Output, o.Notices)
				}
			}
			// The directory that sepw leads to has a configuration of the session.
			const look = "git for-each-ref --format='%(refname) %(objectname)' | grep -v refs/mcp-sandbox/; git rev-parse HEAD; git fsck 2>&1 | grep -v dangling"
			const work = "; git status --short | grep -v sepw/; git -C wt status --short; git -C wt log --oneline -2; git -C subm rev-parse HEAD; git submodule status subm; git worktree list | grep -c wt"
			script := look
			if kind.name != "bare" {
				script += work
			}
			inside := c.exec(map[string]any{"cmd": script}).Output
			outside := exec.Command("sh", "-c", script)
			outside.Dir = p.dir
			outside.Env = append(os.Environ(), "HOME="+p.home, "GIT_CONFIG_NOSYSTEM=1")
			if out, err := outside.CombinedOutput(); string(out) != inside {
				t.Errorf("inside:\n%s\noutside (%v):\n%s", inside, err, out)
			}
			c.stop()
			if _, err := os.Lstat(filepath.Join(p.dir, "sepw", ".git")); err == nil {
				t.Error("a .git file that leads to a directory of the session's own is there outside")
			}
		})
	}
}
