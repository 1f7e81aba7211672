package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// leftWays are settings and files of git that stay in a session, with how the user sees
// that they have been applied.
var leftWays = []struct{ path, kind, cmd, value, reason, check, want string }{
	{".git/config/core.fsmonitor", "git setting", "git config core.fsmonitor ./w.sh", "./w.sh", "git runs the program", "git config core.fsmonitor", "./w.sh"},
	{".git/config/alias.x", "git setting", "git config alias.x '!echo a'", "!echo a", "git runs the program", "git config alias.x", "!echo a"},
	{".git/config/filter.f.x.clean", "git setting", "git config filter.f.x.clean 'sed s/a/b/'", "sed s/a/b/", "git runs the program", "git config filter.f.x.clean", "sed s/a/b/"},
	{".git/config/include.path", "git setting", "git config include.path ../inc", "../inc", "settings", "git config include.path", "../inc"},
	{".git/config/url.https://a/.insteadof", "git setting", "git config url.https://a/.insteadOf b:", "b:", "where git fetches", "git config url.https://a/.insteadOf", "b:"},
	{".git/config/core.editor", "git setting", "git config --unset core.editor", "", "git runs the program", "git config --local core.editor || echo none", "none"},
	{".git/hooks/pre-commit", "git hook", "printf '#!/bin/sh\\necho hook ran\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit", "", "git runs it", ".git/hooks/pre-commit", "hook ran"},
	{".git/hooks/post-commit", "git hook", "chmod +x .git/hooks/post-commit", "", "git runs it", ".git/hooks/post-commit", "hook ran too"},
	{".git/hooks/pre-push", "git hook", "chmod -x .git/hooks/pre-push", "", "git runs it", "test -x .git/hooks/pre-push || echo off", "off"},
	{".git/info/attributes", "git file", "echo '* filter=f' >> .git/info/attributes", "", "names filters", "cat .git/info/attributes", "*.c diff=cpp\n* filter=f"},
	{".git/config.worktree", "git file", "printf '[alias]\\n\\ty = !true\\n' > .git/config.worktree", "", "settings", "cat .git/config.worktree", "[alias]\n\ty = !true"},
	{"n/.git/config/alias.z", "git setting", "git init -q n; git -C n config alias.z '!true'", "!true", "git runs the program", "git -C n config alias.z", "!true"},
	{"b.git/config/core.pager", "git setting", "git init -q --bare b.git; git -C b.git config core.pager less", "less", "git runs the program", "git -C b.git config core.pager", "less"},
	{"b.git/objects/info/alternates", "git file", "echo /nowhere > b.git/objects/info/alternates", "", "reads objects from", "cat b.git/objects/info/alternates", "/nowhere"},
	{"b.git/branches/x", "git file", "mkdir -p b.git/branches; echo https://a > b.git/branches/x", "", "fetch from", "cat b.git/branches/x", "https://a"},
	{".git/objects/info/alternates", "git file", "echo /nowhere > .git/objects/info/alternates", "", "reads objects from", "cat .git/objects/info/alternates", "/nowhere"},
	{"b.git/hooks/d/post-receive", "git hook", "mkdir b.git/hooks/d; echo true > b.git/hooks/d/post-receive", "", "git runs it", "cat b.git/hooks/d/post-receive", "true"},
}

// leftUnfit are files that are only looked at.
var leftUnfit = map[string]string{
	".git/refs/replace/" + strings.Repeat("0", 39) + "1": "another object in place",
	".git/BISECT_LOG": "not what git itself writes",
}

