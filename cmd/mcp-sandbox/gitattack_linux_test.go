package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// gitAttacks are ways to have a later git of the user run a program of the
// workspace: each is one line of shell, with what a run of it finds there.
// $E is the program, evil a git directory that names it.
var gitAttacks = []string{
	`echo "$PWD/evil" > .git/commondir; echo "$PWD/evil" > "$G/commondir"`,
	`printf '[core]\n fsmonitor = %s\n' "$E" >> .git/config; printf '[core]\n fsmonitor = %s\n' "$E" >> "$G/config"`,
	`git config core.fsmonitor "$E"; git config --worktree core.fsmonitor "$E"; git -C sub config core.fsmonitor "$E"`,
	`for g in .git "$G" .git/modules/* .git/worktrees/* real.git .; do git config -f $g/config core.fsmonitor "$E"; git config -f $g/config.worktree core.fsmonitor "$E"; cp ev.sh $g/hooks/pre-commit; cp ev.sh $g/hooks/post-checkout; echo "$PWD/evil" > $g/commondir; done`,
	`for g in .git "$G" .git/modules/* .git/worktrees/* real.git .; do mv $g/config $g/aside && cp evil/config $g/config; mv $g/hooks $g/aside-hooks && cp -r evil/hooks $g/hooks; ln -sf "$PWD/evil/config" $g/config; done`,
	`for f in .git sub/.git; do echo "gitdir: $PWD/evil" > $f; cp -f gitfile $f; ln -sfn "$PWD/evil" $f; mv gitfile $f; done; printf 'gitdir: %s/evil\n' "$PWD" > gitfile`,
	`mkdir .git && cp -r evil/. .git; rm -f .git sub/.git; cp -r evil .git; cp -r evil sub/.git`,
	`mv .git aside.git && cp -r evil .git; mv aside.git .git; mv sub/.git sub/aside && cp -r evil sub/.git; mv sub sub2 && mkdir sub && cp -r evil sub/.git && cp sub2/* sub`,
	`cp evil/HEAD HEAD; cp evil/config config; cp -r evil/objects evil/refs .; cp ev.sh hooks/post-checkout`,
	`python3 -c 'import os; d=os.open(".git",os.O_PATH); os.open("/dev/fd/%d/config"%d,os.O_WRONLY|os.O_APPEND|os.O_CREAT)'; echo "$PWD/evil" > /proc/self/cwd/.git/commondir; echo "$PWD/evil" > ./././.git//commondir`,
}

// gitKinds are the repositories a workspace can be, each made by the user outside.
var gitKinds = []struct{ name, make string }{
	{"repository", `git init -q "$D"; cd "$D"; echo x > f; git add .; git commit -qm one`},
	{"none", `mkdir "$D"; echo x > "$D/f"`},
	{"worktree", `git init -q main; cd main; echo x > f; git add .; git commit -qm one; git worktree add -q "$D"`},
	{"superproject", `git init -q lib; (cd lib; echo x > f; git add .; git commit -qm one); git init -q "$D"; cd "$D"; git -c protocol.file.allow=always submodule --quiet add "$TOP/lib" sub; git commit -qm sub`},
	{"submodule", `git init -q lib; (cd lib; echo x > f; git add .; git commit -qm one); git init -q super; cd super; git -c protocol.file.allow=always submodule --quiet add "$TOP/lib" ws; git commit -qm sub`},
	{"with worktrees", `git init -q "$D"; cd "$D"; echo x > f; git add .; git commit -qm one; git worktree add -q "$TOP/other"`},
	{"bare", `git init -q --bare "$D"; git init -q work; cd work; echo x > f; git add .; git commit -qm one; git push -q "$D" HEAD:main`},
	{"linked", `git init -q "$D"; cd "$D"; echo x > f; git add .; git commit -qm one; mv .git real.git; ln -s real.git .git`},
}

