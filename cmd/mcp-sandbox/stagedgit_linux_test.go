package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// git runs git outside, as the user.
func (p *stagedProject) git(args ...string) string {
	p.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", p.dir, "-c", "user.name=u", "-c", "user.email=u@example.org", "-c", "gc.auto=0"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (p *stagedProject) repository() {
	p.t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		p.t.Skip("no git here")
	}
	p.git("init", "-q", "-b", "main")
	p.git("add", "-A")
	p.git("commit", "-qm", "first")
	p.git("branch", "topic")
	p.settled()
}

const insideGit = `set -e; export GIT_AUTHOR_NAME=s GIT_AUTHOR_EMAIL=s@example.org GIT_COMMITTER_NAME=s GIT_COMMITTER_EMAIL=s@example.org; `

// gitChange is the entry of the repository in a review, "" without one.
func gitChangeOf(r reviewReport) (title, conflict string) {
	for _, c := range r.Changes {
		if c.Type == "git" {
			return c.Git, c.Conflict
		}
	}
	return "", ""
}

// TestStagedGit: what git wrote in a staged session is one entry of the review, data
// that a plain apply publishes; programs stay a person's to allow, and what moved on
// both sides is named, with neither side lost.
func TestStagedGit(t *testing.T) {
	for i, c := range []struct {
		name, inside string
		outside      func(p *stagedProject) // while the stage waits
		title        string
		conflict     string
		check        func(p *stagedProject) string // of the project, after a plain apply
		want         string
	}{
		{"commits", "for i in 1 2 3; do echo $i >> a.txt; git commit -qam c$i; done", nil, "3 commits on main, index", "",
			func(p *stagedProject) string { return p.git("log", "--format=%s") + p.git("status", "--porcelain") }, "c3\nc2\nc1\nfirst"},
		{"index alone", "echo x > new; git add new", nil, "index", "",
			func(p *stagedProject) string { return p.git("status", "--porcelain") }, "A  new"},
		{"a branch", "git switch -qc next; echo x > new; git add new; git commit -qm c", nil, "1 commit on next, HEAD on next, index", "",
			func(p *stagedProject) string {
				return p.git("log", "-1", "--format=%s", "next") + " " + p.git("symbolic-ref", "HEAD")
			}, "c refs/heads/next"},
		{"a tag, and a branch gone", "git tag v1; git branch -qD topic", nil, "topic removed, tags/v1 made", "",
			func(p *stagedProject) string {
				return p.git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags")
			}, "refs/heads/main\nrefs/tags/v1"},
		{"gc inside", "echo 1 >> a.txt; git commit -qam c1; git gc -q", nil, "main moved, index", "",
			func(p *stagedProject) string { return p.git("log", "--format=%s") + p.git("fsck") }, "c1\nfirst"},
		{"settings", "git config remote.origin.url https://example.org/x.git", nil, "settings", "",
			func(p *stagedProject) string { return p.git("config", "remote.origin.url") }, "https://example.org/x.git"},
		{"a merge under way", "git switch -q topic; echo t > a.txt; git commit -qam t; git switch -q main; echo m > a.txt; git commit -qam m; git merge -q topic || true", nil, "1 commit on main, 1 commit on topic, a merge under way, index", "",
			func(p *stagedProject) string { return p.git("status", "--porcelain") }, "UU a.txt"},
		{"the user looks meanwhile", "echo 1 >> a.txt; git commit -qam c1",
			func(p *stagedProject) { p.git("status"); p.git("update-index", "--refresh", "--force-write-index") }, "1 commit on main, index", "",
			func(p *stagedProject) string { return p.git("log", "--format=%s") }, "c1\nfirst"},
		{"the user commits on another branch", "echo 1 >> a.txt; git commit -qam c1",
			func(p *stagedProject) {
				p.git("update-ref", "refs/heads/topic", p.git("commit-tree", "-p", "topic", "-m", "t", "topic^{tree}"))
			}, "1 commit on main, index", "",
			func(p *stagedProject) string {
				return p.git("log", "--format=%s") + " " + p.git("log", "--format=%s", "-1", "topic")
			}, "c1\nfirst t"},
		{"the user commits on the same branch", "echo 1 >> a.txt; git commit -qam c1",
			func(p *stagedProject) {
				p.git("update-ref", "refs/heads/main", p.git("commit-tree", "-p", "main", "-m", "theirs", "main^{tree}"))
			}, "1 commit on main, index", "main was moved in the project meanwhile",
			func(p *stagedProject) string { return p.git("log", "--format=%s") }, "theirs\nfirst"},
	} {
		if !long() && i > 0 && c.conflict == "" {
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
			r := p.review()
			title, conflict := gitChangeOf(r)
			if title != c.title || conflict != c.conflict {
				t.Errorf("the entry is %q, conflict %q; want %q, %q\n%+v", title, conflict, c.title, c.conflict, r.Changes)
			}
			for _, ch := range r.Changes {
				if strings.HasPrefix(ch.Path, ".git/") {
					t.Errorf("listed apart: %s %s", ch.Kind, ch.Path)
				}
			}
			r = p.review("--apply", ".")
			if c.conflict == "" && len(r.Applied.Left) > 0 || c.conflict != "" && (len(r.Applied.Left) != 1 || !strings.Contains(r.Applied.Left[0].Why, c.conflict)) {
				t.Errorf("left: %+v", r.Applied.Left)
			}
			if got := c.check(p); got != c.want {
				t.Errorf("the project has %q, want %q", got, c.want)
			}
			p.git("fsck", "--strict")
			if c.conflict == "" {
				if title, _ := gitChangeOf(r); title != "" {
					t.Errorf("waits even so: %s", title)
				}
				return
			}
			// With a yes both sides are kept, and it is told once.
			r = p.review("--apply", ".", "--conflicts")
			if len(r.Applied.Left) == 0 || !strings.Contains(r.Applied.Left[0].Why, "refs/mcp-sandbox/conflict/") {
				t.Errorf("left: %+v", r.Applied.Left)
			}
			if got := c.check(p); got != c.want {
				t.Errorf("the project has %q, want %q", got, c.want)
			}
			if refs := p.git("for-each-ref", "--format=%(subject)", "refs/mcp-sandbox/conflict"); !strings.Contains(refs, "c1") {
				t.Errorf("the session's side is lost: %q", refs)
			}
			if title, _ := gitChangeOf(r); title != "" {
				t.Errorf("asked for again: %s", title)
			}
		})
	}
}

