package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestGitChangesAreTold: at the landlock level commands write git directories where
// they are. What git outside would obey of it is told, in the root and in
// repositories below it, and work that changes none of it is not.
func TestGitChangesAreTold(t *testing.T) {
	ws := t.TempDir()
	openPath(t, ws)
	make := exec.Command("sh", "-c", "set -e; git init -q .; git init -q sub/repo; git init -q lib; cd lib; git commit -q --allow-empty -m one; cd ..; git -c protocol.file.allow=always submodule --quiet add ./lib mod")
	make.Dir = ws
	make.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + ws, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=u", "GIT_AUTHOR_EMAIL=u@h", "GIT_COMMITTER_NAME=u", "GIT_COMMITTER_EMAIL=u@h"}
	if out, err := make.CombinedOutput(); err != nil {
		t.Skipf("git does not work here: %s", out)
	}
	c := startServer(t, append([]string{"--root", ws, "--git-user", "A <a@b>"}, atLandlock()...)...)
	c.initialize("2025-06-18")
	const told = "git outside the sandbox obeys"
	for _, tc := range []struct{ cmd, want string }{
		{"true", ""},
		{"echo x > f; git add f; git commit -qm one; git -C sub/repo status; git checkout -qb side", ""},
		{"git config core.fsmonitor ./f", ".git/config"},
		{"true", ""},
		{"echo x > .git/hooks/pre-commit", ".git/hooks/pre-commit"},
		{"chmod +x .git/hooks/pre-commit", ".git/hooks/pre-commit"},
		{"touch -d @0 stamp; printf '%s' \"$(cat .git/config | tr a b)\" > .git/config; touch -r stamp .git/config", ".git/config"},
		{"git config -f .git/config.worktree a.b c", ".git/config.worktree"},
		{"echo evil > .git/commondir; rm .git/commondir; mkdir -p .git/info; echo '* filter=x' > .git/info/attributes", ".git/info/attributes"},
		{"git config -f sub/repo/.git/config core.fsmonitor ./f", "sub/repo/.git/config"},
		{"echo x > sub/repo/.git/hooks/post-checkout", "sub/repo/.git/hooks/post-checkout"},
		{"ln -sfn ../../f sub/repo/.git/hooks/pre-push", "sub/repo/.git/hooks/pre-push"},
		{"git config -f .git/modules/mod/config core.fsmonitor ./f", ".git/modules/mod/config"},
		{"echo 'gitdir: ../sub/repo/.git' > mod/.git", "mod/.git"},
		{"mkdir -p a/b; git init -q a/b/made", "a/b/made/.git/config"},
		{"git init -q --bare plain.git", "plain.git/config"},
		{"mv sub/repo/.git/hooks sub/repo/.git/kept; ln -s kept sub/repo/.git/hooks", "sub/repo/.git/hooks"},
		{"true", ""},
	} {
		text := c.call("exec_command", map[string]any{"cmd": tc.cmd}).text()
		if got := strings.Contains(text, told); got != (tc.want != "") || !strings.Contains(text, tc.want) {
			t.Errorf("%s: want %q, got %q", tc.cmd, tc.want, text)
		}
	}
	for _, p := range []string{"lib/.git/config", "lib/.git/hooks/pre-commit", "lib/.git/commondir", "a/b/made/.git/info/attributes", ".git/modules/mod/config"} {
		c.bad("path_protected", "write_file", map[string]any{"path": p, "content": "x"})
	}
	if text := c.call("session_info", nil).text(); !strings.Contains(text, "also below the root") {
		t.Errorf("session_info: %s", text)
	}
}
