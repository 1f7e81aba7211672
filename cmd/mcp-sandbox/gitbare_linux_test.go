package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGitBareBelow: bare repositories below the root, made by the session or there
// before, near the root or far from it, work inside, and git outside sees their data.
func TestGitBareBelow(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	p := newGitProject(t).repository()
	p.must("clone", "-q", "--bare", ".", "near.git")
	p.must("clone", "-q", "--bare", ".", "q/b/c/d/far.git")
	for _, far := range []string{"q/b/c/d/kept.git", "q/b/c/d/apart.git"} {
		p.must("clone", "-q", "--bare", ".", far)
		put(t, filepath.Join(p.dir, far, "hooks", "update"), "the user's")
	}
	put(t, filepath.Join(p.dir, "old-hook"), "the user's")
	openPath(t, p.dir)
	c := p.serve()
	for _, cmd := range []string{
		"mkdir d; cd d; git init -q --bare; git config core.fsmonitor x; test $(git config core.fsmonitor) = x; git remote add up https://example.com/x.git; git config --unset core.fsmonitor",
		"git push -q d HEAD:refs/heads/main; git -C d log -1 --oneline main; git -C d fsck; git -C d gc -q",
		"git clone -q --bare . made.git; printf '#!/bin/sh\\necho hook ran >&2\\n' > made.git/hooks/update; chmod +x made.git/hooks/update; git commit -q --allow-empty -m two; git push made.git HEAD:refs/heads/main 2>&1 | grep -q 'hook ran'",
		"git clone -q --mirror . m.git; mv m.git moved.git; git -C moved.git config a.b c; test $(git -C moved.git config a.b) = c; git -C moved.git fetch -q",
		"git init -q --separate-git-dir sep.git s; git -C s commit -q --allow-empty -m s; git -C s worktree add -q ../swt; git -C swt log -1 --oneline; git -C sep.git fsck",
		"git init -q --bare gone.git; rm -rf gone.git; test ! -e gone.git; mkdir gone.git; echo x > gone.git/config; mkdir gone.git/hooks gone.git/objects; rm -rf gone.git",
		"git init -q --bare part.git; rm -rf part.git/*; echo x > part.git/config; echo y > part.git/config; rm -rf part.git",
		"! git clone -q --bare /nowhere failed.git; test ! -e failed.git",
		"mkdir -p src/objects src/refs src/hooks src/info; echo x > src/config; echo y > src/hooks/a; mv src/hooks/a src/info/b; rm -rf src",
		"for r in near.git q/b/c/d/far.git; do git push -q $r HEAD:refs/heads/main; git -C $r config core.editor vim; test $(git -C $r config core.editor) = vim; done",
		"cd q/b/c/d/far.git; git config x.y z; test $(git config x.y) = z; printf '#!/bin/sh\\n' > hooks/update; chmod +x hooks/update; git gc -q",
	} {
		if o := c.exec(map[string]any{"cmd": "set -e; " + cmd, "yield_time_ms": 40000}); o.ExitCode == nil || *o.ExitCode != 0 {
			t.Errorf("%s: exit %v, %q %q", cmd, o.ExitCode, o.Output, o.Notices)
		}
	}
	const look = "git for-each-ref --format='%(refname) %(objectname)' | grep -v refs/mcp-sandbox/; git rev-parse main; git fsck 2>&1 | grep -v 'dangling\\|notice'; true"
	for _, dir := range []string{"d", "made.git", "moved.git", "near.git", "q/b/c/d/far.git"} {
		inside := c.sh("cd " + dir + "; " + look)
		outside, err := p.shell("cd " + dir + "; " + look)
		if inside != outside || !strings.Contains(outside, "refs/heads/main") {
			t.Errorf("%s inside:\n%s\noutside (%v):\n%s", dir, inside, err, outside)
		}
	}
	if got := p.must("-C", "d", "config", "remote.up.url"); got != "https://example.com/x.git\n" {
		t.Errorf("the remote of d is %q outside", got)
	}
	if got := p.must("-C", "made.git", "config", "core.bare"); got != "true\n" {
		t.Errorf("core.bare of made.git is %q outside", got)
	}
	for _, f := range []string{"made.git/hooks/update", "q/b/c/d/far.git/hooks/update"} {
		if _, err := os.Lstat(filepath.Join(p.dir, f)); err == nil {
			t.Errorf("%s is there outside", f)
		}
	}
	checkBareAttacks(t, p, c)
	had := strings.Fields(p.must("-C", "near.git", "rev-parse", "main"))[0]
	c.sh("rm -rf near.git 2>/dev/null; git -C near.git update-ref -d refs/heads/main 2>/dev/null; true")
	c.sh("mkdir -p half.git/refs")
	for path, text := range map[string]string{"made.git/config": "x", "made.git/hooks/update": "x", "half.git/HEAD": "ref: refs/heads/main\n", "near.git/hooks/update": "x"} {
		if r := c.call("write_file", map[string]any{"path": path, "content": text}); !r.IsError || !strings.Contains(r.text(), "path_protected") {
			t.Errorf("write_file %s: %s", path, r.text())
		}
	}
	if r := c.call("write_file", map[string]any{"path": "docs/config", "content": "x"}); r.IsError {
		t.Errorf("write_file docs/config: %s", r.text())
	}
	c.stop()
	if out := p.must("-C", "near.git", "rev-list", "--all"); !strings.Contains(out, had) {
		t.Errorf("%s of near.git is not reachable", had)
	}
}