// TestStagedGitPrograms: with the data of a repository nothing arrives that git runs,
// nor is it hidden.
func TestStagedGitPrograms(t *testing.T) {
	p := newStagedProject(t)
	p.repository()
	p.session(insideGit + `echo 1 >> a.txt; git commit -qam c1
printf '#!/bin/sh\ntouch "$PWD/pwned"\n' > .git/hooks/post-checkout; chmod 755 .git/hooks/post-checkout
git config core.fsmonitor 'touch pwned'; git config remote.origin.url https://example.org/x.git
echo /etc > .git/objects/info/alternates; ln -s /etc/passwd .git/refs/heads/leak`)
	r := p.review()
	var apart []string
	for _, c := range r.Changes {
		if strings.HasPrefix(c.Path, ".git/") {
			apart = append(apart, c.Path)
			if !c.Protected {
				t.Errorf("%s is not protected", c.Path)
			}
		}
	}
	if got, want := strings.Join(apart, " "), ".git/config .git/hooks/post-checkout .git/objects/info/alternates .git/refs/heads/leak"; got != want {
		t.Errorf("apart: %s, want %s", got, want)
	}
	if title, _ := gitChangeOf(r); title != "1 commit on main, settings, index" {
		t.Errorf("the entry is %q", title)
	}
	p.review("--apply", ".", "--executable", "--conflicts")
	if got := p.git("log", "--format=%s"); got != "c1\nfirst" {
		t.Errorf("the log is %q", got)
	}
	for _, f := range []string{"hooks/post-checkout", "objects/info/alternates", "refs/heads/leak"} {
		if _, err := os.Lstat(p.dir + "/.git/" + f); !os.IsNotExist(err) {
			t.Errorf("%s arrived: %v", f, err)
		}
	}
	if b, err := os.ReadFile(p.dir + "/.git/config"); err != nil || strings.Contains(string(b), "fsmonitor") || !strings.Contains(string(b), "example.org/x.git") {
		t.Errorf("the settings are %s, %v", b, err)
	}
	if r = p.review(); len(r.Changes) != 4 {
		t.Errorf("what waits: %+v", r.Changes)
	}
}

// TestStagedGitNamed: git directories with other names, of the project or made by the
// session, are entries like a .git, and what git would run of them stays apart.
func TestStagedGitNamed(t *testing.T) {
	p := newStagedProject(t)
	p.repository()
	p.git("clone", "-q", "--bare", ".", "bare.git")
	p.git("clone", "-q", "--separate-git-dir", p.dir+"/kept.git", ".", "work")
	p.settled()
	p.session(insideGit + `(cd work; echo 1 > a.txt; git commit -qam c1; git push -q ../bare.git main)
git init -q --bare new.git; (cd work; git push -q ../new.git main); git -C new.git config core.hooksPath /tmp
git -C kept.git gc -q; git -C bare.git config core.sshCommand 'touch pwned'
mkdir -p src/objects src/refs .vscode/objects .vscode/refs; echo 'ref: refs/heads/x' | tee src/HEAD > .vscode/HEAD; echo x > .vscode/config`)
	entries := func(r reviewReport) string {
		var out []string
		for _, c := range r.Changes {
			if c.Type == "git" {
				out = append(out, c.Path+": "+c.Git)
			} else if strings.Contains(c.Path, ".git/") {
				out = append(out, c.Path)
			}
		}
		return strings.Join(out, "\n")
	}
	r := p.review()
	const want = "bare.git: 1 commit on main\nbare.git/config\nkept.git: main moved, index\nnew.git: a new repository\nsrc: a new repository"
	if got := entries(r); got != want {
		t.Errorf("the entries are\n%s\nwant\n%s", got, want)
	}
	for _, c := range r.Changes {
		if strings.HasPrefix(c.Path, ".vscode") && !c.Protected {
			t.Errorf("%s counts as data of a repository", c.Path)
		}
	}
	r = p.review("--apply", ".")
	for _, dir := range []string{"bare.git", "kept.git", "new.git"} {
		if got := p.git("-C", p.dir+"/"+dir, "log", "--format=%s", "main"); got != "c1\nfirst" {
			t.Errorf("%s has %q", dir, got)
		}
		p.git("-C", p.dir+"/"+dir, "fsck", "--strict")
	}
	if got := p.git("-C", p.dir+"/new.git", "rev-parse", "--is-bare-repository"); got != "true" {
		t.Errorf("new.git is bare: %s", got)
	}
	if got := p.git("-C", p.dir+"/work", "status", "--porcelain"); got != "" {
		t.Errorf("the working tree: %s", got)
	}
	if got := entries(r); got != "bare.git/config\nnew.git/config" {
		t.Errorf("waits: %s", got)
	}
	for _, dir := range []string{"bare.git", "new.git"} {
		if b, err := os.ReadFile(p.dir + "/" + dir + "/config"); err != nil || strings.Contains(string(b), "sshCommand") || strings.Contains(string(b), "hooksPath") {
			t.Errorf("the settings of %s are %s, %v", dir, b, err)
		}
	}
}
