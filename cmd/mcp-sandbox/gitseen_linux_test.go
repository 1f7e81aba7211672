package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGitIsPutBack: at the landlock level commands write git directories where they
// are. What git outside would obey of it is put back and told, in the root and in
// repositories below it, and work that changes none of it is not touched.
func TestGitIsPutBack(t *testing.T) {
	ws := t.TempDir()
	openPath(t, ws)
	make := exec.Command("sh", "-c", "set -e; git init -q .; echo echo mine > .git/hooks/post-merge; git init -q sub/repo; echo echo mine > sub/repo/.git/hooks/post-merge; git init -q lib; cd lib; git commit -q --allow-empty -m one; cd ..; git -c protocol.file.allow=always submodule --quiet add ./lib mod; git add mod; mkdir -p d/e/e/p; git init -q d/e/e/p/deep; echo echo deep > d/e/e/p/deep/.git/hooks/post-merge")
	make.Dir = ws
	make.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + ws, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=u", "GIT_AUTHOR_EMAIL=u@h", "GIT_COMMITTER_NAME=u", "GIT_COMMITTER_EMAIL=u@h"}
	if out, err := make.CombinedOutput(); err != nil {
		t.Skipf("git does not work here: %s", out)
	}
	c := startServer(t, append([]string{"--root", ws, "--git-user", "A <a@b>"}, atLandlock()...)...)
	c.initialize("2025-06-18")
	all := func() string {
		look := exec.Command("sh", "-c", `for g in .git sub/repo/.git .git/modules/mod; do git -C $g rev-parse --git-dir; cat $g/config; ls $g/hooks | grep -v sample; cat $g/hooks/post-merge $g/info/attributes $g/config.worktree $g/commondir; done; cat mod/.git; ls -d .git/rebase*`)
		look.Dir = ws
		look.Env = append(make.Env, "LC_ALL=C")
		out, _ := look.CombinedOutput()
		return string(out)
	}
	before := all()
	for _, tc := range []struct{ cmd, want string }{
		{"true", ""},
		{"echo x > f; git add f; git commit -qm one; git -C sub/repo status; git checkout -qb side", ""},
		{"git config core.fsmonitor ./f", ".git/config (core.fsmonitor)"},
		{"true", ""},
		{"echo x > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit", ".git/hooks/pre-commit"},
		{"chmod +x .git/hooks/post-merge", ".git/hooks/post-merge"},
		{"rm .git/hooks/post-merge", ".git/hooks/post-merge"},
		{"touch -d @0 stamp; echo 'echo evil' > .git/hooks/post-merge; touch -r stamp .git/hooks/post-merge", ".git/hooks/post-merge"},
		{"git config -f .git/config.worktree a.b c", ".git/config.worktree"},
		{"echo evil > .git/commondir", ".git/commondir"},
		{"mkdir -p .git/remotes; echo 'URL: ext::evil' > .git/remotes/origin", ".git/remotes/origin"},
		{"mkdir -p .git/branches; echo 'ext::evil' > .git/branches/origin", ".git/branches/origin"},
		{"mkdir -p .git/info; echo '* filter=x' > .git/info/attributes", ".git/info/attributes"},
		{"git config -f sub/repo/.git/config core.fsmonitor ./f", "sub/repo/.git/config (core.fsmonitor)"},
		{"echo x > sub/repo/.git/hooks/post-checkout", "sub/repo/.git/hooks/post-checkout"},
		{"ln -sfn ../../f sub/repo/.git/hooks/pre-push", "sub/repo/.git/hooks/pre-push"},
		{"git config -f .git/modules/mod/config core.fsmonitor ./f", ".git/modules/mod/config"},
		{"echo 'gitdir: ../sub/repo/.git' > mod/.git", "mod/.git"},
		{"mkdir .git/rebase-merge; echo 'exec evil' > .git/rebase-merge/git-rebase-todo", ".git/rebase-merge"},
		{"mkdir -p a/b; git init -q a/b/made; git -C a/b/made commit -q --allow-empty -m x; git worktree add -q wt; git -C wt status", ""},
		{"git -C a/b/made config alias.x '!evil'; git -C a/b/made config remote.o.url https://example.com/x", "a/b/made/.git/config (alias.x)"},
		{"git init -q --bare plain.git; git -C plain.git config core.fsmonitor evil", "plain.git/config"},
		{"mv sub/repo/.git/hooks sub/repo/.git/kept; ln -s kept sub/repo/.git/hooks", "sub/repo/.git/hooks"},
		{"git worktree add -q wt2 -b wt2; git worktree move wt2 wt3; git -C wt3 status", ""},
		{"echo /tmp/elsewhere/.git > .git/worktrees/wt2/gitdir", ".git/worktrees/wt2/gitdir"},
		{"mkdir -p x; ln -s /tmp x/y; echo $PWD/x/y/.git > .git/worktrees/wt2/gitdir", ".git/worktrees/wt2/gitdir"},
		{"rm .git/worktrees/wt2/gitdir; ln -s ../../../f .git/worktrees/wt2/gitdir", ".git/worktrees/wt2/gitdir"},
		{"git worktree remove wt3; git branch -D wt2", ""},
		{"git config user.name x; git config remote.o.url https://example.com/x; git branch -m other", ""},
		{"true", ""},
	} {
		text := c.call("exec_command", map[string]any{"cmd": tc.cmd}).text()
		if got := strings.Contains(text, "put back, as git outside"); got != (tc.want != "") || !strings.Contains(text, tc.want) {
			t.Errorf("%s: want %q, got %q", tc.cmd, tc.want, text)
		}
		if tc.want != "" {
			if now := all(); now != before {
				t.Errorf("%s: %s\nwas %s", tc.cmd, now, before)
			}
		}
	}
	if out, err := os.ReadFile(filepath.Join(ws, "a/b/made/.git/config")); err != nil || !strings.Contains(string(out), "example.com") {
		t.Errorf("what names no program is %q, %v", out, err)
	}
	// The user's own, while nothing of the session runs.
	put(t, filepath.Join(ws, ".git/hooks/pre-push"), "mine\n")
	c.exec(map[string]any{"cmd": "true"})
	if b, err := os.ReadFile(filepath.Join(ws, ".git/hooks/pre-push")); err != nil || string(b) != "mine\n" {
		t.Errorf("the user's hook is %q, %v", b, err)
	}
	for _, p := range []string{"lib/.git/config", "lib/.git/hooks/pre-commit", "lib/.git/commondir", "a/b/made/.git/info/attributes", ".git/modules/mod/config"} {
		c.bad("path_protected", "write_file", map[string]any{"path": p, "content": "x"})
	}
	if text := c.call("session_info", nil).text(); !strings.Contains(text, "git directories: off, put back") {
		t.Errorf("session_info: %s", text)
	}
	c.exec(map[string]any{"cmd": "git config -f d/e/e/p/deep/.git/config core.fsmonitor evil; mkdir -p g/h/i/j/k; git init -q g/h/i/j/k/l; echo evil > g/h/i/j/k/l/.git/hooks/pre-commit"})
	c.stop()
	if b, err := os.ReadFile(filepath.Join(ws, "d/e/e/p/deep/.git/hooks/post-merge")); err != nil || string(b) != "echo deep\n" {
		t.Errorf("a hook of the user's that lies deep is %q, %v", b, err)
	}
	for _, p := range []string{"d/e/e/p/deep/.git/config", "g/h/i/j/k/l/.git/hooks/pre-commit"} {
		if b, err := os.ReadFile(filepath.Join(ws, p)); err == nil && strings.Contains(string(b), "evil") {
			t.Errorf("after the session %s is %q", p, b)
		}
	}
	kept, _ := filepath.Glob(filepath.Join(c.state, "put-back", "*", "*"))
	if len(kept) == 0 {
		t.Error("nothing of what was put back is in the state directory")
	}
}