// checkBareAttacks: what commands and file tools do together completes no repository
// that holds what git outside would obey, and what the user had in one stays.
func checkBareAttacks(t *testing.T, p *gitProject, c *client) {
	t.Helper()
	const head = "echo ref: refs/heads/main > "
	for _, a := range []struct {
		name, first      string
		tool             string
		args             map[string]any
		allowed          bool // the tool's call
		then             string
		absent           string // outside, afterwards
		unchanged, holds string // a file of the user's, and a part of its content
	}{
		{name: "missing parents", first: "mkdir -p y/refs y/hooks; " + head + "y/HEAD; echo x > y/config",
			tool: "write_file", args: map[string]any{"path": "y/objects/x", "content": "x"}, then: "test ! -e y/objects", absent: "y/objects"},
		{name: "an archive's member", first: "mkdir -p ar/objects v/refs; " + head + "v/HEAD; echo x > v/config; touch ar/objects/x; tar -cf ar.tar -C ar objects/x",
			tool: "extract_archive", args: map[string]any{"path": "ar.tar", "destination": "v"}, then: "test ! -e v/objects", absent: "v/objects"},
		{name: "an archive into what is missing", first: "mkdir -p u/refs; " + head + "u/HEAD; echo x > u/config",
			tool: "extract_archive", args: map[string]any{"path": "ar.tar", "destination": "u/objects"}, then: "test ! -e u/objects", absent: "u/objects"},
		{name: "a configuration without HEAD", first: "git init -q --bare z.git; rm z.git/HEAD",
			tool: "write_file", args: map[string]any{"path": "z.git/config", "content": "[core]\nfsmonitor = x\n"}, allowed: true, then: "! " + head + "z.git/HEAD || exit 1", absent: "z.git/HEAD"},
		{name: "a hook without HEAD", first: "git init -q --bare w.git; rm w.git/HEAD",
			tool: "write_file", args: map[string]any{"path": "w.git/hooks/update", "content": "x"}, allowed: true, then: "! " + head + "w.git/HEAD || exit 1", absent: "w.git/HEAD"},
		{name: "objects last", first: "git init -q --bare o.git; rm -r o.git/HEAD o.git/refs o.git/objects",
			tool: "write_file", args: map[string]any{"path": "o.git/hooks/update", "content": "x"}, allowed: true, then: "mkdir o.git/refs; " + head + "o.git/HEAD; ! mkdir o.git/objects || exit 1", absent: "o.git/objects"},
		{name: "HEAD comes back", first: "git init -q --bare k.git; mv k.git/HEAD k.git/H; mv k.git/H k.git/HEAD; git -C k.git config a.b c; rm k.git/HEAD; " + head + "k.git/HEAD; git -C k.git rev-parse --is-bare-repository"},
		{name: "a kept directory", first: "cd q/b/c/d/kept.git; chmod 0 ..; ! echo '[core] fsmonitor = x' >> config || exit 1; ! echo x > hooks/new || exit 1; chmod 755 ..", absent: "q/b/c/d/kept.git/hooks/new",
			unchanged: "q/b/c/d/kept.git/hooks/update", holds: "the user's"},
		{name: "a failed first try", first: "mkdir -p x/hooks x/objects x/refs; touch x/branches; cd x/hooks; ! " + head + "../HEAD || exit 1; test ! -e ../HEAD; rm ../branches; echo x > update; " + head + "../HEAD; cd ../..; test $(cat x/hooks/update) = x", absent: "x/hooks/update"},
		{name: "a name too long", first: "n=$(printf %0250d 1); mkdir -p $n/hooks $n/objects $n/refs; echo kept > $n/hooks/update; ! " + head + "$n/HEAD || exit 1; grep -q kept $n/hooks/update; mv $n long", unchanged: "long/hooks/update", holds: "kept"},
		{name: "taken apart", first: "cd q/b/c/d/apart.git; rm HEAD; ! " + head + "HEAD || exit 1; echo x > hooks/update; test $(cat hooks/update) = x", unchanged: "q/b/c/d/apart.git/hooks/update", holds: "the user's"},
		{name: "the user's hooks in a new one", first: "mkdir -p n/objects n/refs n/hooks; mv old-hook n/hooks/update; ! " + head + "n/HEAD || exit 1; cat n/hooks/update", unchanged: "n/hooks/update", holds: "the user's"},
	} {
		if o := c.exec(map[string]any{"cmd": "set -e; " + a.first, "yield_time_ms": 40000}); o.ExitCode == nil || *o.ExitCode != 0 {
			t.Errorf("%s: exit %v, %q %q", a.name, o.ExitCode, o.Output, o.Notices)
		}
		if a.tool != "" {
			if r := c.call(a.tool, a.args); r.IsError == a.allowed {
				t.Errorf("%s: %s: %s", a.name, a.tool, r.text())
			}
			if o := c.exec(map[string]any{"cmd": "set -e; " + a.then}); o.ExitCode == nil || *o.ExitCode != 0 {
				t.Errorf("%s: exit %v, %q %q", a.name, o.ExitCode, o.Output, o.Notices)
			}
		}
		if a.absent != "" {
			if _, err := os.Lstat(filepath.Join(p.dir, a.absent)); err == nil {
				t.Errorf("%s: %s is there outside", a.name, a.absent)
			}
		}
		if a.unchanged != "" {
			if b, err := os.ReadFile(filepath.Join(p.dir, a.unchanged)); err != nil || !strings.Contains(string(b), a.holds) {
				t.Errorf("%s: %s is %q outside: %v", a.name, a.unchanged, b, err)
			}
		}
	}
}
