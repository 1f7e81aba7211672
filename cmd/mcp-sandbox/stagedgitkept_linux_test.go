package main

import (
	"os"
	"strings"
	"testing"
)

// TestStagedGitKept: what is not certainly in the project, and that nobody has refused,
// stays in the stage and is listed, whatever is agreed to.
func TestStagedGitKept(t *testing.T) {
	for i, c := range []struct {
		name, inside string
		outside      func(p *stagedProject) // while the stage waits
		left         string                 // of why something is left
		waits        string                 // of what is listed even so
		check        func(p *stagedProject) string
		want         string
	}{
		{"git holds a lock", "echo 1 >> a.txt; git commit -qam c1",
			func(p *stagedProject) { putText(p.t, p.dir+"/.git/refs/heads/main.lock", "") }, "is locked outside", ".git main",
			func(p *stagedProject) string {
				_ = os.Remove(p.dir + "/.git/refs/heads/main.lock")
				p.review("--apply", ".", "--conflicts")
				return p.git("log", "--format=%s")
			}, "c1\nfirst"},
		{"no place for objects", "echo 1 >> a.txt; git commit -qam c1",
			func(p *stagedProject) {
				p.git("gc", "-q", "--prune=now")
				if err := os.Rename(p.dir+"/.git/objects", p.dir+"/objects"); err != nil {
					p.t.Fatal(err)
				}
				putText(p.t, p.dir+"/.git/objects", "")
			}, "publish an object", ".git 1 commit on main", func(p *stagedProject) string {
				if err := os.Remove(p.dir + "/.git/objects"); err != nil {
					return err.Error()
				}
				if err := os.Rename(p.dir+"/objects", p.dir+"/.git/objects"); err != nil {
					return err.Error()
				}
				p.review("--apply", ".", "--conflicts")
				return p.git("log", "--format=%s")
			}, "c1\nfirst"},
		{"a text of both", "echo mine >> .git/info/exclude",
			func(p *stagedProject) { putText(p.t, p.dir+"/.git/info/exclude", "theirs\n") }, "changed outside too", "info/exclude",
			func(p *stagedProject) string {
				b, _ := os.ReadFile(p.dir + "/.git/info/exclude")
				return string(b)
			}, "theirs\n"},
		{"a merge of both", "git switch -q topic; echo t > a.txt; git commit -qam t; git switch -q main; echo m > a.txt; git commit -qam m; git merge -q topic || true",
			func(p *stagedProject) {
				putText(p.t, p.dir+"/.git/MERGE_HEAD", p.git("rev-parse", "topic")+"\n")
				putText(p.t, p.dir+"/.git/MERGE_MSG", "theirs\n")
			}, "MERGE_HEAD was changed outside too", "a merge under way",
			func(p *stagedProject) string {
				b, _ := os.ReadFile(p.dir + "/.git/MERGE_MSG")
				return string(b)
			}, "theirs\n"},
		{"objects of LFS", "mkdir -p .git/lfs/objects/ab; echo large > .git/lfs/objects/ab/abcd", nil, "", ".git/lfs/objects/ab/abcd",
			func(p *stagedProject) string { return p.git("log", "--format=%s") }, "first"},
		{"objects without a ref", "echo x | git hash-object -w --stdin", func(p *stagedProject) {}, "", "", // applied
			func(p *stagedProject) string {
				return p.git("cat-file", "-p", "587be6b4c3f93f93c489c0111bba5596147a26cb")
			}, "x"},
	} {
		if !long() && i > 0 && i != 3 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newStagedProject(t)
			p.repository()
			p.session(insideGit + c.inside)
			if c.outside != nil {
				c.outside(p)
			}
			r := p.review("--apply", ".", "--conflicts")
			found := c.left == ""
			for _, l := range r.Applied.Left {
				found = found || strings.Contains(l.Why, c.left)
			}
			if !found {
				t.Errorf("left: %+v", r.Applied.Left)
			}
			if c.waits == "" {
				// The stage is gone with its last change.
				if got := c.check(p); got != c.want {
					t.Errorf("the project has %q, want %q", got, c.want)
				}
				return
			}
			var waits []string
			for _, ch := range p.review().Changes {
				waits = append(waits, ch.Path+" "+ch.Git)
			}
			if all := strings.Join(waits, "; "); !strings.Contains(all, c.waits) {
				t.Errorf("what waits is %q, want %q", all, c.waits)
			}
			if got := c.check(p); got != c.want {
				t.Errorf("the project has %q, want %q", got, c.want)
			}
		})
	}
}

func putText(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