// TestGitOfTheUser: whatever a session did to a repository, a worktree, a submodule
// or a directory that is none, by shell and by the file tools, git run there by the user
// afterwards runs nothing of the workspace.
func TestGitOfTheUser(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		return // protected paths are not held from commands there, and the session says so
	}
	git := func(t *testing.T, dir, script string, env ...string) string {
		t.Helper()
		c := exec.Command("sh", "-c", script)
		c.Dir = dir
		c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TOP=" + dir, "GIT_CONFIG_NOSYSTEM=1",
			"GIT_AUTHOR_NAME=u", "GIT_AUTHOR_EMAIL=u@h", "GIT_COMMITTER_NAME=u", "GIT_COMMITTER_EMAIL=u@h"}, env...)
		out, _ := c.CombinedOutput()
		return string(out)
	}
	for i, kind := range gitKinds {
		if !long() && i%3 != 0 {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			top, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			openPath(t, top)
			ws := top + "/ws"
			if kind.name == "submodule" {
				ws = top + "/super/ws"
			}
			git(t, top, "set -e; "+kind.make, "D="+ws)
			if _, err := os.Stat(ws); err != nil {
				t.Fatal(err)
			}
			canary := top + "/canary"
			put(t, ws+"/ev.sh", "#!/bin/sh\necho ran >> "+canary+"\n")
			put(t, ws+"/gitfile", "gitdir: "+ws+"/evil\n")
			if err := os.Chmod(ws+"/ev.sh", 0o755); err != nil {
				t.Fatal(err)
			}
			level := []string{"namespaces", "namespaces-noproc"}[i%2]
			c := startServer(t, "--root", ws, "--confine", level)
			c.initialize("2025-06-18")
			c.exec(map[string]any{"cmd": `git init -q --bare evil; E="$PWD/ev.sh"; for k in core.fsmonitor core.sshCommand core.pager; do git config -f evil/config $k "$E"; done; git config -f evil/config core.bare false; git config -f evil/config core.worktree "$PWD"; for h in pre-commit post-checkout post-index-change; do cp ev.sh evil/hooks/$h; done`})
			for n, a := range gitAttacks {
				c.call("exec_command", map[string]any{"cmd": `E="$PWD/ev.sh"; G="$(git rev-parse --git-dir 2>/dev/null || echo .git)"; ` + a})
				if ran := runAsUser(git, t, ws, top, canary); ran != "" {
					t.Fatalf("after attack %d, %s: the user's git runs the session's program: %s", n, a, ran)
				}
			}
			file := "gitdir: " + ws + "/evil\n"
			for _, p := range []string{".git", "sub/.git", ".git/commondir", ".git/config", ".git/config.worktree", ".git/hooks/pre-commit", ".git/modules/sub/config", ".git/modules/sub/hooks/post-checkout", "HEAD", "config", "hooks/post-checkout"} {
				text := file
				if strings.HasSuffix(p, "config") || strings.Contains(p, "config.") {
					text = "[core]\n\tfsmonitor = " + ws + "/ev.sh\n"
				}
				c.call("write_file", map[string]any{"path": p, "content": text})
				c.call("write_file", map[string]any{"path": p, "content": text, "mode": "append"})
				c.call("apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Add File: " + p + "\n+" + strings.TrimSpace(text) + "\n*** End Patch\n"})
				c.call("mv", map[string]any{"path": "gitfile", "destination": p, "overwrite": true})
				c.call("rm", map[string]any{"path": p})
			}
			c.call("mv", map[string]any{"path": "evil", "destination": ".git"})
			c.exec(map[string]any{"cmd": "tar -cf t.tar --transform 's,^evil,.git,' evil"})
			c.call("extract_archive", map[string]any{"path": "t.tar", "destination": "."})
			c.stop()
			if ran := runAsUser(git, t, ws, top, canary); ran != "" {
				t.Errorf("after the file tools the user's git runs the session's program: %s", ran)
			}
		})
	}
	t.Log(strconv.Itoa(len(gitAttacks)*len(gitKinds)) + " attacks by shell")
}

// runAsUser runs git in the workspace as its user, and returns what it printed if a
// program of the session ran.
func runAsUser(git func(t *testing.T, dir, script string, env ...string) string, t *testing.T, ws, top, canary string) string {
	t.Helper()
	out := git(t, top, `cd "$D"; git status; git status -s; git log -1; git diff; git branch side; git -C sub status; cd sub 2>/dev/null && git status`, "D="+ws)
	if ran, err := os.ReadFile(canary); err == nil {
		return out + "; " + string(ran)
	}
	return ""
}