// TestGitBehind: what a background process leaves when nothing runs any more, what
// lies behind many other directories, and what is stored in a mapped file without a
// new time, is judged like the rest.
func TestGitBehind(t *testing.T) {
	ws := t.TempDir()
	openPath(t, ws)
	user := exec.Command("sh", "-c", "set -e; git init -q .; git init -q zz/repo; printf '#%4000s\\n' x >> .git/config; ls -A > /dev/null")
	user.Dir = ws
	user.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + ws, "GIT_CONFIG_NOSYSTEM=1"}
	if out, err := user.CombinedOutput(); err != nil {
		t.Skipf("git does not work here: %s", out)
	}
	c := startServer(t, append([]string{"--root", ws}, atLandlock()...)...)
	c.initialize("2025-06-18")
	run := func(cmd string) string { return c.call("exec_command", map[string]any{"cmd": cmd}).text() }
	absent := func(what, p string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(ws, p)); err == nil && strings.Contains(string(b), "evil") {
			t.Errorf("%s: %s is %q", what, p, b)
		}
	}
	for _, file := range []string{".git/hooks/pre-commit", "zz/repo/.git/hooks/pre-commit"} {
		text := run("rm -f done; (sleep 0.3; echo evil > " + file + "; touch done) > /dev/null 2>&1 &")
		waitFor(t, "done", func() bool { _, err := os.Stat(filepath.Join(ws, "done")); return err == nil })
		text += run("true") + run("true")
		absent("left behind", file)
		if !strings.Contains(text, "put back, as git outside could run something because of them: "+file) {
			t.Errorf("what was left behind is not told: %s", text)
		}
	}
	text := run("mkdir $(seq -f a%g 300); echo evil > zz/repo/.git/hooks/post-commit")
	absent("behind others", "zz/repo/.git/hooks/post-commit")
	if !strings.Contains(text, "put back") {
		t.Errorf("behind others: %s", text)
	}
	if text := run("git -C zz/repo config remote.o.url " + ws + "/a1"); !strings.Contains(text, "zz/repo/.git/config (remote.o.url)") {
		t.Errorf("a remote that the session writes: %s", text)
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3")
	}
	put(t, filepath.Join(ws, "map.py"), `import mmap, os, time
f = open(".git/config", "r+b")
m = mmap.mmap(f.fileno(), 0)
at = m.find(b"#")
m[at] = ord("#")
open("ready", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
m[at:at+26] = b"[core]\nfsmonitor=./evil\n#  "[:26]
open("stored", "w").close()
`)
	run("rm -f done; python3 map.py > /dev/null 2>&1 &")
	waitFor(t, "ready", func() bool { _, err := os.Stat(filepath.Join(ws, "ready")); return err == nil })
	run("true")
	run("touch go")
	waitFor(t, "stored", func() bool { _, err := os.Stat(filepath.Join(ws, "stored")); return err == nil })
	run("true")
	run("true")
	absent("mapped", ".git/config")
	c.stop()
	absent("mapped, at the end", ".git/config")
}

