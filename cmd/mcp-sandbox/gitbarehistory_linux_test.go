package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestGitBareUndo: what a ref of a bare repository led to stays reachable, however far
// below the root it lies, with the first command of a session and when the session
// removes what keeps it.
func TestGitBareUndo(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	for _, at := range []string{"b.git", "q/q/q/q/far.git", "."} {
		for name, cmd := range map[string]string{
			"delete": "git update-ref -d refs/heads/side; git update-ref --no-deref HEAD main",
			"packed": "rm packed-refs; git rev-parse HEAD~1 > x; cat x > HEAD; rm x",
			"move":   "test $PWD = $TOP || { mv ../${PWD##*/} ../k; cd ../k; }; : > packed-refs; git symbolic-ref HEAD refs/heads/none; test $PWD = $TOP || mv ../k $OLDPWD",
			"locked": `U=refs/mcp-sandbox/undo/$(date -u +%Y%m%d); mkdir -p $U/heads; touch $U/heads/side-$(git rev-parse side | cut -c1-10).lock $U/HEAD-$(git rev-parse HEAD | cut -c1-10).lock; git update-ref -d refs/heads/side; git update-ref --no-deref HEAD main`,
			"modes":  "git update-ref -d refs/heads/side; git update-ref --no-deref HEAD main; mkdir -p refs/mcp-sandbox/undo; chmod 0 refs/mcp-sandbox refs/tags; chmod 555 refs",
			"link":   "git update-ref -d refs/heads/side; git update-ref --no-deref HEAD main; mv refs r2; ln -s r2 refs",
		} {
			if !long() && at != "." && name != "delete" && name != "move" {
				continue
			}
			t.Run(at+" "+name, func(t *testing.T) {
				t.Parallel()
				p := newGitProject(t).repository()
				p.must("checkout", "-q", "-b", "side")
				p.must("commit", "-q", "--allow-empty", "-m", "side")
				p.must("checkout", "-q", "--detach", "main")
				p.must("commit", "-q", "--allow-empty", "-m", "detached")
				had := strings.Fields(p.must("rev-parse", "side", "HEAD"))
				if at == "." {
					p.must("clone", "-q", "--bare", ".", "../root")
					p.dir = filepath.Join(filepath.Dir(p.dir), "root")
					openPath(t, p.dir)
				} else {
					p.must("clone", "-q", "--bare", ".", at)
				}
				c := p.serve()
				c.exec(map[string]any{"cmd": "TOP=$PWD; cd " + at + "; " + cmd})
				c.exec(map[string]any{"cmd": "cd " + at + "; rm -rf refs/mcp-sandbox; ln -s /tmp refs/mcp-sandbox; git pack-refs --all; git gc -q --prune=now"})
				c.stop()
				p.must("-C", at, "gc", "-q", "--prune=now")
				all := p.must("-C", at, "rev-list", "--all")
				for i, oid := range had {
					if !strings.Contains(all, oid) {
						t.Errorf("%s is not reachable: %s", []string{"side", "the detached HEAD"}[i], p.must("-C", at, "for-each-ref"))
					}
				}
			})
		}
	}
}
