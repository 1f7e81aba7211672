package main

import (
	"regexp"
	"strings"
	"testing"
)

var keptAs = regexp.MustCompile(`kept as (refs/mcp-sandbox/undo/\S+)`)

// restored is what a restore says of one ref, and the ref that keeps it.
func restored(t *testing.T, text, want string) (ref string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.Contains(line, want) {
			if m := keptAs.FindStringSubmatch(line); m != nil {
				ref = m[1]
			}
			return ref
		}
	}
	t.Errorf("a restore does not say %q:\n%s", want, text)
	return ""
}

// TestRestoreRewindsBranches: a restore says which branches it moves, and what
// it takes out of them stays reachable, also after a second restore, and comes
// back with the checkpoint.
func TestRestoreRewindsBranches(t *testing.T) {
	levels := map[string][]string{"default": nil, "landlock": atLandlock()}
	for name, args := range levels {
		t.Run(name, func(t *testing.T) {
			p := newGitProject(t).repository()
			giveToSandbox(t, p.dir)
			p.must("config", "--global", "safe.directory", "*")
			c := p.serve(args...)
			c.ok("exec_command", map[string]any{"cmd": "true"})
			c.ok("snapshot_create", map[string]any{"label": "base"})
			c.ok("exec_command", map[string]any{"cmd": "set -e; git branch stays; echo 2 > a; git commit -qam two; git branch side; echo s > a; git stash -q; echo t > a; git stash -q; " +
				"git init -q -b main sub; cd sub; echo x > x; git add x; git commit -qm sub"})
			one, two := strings.TrimSpace(p.must("rev-parse", "stays")), strings.TrimSpace(p.must("rev-parse", "main"))
			stashes := strings.Fields(p.must("log", "-g", "--format=%H", "refs/stash"))
			text := c.ok("snapshot_restore", map[string]any{"snapshot_id": "base"}).text()
			ref := restored(t, text, "git: branch main moves from "+two[:10]+" back to "+one[:10])
			restored(t, text, "git: branch side at "+two[:10]+" goes, kept as ")
			restored(t, text, "git: branch stays at "+one[:10]+" goes\n")
			restored(t, text, "git: the stash at ")
			checkpoint := regexp.MustCompile(`to undo this, restore (\S+)`).FindStringSubmatch(text)[1]
			reachable := func(when string) {
				t.Helper()
				if got := strings.TrimSpace(p.must("rev-parse", "main")); got != one {
					t.Errorf("%s: main is at %s, not %s", when, got, one)
				}
				if ref == "" || strings.TrimSpace(p.must("rev-parse", ref)) != two {
					t.Errorf("%s: %q does not keep %s", when, ref, two)
				}
				for _, s := range stashes {
					if out := p.must("for-each-ref", "--contains", s, "refs/mcp-sandbox/undo"); out == "" {
						t.Errorf("%s: the stash %s is not kept", when, s)
					}
				}
				p.must("fsck", "--strict")
			}
			reachable("after a restore")
			c.ok("snapshot_restore", map[string]any{"snapshot_id": "base"})
			reachable("after a second one")

			text = c.ok("snapshot_restore", map[string]any{"snapshot_id": checkpoint}).text()
			restored(t, text, "git: branch main moves from "+one[:10]+" to "+two[:10]+"\n")
			restored(t, text, "git: branch side comes back at "+two[:10])
			if got := strings.Fields(p.must("log", "-g", "--format=%H", "refs/stash")); len(got) != 2 {
				t.Errorf("of the stash came back %v", got)
			}
			// A new repository that was taken away is back whole.
			if out := c.ok("exec_command", map[string]any{"cmd": "git -C sub log --oneline; git -C sub fsck"}).text(); !strings.Contains(out, " sub\n") {
				t.Errorf("%s", out)
			}
			p.must("gc", "-q", "--prune=now")
			if out := p.must("cat-file", "-t", ref); out != "commit\n" {
				t.Errorf("the user's gc took it: %s", out)
			}
			// The path of one branch alone.
			text = c.ok("snapshot_restore", map[string]any{"snapshot_id": "base", "path": ".git/refs/heads"}).text()
			restored(t, text, "branch main moves from "+two[:10])
		})
	}
}

// TestRestoreCommandRewinds: the command line says it too.
func TestRestoreCommandRewinds(t *testing.T) {
	h, p := newHost(t), newGitProject(t).repository()
	giveToSandbox(t, p.dir)
	p.must("config", "--global", "safe.directory", "*")
	id := strings.TrimSpace(h.snapshots(p.dir, "create"))
	h.run("exec", "--root", p.dir, "--git-user", "S <s@example.com>", "--", "echo 2 > a; git commit -qam two")
	two := strings.TrimSpace(p.must("rev-parse", "main"))
	ref := restored(t, h.snapshots(p.dir, "restore", id), "git: branch main moves from "+two[:10]+" back to ")
	if ref == "" || strings.TrimSpace(p.must("rev-parse", ref)) != two {
		t.Errorf("%q does not keep %s", ref, two)
	}
}