// TestGitLeadsAway: a .git file or core.worktree of the session leads where it reads,
// through no link, also when a directory becomes one later.
func TestGitLeadsAway(t *testing.T) {
	levels := [][]string{atLandlock()}
	if staged() {
		levels = append(levels, nil)
	}
	for _, level := range levels {
		p := newGitProject(t).repository()
		away := filepath.Join(p.home, "away")
		if err := os.MkdirAll(filepath.Join(p.home, "autostart"), 0o755); err != nil {
			t.Fatal(err)
		}
		c := p.serve(level...)
		read := func(name string) string {
			b, _ := os.ReadFile(filepath.Join(p.dir, name))
			return string(b)
		}
		sub := func(name, then string) string {
			return "set -e; git init -q lib" + name + "; git -C lib" + name + " commit -q --allow-empty -m one; git -c protocol.file.allow=always submodule --quiet add ./lib" + name + " " + name + "; " + then
		}
		c.exec(map[string]any{"cmd": sub("one", "ln -s "+away+" x; mkdir autostart; git config -f .git/modules/one/config core.worktree ../../../x/../autostart"), "yield_time_ms": 20000})
		if text := read(".git/modules/one/config"); strings.Contains(text, "x/..") {
			t.Errorf("%v: a working tree through a link: %s", level, text)
		}
		c.exec(map[string]any{"cmd": sub("two", "mkdir d; mv two d/two; echo 'gitdir: ../../.git/modules/two' > d/two/.git; git config -f .git/modules/two/config core.worktree ../../../d/two"), "yield_time_ms": 20000})
		if text := read(".git/modules/two/config"); !strings.Contains(text, "d/two") {
			t.Errorf("%v: a working tree that is plain: %s", level, text)
		}
		c.exec(map[string]any{"cmd": "mv d e; ln -s " + away + " d"})
		if text := read(".git/modules/two/config"); strings.Contains(text, "d/two") || !strings.Contains(text, "repositoryformatversion") {
			t.Errorf("%v: a working tree behind what became a link: %s", level, text)
		}
		c.exec(map[string]any{"cmd": "git worktree add -q wt; git -C wt status"})
		if text := read("wt/.git"); !strings.HasPrefix(text, "gitdir: ") {
			t.Errorf("%v: a worktree: %q", level, text)
		}
		c.exec(map[string]any{"cmd": "mkdir w2; echo 'gitdir: ../x/../.git/worktrees/wt' > w2/.git"})
		if text := read("w2/.git"); text != "" {
			t.Errorf("%v: a .git file through a link: %q", level, text)
		}
		c.exec(map[string]any{"cmd": "git init -q r; git -C r commit -q --allow-empty -m x; git -C r worktree add -q in; git -C r worktree add -q ../beside; git -C r/in status"})
		if text := read("r/in/.git"); text != "gitdir: ../.git/worktrees/in\n" {
			t.Errorf("%v: a worktree of a repository: %q", level, text)
		}
		if text := read("beside/.git"); text != "" {
			t.Errorf("%v: a worktree next to its repository: %q", level, text)
		}
		c.stop()
	}
}

// TestGitFileLease: an open that waits for a lease on a .git file of the stage makes
// none that is not staged when that one has been removed meanwhile.
func TestGitFileLease(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3")
	}
	p := newGitProject(t)
	p.write("lease.py", `import fcntl, os, signal, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
os.makedirs("r", exist_ok=True)
fd = os.open("r/.git", os.O_CREAT | os.O_WRONLY, 0o644)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
pid = os.fork()
if pid == 0:
    os.close(fd)
    try:
        out = os.open("r/.git", os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(out, b"gitdir: ../evil\n")
    except OSError:
        pass
    os._exit(0)
while fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_WRLCK:
    time.sleep(0.01)
os.unlink("r/.git")
time.sleep(0.1)
os.close(fd)
os.waitpid(pid, 0)
`)
	c := p.serve()
	if o := c.exec(map[string]any{"cmd": "timeout 20 python3 lease.py", "yield_time_ms": 30000}); o.ExitCode == nil || *o.ExitCode != 0 {
		t.Errorf("%v %s", o.ExitCode, o.Output)
	}
	if b, err := os.ReadFile(filepath.Join(p.dir, "r/.git")); err == nil && len(b) > 0 {
		t.Errorf("a .git file that is not staged: %q", b)
	}
}
