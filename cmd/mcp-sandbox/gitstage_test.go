package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// gitProject is a repository of a user, with what runs in it outside.
type gitProject struct {
	t      *testing.T
	dir    string
	home   string
	canary string
}

func newGitProject(t *testing.T) *gitProject {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git")
	}
	base := t.TempDir()
	p := &gitProject{t: t, dir: filepath.Join(base, "project"), home: filepath.Join(base, "home"), canary: filepath.Join(base, "canary")}
	for _, d := range []string{p.dir, p.home} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	openPath(t, p.dir)
	return p
}

// git runs the user's git, as outside.
func (p *gitProject) git(args ...string) (string, error) {
	return p.run(exec.Command("git", args...))
}

// shell runs a line of the user's shell.
func (p *gitProject) shell(line string) (string, error) {
	return p.run(exec.Command("sh", "-c", line))
}

func (p *gitProject) run(cmd *exec.Cmd) (string, error) {
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "HOME="+p.home, "XDG_CONFIG_HOME=", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_EDITOR=true", "GIT_PAGER=cat",
		"GIT_AUTHOR_NAME=u", "GIT_AUTHOR_EMAIL=u@example.com", "GIT_COMMITTER_NAME=u", "GIT_COMMITTER_EMAIL=u@example.com")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (p *gitProject) must(args ...string) string {
	p.t.Helper()
	out, err := p.git(args...)
	if err != nil {
		p.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (p *gitProject) write(name, text string) {
	p.t.Helper()
	f := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// repository makes the project one with a commit.
func (p *gitProject) repository() *gitProject {
	p.must("init", "-q", "-b", "main")
	p.write("a", "one\n")
	p.must("add", ".")
	p.must("commit", "-q", "-m", "one")
	return p
}

// serve starts a session in the project.
func (p *gitProject) serve(args ...string) *client {
	p.t.Helper()
	args = append([]string{"--root", p.dir, "--git-user", "S <s@example.com>"}, args...)
	if staged() && !slices.Contains(args, "--confine") {
		args = append(args, "--min-confinement", "namespaces-noproc") // a lower level has no stage
	}
	c := startServer(p.t, args...)
	c.initialize("2025-11-25")
	return c
}

// staged says whether the level of the tests stages git directories.
func staged() bool { return os.Getenv("MCP_SANDBOX_TEST_LEVEL") != "landlock" }

// TestGitInside: what agents do with git works inside, in every kind of
// repository, and what is data of it is there for git outside.
func TestGitInside(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	kinds := map[string]func(p *gitProject){
		"empty":  func(p *gitProject) {},
		"exists": func(p *gitProject) { p.repository() },
	}
	for kind, prepare := range kinds {
		t.Run(kind, func(t *testing.T) {
			p := newGitProject(t)
			prepare(p)
			c := p.serve()
			for _, cmd := range []string{
				"git init -q -b main 2>&1",
				"echo one > a; git add a; git commit -q -m first --allow-empty",
				"git config user.name Somebody; git config core.editor vim; test $(git config user.name) = Somebody",
				"git remote add origin https://example.com/x.git; git remote -v | grep -q example.com",
				"git branch -m trunk; git branch -m main",
				"echo two >> a; git commit -q -a -m second",
				"git commit -q --amend -m second-amended",
				"git checkout -q -b feature; echo f > f; git add f; git commit -q -m feature",
				"git checkout -q main; git merge -q --no-ff -m merged feature",
				"git tag v1; git tag -a v2 -m two",
				"echo dirty >> a; git stash -q; git stash pop -q; git checkout -q a",
				"git log --oneline --graph --all; git diff HEAD~1; git show --stat; git blame a; git reflog",
				"GIT_SEQUENCE_EDITOR='sed -i s/pick/reword/' GIT_EDITOR=true git rebase -q -i HEAD~1",
				"git checkout -q -b conflict HEAD~1; echo other > a; git commit -q -a -m other; git checkout -q main; echo mine > a; git commit -q -a -m mine; ! git merge -q conflict; git merge --abort",
				"git cherry-pick -X theirs conflict; git revert --no-edit HEAD",
				"git worktree add -q ../$(basename $PWD)/wt -b wt 2>/dev/null || true",
				"git pack-refs --all; git gc -q; git fsck",
				"printf '#!/bin/sh\\necho hook ran > hook.out\\n' > .git/hooks/post-commit; chmod +x .git/hooks/post-commit; git commit -q --allow-empty -m hooked; grep -q ran hook.out; rm hook.out",
				"git clone -q . copy && git -C copy log --oneline | grep -q second && git -C copy push -q -u origin HEAD:refs/heads/pushed",
				"git init -q nested && git -C nested commit -q --allow-empty -m n && mv nested moved && git -C moved log --oneline && rm -rf nested",
				"mkdir sub && cd sub && git status --short && cd .. && rmdir sub",
				"git notes add -m note HEAD; git bisect start HEAD HEAD~1; git bisect reset",
				"mkdir d; git sparse-checkout set d; git sparse-checkout disable;  git rm -q --cached a; git reset -q; git clean -nd; git ls-files; git count-objects",
				"git switch -q -c s; git restore a; git switch -q main; git branch -D s; git tag -d v1; git shortlog -s HEAD; git describe --always; git grep -c one HEAD -- f || git grep -c f",
			} {
				o := c.exec(map[string]any{"cmd": "set -e; " + cmd, "yield_time_ms": 40000})
				if o.ExitCode == nil || *o.ExitCode != 0 {
					t.Errorf("%s: exit %v, %q", cmd, o.ExitCode, o.Output)
				}
			}
			inside := c.sh("git rev-parse HEAD; git for-each-ref --format='%(refname) %(objectname)' | grep -v ^refs/mcp-sandbox/; git status --short")
			outside := p.must("rev-parse", "HEAD")
			for line := range strings.Lines(p.must("for-each-ref", "--format=%(refname) %(objectname)")) {
				if !strings.HasPrefix(line, "refs/mcp-sandbox/") {
					outside += line
				}
			}
			outside += p.must("status", "--short")
			if inside != outside {
				t.Errorf("inside:\n%s\noutside:\n%s", inside, outside)
			}
			if out := p.must("fsck", "--strict"); strings.Contains(out, "error") {
				t.Errorf("fsck: %s", out)
			}
			if got := p.must("config", "remote.origin.url"); got != "https://example.com/x.git\n" {
				t.Errorf("the remote is %q outside", got)
			}
			for _, key := range []string{"core.editor", "user.name"} {
				if out, err := p.git("config", "--local", key); err == nil {
					t.Errorf("%s is %q outside", key, out)
				}
			}
		})
	}
}

// canaryWays are ways to have git outside run a program. Each is a shell command
// in the project; EVIL is a script that leaves the canary.
var canaryWays = []struct{ name, cmd string }{
	{"fsmonitor", "git config core.fsmonitor $EVIL"},
	{"fsmonitor by hand", "printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL >> .git/config"},
	{"config through a descriptor", "exec 7<.git; printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL >> /dev/fd/7/config"},
	{"config replaced", "printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL > x; mv x .git/config"},
	{"config a link", "printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL > x; ln -sf ../x .git/config"},
	{"config a hard link", "printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL > .git/x; ln -f .git/x .git/config"},
	{"include", "printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL > inc; git config include.path ../inc"},
	{"includeIf", "printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL > inc; git config includeIf.gitdir:/.path ../inc"},
	{"worktree config", "git config extensions.worktreeConfig true; git config --worktree core.fsmonitor $EVIL"},
	{"pager", "git config core.pager $EVIL; git config pager.log $EVIL; git config pager.status true"},
	{"editor", "git config core.editor $EVIL; git config sequence.editor $EVIL"},
	{"ssh command", "git config core.sshCommand $EVIL; git remote add r ssh://localhost/x"},
	{"askpass", "git config core.askPass $EVIL"},
	{"git proxy", "git config core.gitProxy $EVIL; git remote add r git://localhost/x"},
	{"hooks path", "mkdir h; cp $EVIL h/post-checkout; cp $EVIL h/pre-commit; git config core.hooksPath $PWD/h"},
	{"alias", "git config alias.st '!'$EVIL; git config alias.status '!'$EVIL"},
	{"external diff", "git config diff.external $EVIL; echo z >> a"},
	{"diff driver", "git config diff.x.textconv $EVIL; git config diff.x.command $EVIL; echo '* diff=x' > .git/info/attributes; echo '* diff=x' > .gitattributes; echo z >> a"},
	{"filter", "git config filter.x.clean $EVIL; git config filter.x.smudge $EVIL; git config filter.x.process $EVIL; echo '* filter=x' > .gitattributes; echo z >> a"},
	{"merge driver", "git config merge.x.driver $EVIL; echo '* merge=x' > .gitattributes"},
	{"credential helper", "git config credential.helper '!'$EVIL"},
	{"gpg", "git config gpg.program $EVIL; git config commit.gpgSign true; git config log.showSignature true; git config gpg.ssh.program $EVIL"},
	{"trailer", "git config trailer.x.command $EVIL; git config trailer.x.key X"},
	{"browser and tools", "git config diff.tool x; git config difftool.x.cmd $EVIL; git config merge.tool x; git config mergetool.x.cmd $EVIL"},
	{"remote helper", "git remote add r \"ext::$EVIL %S\"; git config protocol.ext.allow always; git config branch.main.remote r; git config branch.main.merge refs/heads/main"},
	{"remote by branch", "git config branch.main.remote \"ext::$EVIL\"; git config protocol.allow always; git config branch.main.merge refs/heads/main"},
	{"upload pack", "git remote add r /nowhere; git config remote.r.uploadpack $EVIL; git config remote.r.receivepack $EVIL; git config remote.r.vcs x"},
	{"insteadOf", "git config url.\"ext::$EVIL \".insteadOf https://; git remote add r https://example.com/x"},
	{"local remote with hooks", "git init -q --bare b.git; cp $EVIL b.git/hooks/pre-receive; git config -f b.git/config core.fsmonitor $EVIL; git remote add r $PWD/b.git; git config branch.main.remote r; git config branch.main.merge refs/heads/main"},
	{"local remote by file", "git init -q --bare b.git; cp $EVIL b.git/hooks/pre-receive; git remote add r file://$PWD/b.git; git config branch.main.pushRemote r"},
	{"alternate refs command", "git config core.alternateRefsCommand $EVIL; echo $PWD/.git/objects > .git/objects/info/alternates"},
	{"pack hook", "git config uploadpack.packObjectsHook $EVIL"},
	{"hook", "for h in pre-commit post-commit post-checkout pre-push post-index-change reference-transaction fsmonitor-watchman post-merge commit-msg prepare-commit-msg pre-auto-gc post-rewrite sendemail-validate; do cp $EVIL .git/hooks/$h; done"},
	{"hook by link", "ln -s $EVIL .git/hooks/pre-commit; ln -s $EVIL .git/hooks/post-index-change"},
	{"hooks a link", "mkdir h; cp $EVIL h/pre-commit; cp $EVIL h/post-index-change; rm -rf .git/hooks; ln -s ../h .git/hooks"},
	{"commondir", "git init -q e; git config -f e/.git/config core.fsmonitor $EVIL; mv e/.git e/x 2>/dev/null; echo ../e/x > .git/commondir; cp -r e/.git e/x; git config -f e/x/config core.fsmonitor $EVIL"},
	{"commondir by hand", "mkdir -p e/objects e/refs; echo 'ref: refs/heads/main' > e/HEAD; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tfsmonitor = %s\\n' $EVIL > e/config; echo ../e > .git/commondir"},
	{"git directory a file", "mkdir -p e/objects e/refs; echo 'ref: refs/heads/main' > e/HEAD; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tfsmonitor = %s\\n' $EVIL > e/config; rm -rf .git; echo 'gitdir: e' > .git"},
	{"git directory moved", "mkdir -p e/objects e/refs; echo 'ref: refs/heads/main' > e/HEAD; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tfsmonitor = %s\\n' $EVIL > e/config; mv .git old; mv e .git"},
	{"git directory a link", "mkdir -p e/objects e/refs; echo 'ref: refs/heads/main' > e/HEAD; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tfsmonitor = %s\\n' $EVIL > e/config; rm -rf .git; ln -s e .git"},
	{"git directory exchanged", "mkdir -p e/objects e/refs; echo 'ref: refs/heads/main' > e/HEAD; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tfsmonitor = %s\\n' $EVIL > e/config; python3 -c 'import ctypes;ctypes.CDLL(None).renameat2(-100,b\"e\",-100,b\".git\",2)'"},
	{"other letters", "mkdir -p .GIT/objects .GIT/refs; cp .git/HEAD .GIT/; printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL > .GIT/config"},
	{"bare at the root", "mkdir -p objects refs; echo 'ref: refs/heads/main' > HEAD; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = true\\n\\tfsmonitor = %s\\n' $EVIL > config; rm -rf .git"},
	{"gitlink", "git init -q s; git -C s commit -q --allow-empty -m s; git add s; git commit -q -m link; git -C s config core.fsmonitor $EVIL"},
	{"gitlink by hand", "git init -q s; git -C s commit -q --allow-empty -m s; git add s; printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL >> s/.git/config; cp $EVIL s/.git/hooks/post-index-change"},
	{"gitlink with a file", "git init -q s; git -C s commit -q --allow-empty -m s; git add s; cp -r s/.git e; git config -f e/config core.fsmonitor $EVIL; rm -rf s/.git; echo \"gitdir: ../e\" > s/.git"},
	{"gitlink in a moved directory", "mkdir m; git init -q m/s; git -C m/s commit -q --allow-empty -m s; mv m k; git add k/s; git -C k/s config core.fsmonitor $EVIL"},
	{"gitlink from a made directory", "mkdir -p n/x/objects n/x/refs; echo 'ref: refs/heads/main' > n/x/HEAD; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tfsmonitor = %s\\n' $EVIL > n/x/config; mv n/x n/.git; git add n"},
	{"module", "mkdir -p .git/modules/s/objects .git/modules/s/refs; echo 'ref: refs/heads/main' > .git/modules/s/HEAD; printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL > .git/modules/s/config; mkdir s; echo 'gitdir: ../.git/modules/s' > s/.git; printf '[submodule \"s\"]\\n\\tpath = s\\n\\turl = ./s\\n\\tupdate = !%s\\n' $EVIL > .gitmodules; git add .gitmodules"},
	{"submodule update", "git config submodule.s.update '!'$EVIL; git config submodule.s.url https://example.com/x"},
	{"linked worktree", "git worktree add -q wt -b wt; git config extensions.worktreeConfig true; git -C wt config --worktree core.fsmonitor $EVIL"},
	{"rebase todo", "mkdir .git/rebase-merge; echo main > .git/rebase-merge/head-name; git rev-parse HEAD > .git/rebase-merge/onto; git rev-parse HEAD > .git/rebase-merge/orig-head; echo \"exec $EVIL\" > .git/rebase-merge/git-rebase-todo; : > .git/rebase-merge/interactive; echo 1 > .git/rebase-merge/end; echo 0 > .git/rebase-merge/msgnum"},
	{"rebase strategy", "mkdir .git/rebase-merge; echo main > .git/rebase-merge/head-name; git rev-parse HEAD > .git/rebase-merge/onto; git rev-parse HEAD > .git/rebase-merge/orig-head; echo \"pick $(git rev-parse HEAD)\" > .git/rebase-merge/git-rebase-todo; : > .git/rebase-merge/interactive; echo \"/../../..$EVIL\" > .git/rebase-merge/strategy"},
	{"author script", "mkdir .git/rebase-apply; echo \"GIT_AUTHOR_NAME='x'; $EVIL\" > .git/rebase-apply/author-script; echo 1 > .git/rebase-apply/next; echo 1 > .git/rebase-apply/last; : > .git/rebase-apply/applying"},
	{"index with a git path", "python3 - <<'E'\nimport struct,hashlib,os,subprocess\noid=subprocess.check_output(['git','hash-object','-w',os.environ['EVIL']]).strip().decode()\nname=b'.git/hooks/pre-commit'\ne=struct.pack('>10I',0,0,0,0,0,0,0o100755,0,0,0)+bytes.fromhex(oid)+struct.pack('>H',len(name))+name\ne+=b'\\0'*(8-len(e)%8)\nb=b'DIRC'+struct.pack('>2I',2,1)+e\nopen('.git/index','wb').write(b+hashlib.sha1(b).digest())\nE"},
	{"system and global files", "git config --global core.fsmonitor $EVIL; git config --system core.fsmonitor $EVIL"},
	{"home files", "printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL > .gitconfig; cp $EVIL .envrc; mkdir .vscode"},
	{"removed and made again", "rm -rf .git; git init -q; git config core.fsmonitor $EVIL; cp $EVIL .git/hooks/pre-commit; git commit -q --allow-empty -m x"},
	{"background writer", "(for i in 1 2 3 4 5 6 7 8 9 10; do printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL >> .git/config; cp $EVIL .git/hooks/pre-commit; sleep 0.05; done) >/dev/null 2>&1 &"},
	{"module complete", "git init -q lib; git -C lib commit -q --allow-empty -m l; git -c protocol.file.allow=always submodule add -q $PWD/lib s; git commit -qm s; git -C s config core.fsmonitor $EVIL; cp $EVIL .git/modules/s/hooks/post-index-change; git -C s config core.worktree /; git -C s config core.hooksPath $PWD"},
	{"module elsewhere", "git init -q lib; git -C lib commit -q --allow-empty -m l; git -c protocol.file.allow=always submodule add -q $PWD/lib s; git commit -qm s; cp -r .git/modules/s e; git config -f e/config core.fsmonitor $EVIL; git config -f e/config core.worktree $PWD/s; echo \"gitdir: $PWD/e\" > s/.git; true; sleep 0.1; echo \"gitdir: ../e\" > s/.git"},
	{"module in a ref", "git init -q s; git -C s commit -q --allow-empty -m s; git add s; mv s/.git e; for d in modules/s worktrees/s logs/refs/heads/s refs/heads/s; do mkdir -p .git/$d; cp -r e/* .git/$d; printf '[core]\\n\\tfsmonitor = %s\\n\\tworktree = %s\\n' $EVIL $PWD/s > .git/$d/config; echo \"gitdir: $PWD/.git/$d\" > s/.git; git -C s status; done"},
	{"worktree of another repository", "git init -q r; git -C r commit -q --allow-empty -m r; git -C r worktree add -q ../wt -b wt; mkdir -p e/.git; cp -r r/.git/. e/x; git config -f e/x/config core.fsmonitor $EVIL; mv r q; mkdir r; ln -s $PWD/e/x r/.git; git add wt"},
	{"worktree with a common directory", "git worktree add -q wt -b wt; git init -q --bare e; git config -f e/config core.fsmonitor $EVIL; git config -f e/config core.bare false; echo $PWD/e > .git/worktrees/wt/commondir; git config -f .git/worktrees/wt/config core.fsmonitor $EVIL; git config -f .git/worktrees/wt/config.worktree core.fsmonitor $EVIL; git add wt"},
	{"removed git file", "git worktree add -q wt -b wt; sleep 0.1; rm wt/.git; cp -r .git/. wt/x; git config -f wt/x/config core.fsmonitor $EVIL; mv wt/x wt/.git; mkdir wt/.git; cp -r wt/x/. wt/.git; git config -f wt/.git/config core.fsmonitor $EVIL"},
	{"template", "git config init.templateDir $PWD/h; mkdir h"},
	{"value with a line end", "printf '[remote \"x\"]\\n\\turl = \"https://e/\\\\n[core]\\\\n\\\\tfsmonitor = %s\"\\n' $EVIL >> .git/config"},
	{"subsection with a quote", "printf '[remote \"x\\\\\"]\\\\n[core]\\\\nfsmonitor=%s\\\\n[y \\\\\"\"]\\n\\turl = https://e/\\n' $EVIL >> .git/config"},
	{"symbolic ref out", "echo \"ref: ../../../../x\" > .git/HEAD; echo \"ref: refs/../../x\" > .git/refs/heads/y"},
	{"remote of an old form", "git config protocol.ext.allow always; for g in .git user.git; do mkdir -p $g/remotes $g/branches; printf 'URL: ext::%s %%S\\nPull: refs/heads/main\\nPush: HEAD:refs/heads/x\\n' $EVIL > $g/remotes/origin; echo \"ext::$EVIL %S\" > $g/branches/origin; done; git init -q --bare b.git; mkdir -p b.git/remotes; printf 'URL: ext::%s %%S\\nPull: refs/heads/main\\n' $EVIL > b.git/remotes/origin"},
	{"bare below", "git init -q --bare b.git; git -C b.git config core.fsmonitor $EVIL; git -C b.git config core.bare false; git -C b.git config core.worktree $PWD; for h in reference-transaction post-index-change pre-push post-update; do cp $EVIL b.git/hooks/$h; done; printf '[core]\\n\\tpager = %s\\n' $EVIL >> b.git/config; echo '* filter=x' > b.git/info/attributes"},
	{"bare by hand", "mkdir -p b.git/hooks b.git/info b.git/objects b.git/refs; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tfsmonitor = %s\\n\\tbare = false\\n\\tworktree = %s\\n' $EVIL $PWD > b.git/config; cp $EVIL b.git/hooks/post-index-change; echo 'ref: refs/heads/main' > b.git/HEAD"},
	{"bare completed last by refs", "mkdir -p b.git/objects; echo 'ref: refs/heads/main' > b.git/HEAD; printf '[core]\\n\\tfsmonitor = %s\\n\\tworktree = %s\\n' $EVIL $PWD > b.git/config; exec 7>>b.git/config; cp b.git/config x; mkdir y; mv y b.git/refs; cat x >&7; cat x > b.git/config; mv x b.git/config; ln -f b.git/config z"},
	{"bare of links", "mkdir -p o r; git init -q --bare e; mkdir b.git; ln -s ../o b.git/objects; ln -s ../r b.git/refs; printf '[core]\\n\\tfsmonitor = %s\\n\\tworktree = %s\\n' $EVIL $PWD > b.git/config; cp b.git/config x; ln -s ../x sep.git; ln -s ../x b.git/config.worktree; echo 'ref: refs/heads/main' > b.git/HEAD"},
	{"bare refused and tried again", "mkdir -p b.git/objects b.git/refs b.git/hooks/d; cp $EVIL b.git/hooks/post-index-change; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tfsmonitor = %s\\n\\tbare = false\\n\\tworktree = %s\\n' $EVIL $PWD > x; ln -s ../x b.git/config; for i in 1 2 3; do echo 'ref: refs/heads/main' > b.git/HEAD; cp $EVIL b.git/hooks/pre-push; done; rm b.git/config; cp x b.git/config; chmod 0 b.git/hooks/post-index-change; for i in 1 2 3; do echo 'ref: refs/heads/main' > b.git/HEAD; printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL >> b.git/config; done"},
	{"bare with a common directory", "git init -q --bare e; git config -f e/config core.fsmonitor $EVIL; cp -r e x; git config -f x/config core.fsmonitor $EVIL; mkdir b.git; echo ../x > b.git/commondir; echo 'ref: refs/heads/main' > b.git/HEAD; cp b.git/HEAD k; mv k b.git/commondir"},
	{"bare moved and copied", "git init -q --bare e; cp -r e q; git config -f q/config core.fsmonitor $EVIL; git config -f q/config core.worktree $PWD; mv q b.git; printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL >> b.git/config; cp $EVIL b.git/hooks/post-index-change; mkdir -p k; mv e k/s; git -C k/s config core.fsmonitor $EVIL"},
	{"bare of the user", "git -C user.git config core.fsmonitor $EVIL; git -C user.git config core.bare false; git -C user.git config core.worktree $PWD; for h in reference-transaction post-index-change pre-push; do cp $EVIL user.git/hooks/$h; done; mv user.git/config aside; mv user.git b.git; git -C b.git config core.fsmonitor $EVIL"},
	{"bare of the user far off", "cd q/q/q/q/far.git; git config core.fsmonitor $EVIL; printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL >> config; cp $EVIL hooks/post-index-change; exec 7<config; cat /proc/self/fd/7 > /proc/self/fd/7; python3 -c 'import os; d=os.open(\"config\",os.O_PATH); os.write(os.open(\"/proc/self/fd/%d\"%d,os.O_WRONLY|os.O_APPEND),b\"[core]\\n\\tfsmonitor = \"+os.environ[\"EVIL\"].encode())'; ln config y; printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL >> y; mv hooks h; mkdir hooks; cp $EVIL hooks/post-index-change"},
	{"separate git directory", "git init -q --separate-git-dir sep.git s; git -C s commit -q --allow-empty -m s; git -C s config core.fsmonitor $EVIL; git -C s config core.worktree $PWD/s; cp $EVIL sep.git/hooks/post-index-change"},
	{"mirror", "git clone -q --mirror . b.git; git -C b.git config core.fsmonitor $EVIL; git -C b.git config core.bare false; git -C b.git config core.worktree $PWD; cp $EVIL b.git/hooks/post-index-change; git clone -q --bare . sep.git; printf '[core]\\n\\tfsmonitor = %s\\n' $EVIL > x; mv x sep.git/config"},
	{"object that is a link", "rm -rf .git/objects/pack; ln -s /etc .git/objects/pack; mkdir -p .git/objects/aa; ln -s /etc/passwd .git/objects/aa/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
}

// TestGitCanary: nothing that a session does has the user's git run a program
// outside, while the session lives or after it.
func TestGitCanary(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	if len(canaryWays) < 60 {
		t.Errorf("only %d ways are tried", len(canaryWays))
	}
	levels := [][]string{nil, {"--confine", "namespaces-noproc"}}
	for i, a := range canaryWays {
		for n, level := range levels {
			if long() || i%4 == 0 && n == 0 {
				tryCanary(t, a.name, a.cmd, true, level...)
			}
		}
	}
}

// TestGitCanaryPutBack: the same where what git obeys is put back.
func TestGitCanaryPutBack(t *testing.T) {
	for i, a := range canaryWays {
		if long() || i%6 == 1 {
			// What runs in the background may be faster than who puts back.
			tryCanary(t, a.name, a.cmd, a.name != "background writer", atLandlock()...)
		}
	}
}

func tryCanary(t *testing.T, name, cmd string, during bool, args ...string) {
	t.Run(strings.Join(append([]string{strings.ReplaceAll(name, " ", "_")}, args...), "_"), func(t *testing.T) {
		t.Parallel()
		p := newGitProject(t).repository()
		p.write("ev.sh", "#!/bin/sh\necho \"$0 $*\" >> "+p.canary+"\nexit 0\n")
		if err := os.Chmod(filepath.Join(p.dir, "ev.sh"), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "bare of the user") || name == "remote of an old form" {
			p.must("clone", "-q", "--bare", ".", "user.git")
			p.must("clone", "-q", "--bare", ".", "q/q/q/q/far.git")
		}
		openPath(t, p.dir)
		c := p.serve(args...)
		c.exec(map[string]any{"cmd": "export EVIL=$PWD/ev.sh; " + cmd, "yield_time_ms": 20000})
		if during {
			p.outside("while the session lives")
		}
		c.exec(map[string]any{"cmd": "git status; git commit -q --allow-empty -m more; true"})
		c.stop()
		p.outside("after the session")
	})
}

// outside does with git what users, editors and shells do.
func (p *gitProject) outside(when string) {
	p.t.Helper()
	p.write("mine", when)
	for _, dir := range []string{"b.git", "sep.git", "user.git", "e", "q", "q/q/q/q/far.git"} {
		if _, err := os.Lstat(filepath.Join(p.dir, dir)); err != nil {
			continue
		}
		for _, args := range [][]string{{"status"}, {"log", "-1"}, {"push", "--dry-run"}, {"branch", "probe"}, {"diff"}, {"fetch"}} {
			_, _ = p.git(append([]string{"-C", dir}, args...)...)
		}
	}
	for _, args := range [][]string{
		{"status"}, {"-C", "s", "status"}, {"-C", "k/s", "status"}, {"-C", "wt", "status"}, {"log", "-2", "-p"}, {"diff"}, {"diff", "--cached"}, {"show"},
		{"fetch", "--all"}, {"fetch"}, {"add", "mine"}, {"commit", "-q", "-m", when}, {"push", "--dry-run"}, {"push"}, {"stash"}, {"stash", "pop"}, {"checkout", "-q", "-f", "."},
		{"rebase", "--continue"}, {"am", "--continue"}, {"submodule", "status"}, {"submodule", "update"}, {"st"}, {"branch", "-a"}, {"gc", "--auto"}, {"checkout", "-q", "-B", "probe"},
	} {
		_, _ = p.git(args...)
	}
	if b, err := os.ReadFile(p.canary); err == nil {
		config, _ := os.ReadFile(filepath.Join(p.dir, ".git", "config"))
		p.t.Errorf("%s: a program ran outside: %s\nconfig: %s", when, b, config)
	}
}

// TestGitConflict: what is changed inside and outside at the same time is named,
// and both sides are there.
func TestGitConflict(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	p := newGitProject(t).repository()
	c := p.serve()
	o := c.exec(map[string]any{"cmd": "git commit -q --allow-empty -m inside; git rev-parse HEAD; read x", "keep_stdin": true})
	// Published with that call: what comes next is changed outside first.
	p.must("commit", "-q", "--allow-empty", "-m", "outside")
	outside := strings.TrimSpace(p.must("rev-parse", "main"))
	o2 := c.exec(map[string]any{"cmd": "git commit -q --allow-empty -m again; git rev-parse HEAD"})
	inside := strings.TrimSpace(o2.Output)
	if got := strings.TrimSpace(p.must("rev-parse", "main")); got != outside {
		t.Errorf("main is %s outside, want the user's %s", got, outside)
	}
	if !slices.ContainsFunc(o2.Notices, func(n string) bool { return strings.Contains(n, "refs/heads/main was changed outside too") }) {
		t.Errorf("notices %q", o2.Notices)
	}
	if got := p.must("for-each-ref", "--format=%(objectname)", "refs/mcp-sandbox/conflict"); !strings.Contains(got, inside) {
		t.Errorf("the session's side %s is not among %q", inside, got)
	}
	c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "chars": "\n"})
	// With nothing running the session sees what is outside.
	if got := c.sh("git rev-parse main"); strings.TrimSpace(got) != outside {
		t.Errorf("the session has main at %s, outside it is %s", got, outside)
	}
	p.must("fsck", "--strict")
	// A look of an editor changes nothing.
	p.must("update-index", "--refresh")
	if o := c.exec(map[string]any{"cmd": "echo b > b; git add b; git commit -q -m b"}); len(o.Notices) != 0 {
		t.Errorf("notices %q", o.Notices)
	}
	if got := p.must("status", "--porcelain"); got != "" {
		t.Errorf("status outside: %q", got)
	}
	// What is outside as it is inside does not stay in the session.
	p.must("config", "alias.st", "status")
	p.write(".git/hooks/post-commit", "#!/bin/sh\n")
	for _, cmd := range []string{"git worktree add -q wt -b wt && git -C wt commit -q --allow-empty -m wt", "git config alias.st status; touch .git/hooks/post-commit"} {
		if o := c.exec(map[string]any{"cmd": cmd}); len(o.Notices) != 0 {
			t.Errorf("%s: notices %q", cmd, o.Notices)
		}
	}
	p.must("-C", "wt", "log", "-1")
	// Of two repositories each is named.
	if o := c.exec(map[string]any{"cmd": "git config core.pager x"}); len(o.Notices) != 1 || !strings.Contains(o.Notices[0], ": core.pager;") {
		t.Errorf("notices %q", o.Notices)
	}
	if o := c.exec(map[string]any{"cmd": "git init -q n; git -C n config core.pager x"}); len(o.Notices) != 1 || !strings.Contains(o.Notices[0], ": n/.git/core.pager;") {
		t.Errorf("notices %q", o.Notices)
	}
	// Refs that are not published are no setting that could run something.
	if o := c.exec(map[string]any{"cmd": "mkdir .git/reftable; echo x > .git/reftable/tables.list; true"}); len(o.Notices) != 1 || !strings.Contains(o.Notices[0], "refs in this format are not published") {
		t.Errorf("reftable: notices %q", o.Notices)
	}
}

// TestGitHistoryStays: nothing a session does makes what the user had unreachable.
func TestGitHistoryStays(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	for name, cmd := range map[string]string{
		"rm":      "rm -rf .git",
		"again":   "rm -rf .git; git init -q; git commit -q --allow-empty -m new",
		"reset":   "git reset -q --hard HEAD~1; git branch -D side; git tag -d v1; git reflog expire --expire=now --all; git gc -q --prune=now",
		"refs":    "rm -rf .git/refs/heads/* .git/packed-refs .git/logs; git update-ref -d refs/heads/main",
		"objects": "rm -rf .git/objects",
		"stashes": "git stash clear; git reflog expire --expire=now --all; git gc -q --prune=now",
		"linked":  "git -C det update-ref --no-deref HEAD HEAD~1",
		"symref":  "git -C det symbolic-ref HEAD refs/heads/none",
	} {
		t.Run(name, func(t *testing.T) {
			p := newGitProject(t).repository()
			p.write("b", "two")
			p.must("add", ".")
			p.must("commit", "-q", "-m", "two")
			p.must("tag", "v1")
			p.must("branch", "side", "HEAD~1")
			p.must("checkout", "-q", "side")
			p.write("c", "three")
			p.must("add", "c")
			p.must("commit", "-q", "-m", "three")
			p.must("checkout", "-q", "main")
			for _, text := range []string{"four", "five"} {
				p.write("b", text)
				p.must("stash", "-q")
			}
			p.must("worktree", "add", "-q", "--detach", "det")
			p.must("-C", "det", "commit", "-q", "--allow-empty", "-m", "six")
			had := strings.Fields(p.must("rev-parse", "main", "side", "v1", "stash@{0}", "stash@{1}") + p.must("-C", "det", "rev-parse", "HEAD"))
			c := p.serve()
			c.exec(map[string]any{"cmd": cmd})
			c.stop()
			_ = os.RemoveAll(filepath.Join(p.dir, ".git/worktrees/det/logs")) // as when it has expired
			p.must("gc", "-q", "--prune=now")
			all := p.must("rev-list", "--all", "--reflog")
			for _, oid := range had {
				if !strings.Contains(all, oid) {
					t.Errorf("%s is not reachable", oid)
				}
			}
			if out := p.must("fsck"); strings.Contains(out, "missing") {
				t.Errorf("fsck: %s", out)
			}
		})
	}
}

// TestGitBareHistoryStays: the same of a bare repository at the root, of which the
// objects and the configuration are staged.
func TestGitBareHistoryStays(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	p := newGitProject(t).repository()
	p.must("branch", "side")
	p.must("commit", "-q", "--allow-empty", "-m", "two")
	p.must("tag", "v1")
	bare := filepath.Join(filepath.Dir(p.dir), "bare")
	p.must("clone", "-q", "--bare", p.dir, bare)
	p.dir = bare
	openPath(t, p.dir)
	had := strings.Fields(p.must("rev-parse", "main", "side"))
	c := p.serve()
	for _, cmd := range []string{
		"git clone -q . /tmp/w; cd /tmp/w; git commit -q --allow-empty -m three; git push -q origin HEAD:main HEAD:new; git rev-parse HEAD > /tmp/three",
		"git symbolic-ref HEAD refs/heads/new; git update-ref refs/heads/main $(git commit-tree -m other HEAD^{tree}); git branch -D side; git tag -d v1",
		"git config core.fsmonitor evil; git remote add up https://example.com/x.git; test $(git config core.fsmonitor) = evil",
		"git gc -q --prune=now; git reflog expire --expire=now --all; git repack -adq; git prune --expire=now",
		"rm -rf objects refs HEAD packed-refs config hooks 2>/dev/null",
	} {
		o := c.exec(map[string]any{"cmd": cmd, "yield_time_ms": 20000})
		if strings.Contains(cmd, "fsmonitor") && (*o.ExitCode != 0 || !strings.Contains(strings.Join(o.Notices, ""), "core.fsmonitor")) {
			t.Errorf("the configuration of a bare repository: %q %q", o.Output, o.Notices)
		}
	}
	had = append(had, strings.TrimSpace(c.sh("cat /tmp/three")))
	p.must("config", "remote.host.url", "https://host.example/x")
	c.sh("git config remote.host.url; git config core.fsmonitor; git remote add later https://later.example/x")
	c.stop()
	if got := p.must("remote"); got != "host\nlater\norigin\nup\n" {
		t.Errorf("remotes outside: %q", got)
	}
	all := p.must("rev-list", "--all")
	for _, oid := range had {
		if !strings.Contains(all, oid) {
			t.Errorf("%s is not reachable", oid)
		}
	}
	if out, err := p.git("config", "core.fsmonitor"); err == nil || p.must("config", "remote.up.url") != "https://example.com/x.git\n" {
		t.Errorf("core.fsmonitor is %q outside; remotes %s", out, p.must("remote", "-v"))
	}
	if got := p.must("symbolic-ref", "HEAD"); got != "refs/heads/new\n" {
		t.Errorf("HEAD is %q", got)
	}
	p.must("fsck", "--strict")
}