// TestReviewOfGit: what of git stays in a session is listed with its value and why, and
// reaches the project when a person applies it, while the session runs and after it.
func TestReviewOfGit(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	p := newGitProject(t).repository()
	p.must("config", "core.editor", "vi")
	p.write(".git/info/attributes", "*.c diff=cpp\n")
	p.write(".git/hooks/post-commit", "#!/bin/sh\necho hook ran too\n")
	p.write(".git/hooks/same", "same\n")
	p.write(".git/hooks/pre-push", "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(p.dir, ".git/hooks/pre-push"), 0o755); err != nil {
		t.Fatal(err)
	}
	openPath(t, p.dir)
	state := filepath.Join(filepath.Dir(p.dir), "state")
	review := func(args ...string) (r reviewReport, failed string) {
		t.Helper()
		cmd := exec.Command(binary, append([]string{"review", "--root", p.dir, "--state-dir", state, "--json"}, args...)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1 && len(out) > 0) {
			return r, stderr.String()
		}
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatalf("review %v: %v\n%s", args, err, out)
		}
		return r, ""
	}
	left := func(r reviewReport, failed string) string {
		t.Helper()
		if r.Applied == nil {
			t.Fatalf("nothing was tried: %s", failed)
		}
		var all []string
		for _, l := range r.Applied.Left {
			all = append(all, l.Why)
		}
		return strings.Join(all, "; ")
	}
	listed := func(path string) bool {
		r, _ := review()
		return slices.ContainsFunc(r.Changes, func(c reviewChange) bool { return c.Path == path })
	}

	c := launchClient(t, state, t.TempDir(), "--root", p.dir, "--min-confinement", "namespaces-noproc")
	t.Cleanup(c.stop)
	c.initialize("2025-11-25")
	var lines []string
	for _, w := range leftWays {
		lines = append(lines, w.cmd)
	}
	lines = append(lines, "mkdir -p .git/refs/replace; git rev-parse HEAD > .git/refs/replace/$(printf %040d 1); printf 'reboot\n' > .git/BISECT_LOG")
	lines = append(lines, "touch .git/hooks/pre-push.sample; echo same > .git/hooks/same; chmod 600 .git/hooks/same")
	o := c.exec(map[string]any{"cmd": "set -e; " + strings.Join(lines, "; ")})
	if o.ExitCode == nil || *o.ExitCode != 0 || !strings.Contains(strings.Join(o.Notices, "\n"), "mcp-sandbox review --root "+p.dir) {
		t.Fatalf("exit %v, %s, notices %q", o.ExitCode, o.Output, o.Notices)
	}
	r, failed := review()
	for _, w := range leftWays {
		i := slices.IndexFunc(r.Changes, func(c reviewChange) bool { return c.Path == w.path })
		if i < 0 {
			t.Errorf("%s is not listed: %s", w.path, failed)
			continue
		}
		if c := r.Changes[i]; c.Type != w.kind || c.Value != w.value || !c.Protected || !strings.Contains(c.Reason, w.reason) || c.Conflict != "" || c.Diff == "" {
			t.Errorf("%s is listed as %+v", w.path, c)
		}
		if got, _ := p.shell(w.check); strings.TrimSpace(got) == w.want {
			t.Errorf("%s is outside already", w.path)
		}
	}
	for path, why := range leftUnfit {
		i := slices.IndexFunc(r.Changes, func(c reviewChange) bool { return c.Path == path })
		if i < 0 || !strings.Contains(r.Changes[i].Unfit, why) {
			t.Errorf("%s is not listed with why it cannot be applied: %+v", path, r.Changes[max(i, 0)])
		}
	}
	if want := len(leftWays) + len(leftUnfit); len(r.Changes) != want {
		t.Errorf("%d are listed, want %d", len(r.Changes), want)
	}

	// While the session runs.
	fsmonitor, alias := leftWays[0].path, leftWays[1].path
	if why := left(review("--apply", fsmonitor)); !strings.Contains(why, "protected: git runs") {
		t.Errorf("without the flag: %q", why)
	}
	p.write(".git/config.lock", "")
	if why := left(review("--apply", fsmonitor, "--protected")); !strings.Contains(why, "holds a lock on it (config.lock)") {
		t.Errorf("behind a lock of git: %q", why)
	}
	if err := os.Remove(filepath.Join(p.dir, ".git/config.lock")); err != nil {
		t.Fatal(err)
	}
	p.must("config", "alias.x", "log")
	if why := left(review("--apply", alias, "--protected")); !strings.Contains(why, "conflict") {
		t.Errorf("over a change of the user's: %q", why)
	}
	if why := left(review("--apply", fsmonitor, "--apply", alias, "--protected", "--conflicts")); why != "" {
		t.Errorf("left: %s", why)
	}
	if r, failed := review("--discard", ".git/config/include.path"); r.Dropped == nil || len(r.Dropped.Done) != 1 {
		t.Errorf("not discarded: %+v %s", r.Dropped, failed)
	}
	if got := c.sh("git config core.fsmonitor; git config include.path; git config user.nick s"); got != "./w.sh\n../inc\n" {
		t.Errorf("inside it is %q", got)
	}
	for _, path := range []string{fsmonitor, alias, ".git/config/include.path"} {
		if listed(path) {
			t.Errorf("%s is listed again", path)
		}
	}

	// After it.
	c.stop()
	if !listed(".git/config/user.nick") {
		t.Error("what stayed is not listed after the session")
	}
	if out, err := p.shell("mv n m && cp -r m n"); err != nil {
		t.Fatal(out)
	}
	if why := left(review("--apply", "n/.git/config/alias.z", "--protected")); !strings.Contains(why, "another git directory") {
		t.Errorf("of another repository at the path: %q", why)
	}
	if out, err := p.shell("rm -r n && mv m n"); err != nil {
		t.Fatal(out)
	}
	// A directory that has some of it, and changes of a stage.
	if out, err := exec.Command(binary, "exec", "--root", p.dir, "--state-dir", state, "--staged", "echo x > n/staged").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r, failed = review("--apply", "n", "--protected")
	if why := left(r, failed); why != "" || !slices.Equal(r.Applied.Done, []string{"n/.git/config/alias.z", "n/staged"}) {
		t.Errorf("of both %q are applied, left: %s", r.Applied.Done, why)
	}
	if why := left(review("--apply", ".", "--protected", "--executable")); why != "" {
		t.Errorf("left: %s", why)
	}
	for _, w := range leftWays {
		got, _ := p.shell(w.check)
		if w.path == ".git/config/include.path" {
			w.want = ""
		}
		if strings.TrimSpace(got) != w.want {
			t.Errorf("%s is %q outside", w.path, got)
		}
	}
	if _, failed := review(); !strings.Contains(failed, "nothing") {
		t.Errorf("at the end: %q", failed)
	}
}
