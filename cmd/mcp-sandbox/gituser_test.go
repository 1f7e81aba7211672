package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGitUser: commits of a session are made as the server's user, wherever its
// home is; nothing else of that user's configuration reaches it; and who has no
// identity is told which flag sets one.
func TestGitUser(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git")
	}
	home := t.TempDir()
	openPath(t, home)
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	const commit = "git init -q r && cd r && git commit -q --allow-empty -m m && git log --format='%an <%ae>'"
	run := func(t *testing.T, args ...string) (*client, commandOutcome) {
		c := startServer(t, args...)
		c.initialize("2025-11-25")
		return c, c.exec(map[string]any{"cmd": commit})
	}
	t.Run("nobody", func(t *testing.T) {
		c, o := run(t)
		if *o.ExitCode == 0 || len(o.Notices) != 1 || !strings.Contains(o.Notices[0], "--git-user") {
			t.Errorf("exit %d, notices %q, output %q", *o.ExitCode, o.Notices, o.Output)
		}
		if got := c.ok("session_info", nil).text(); !strings.Contains(got, "git user: none") {
			t.Errorf("session_info: %s", got)
		}
	})
	t.Run("flag", func(t *testing.T) {
		_, o := run(t, "--git-user", "Grace H <g@example.com>")
		if strings.TrimSpace(o.Output) != "Grace H <g@example.com>" {
			t.Errorf("got %q", o.Output)
		}
	})
	if out, err := exec.Command(binary, "serve", "--git-user", "Grace").CombinedOutput(); err == nil || !strings.Contains(string(out), "Name <mail>") {
		t.Errorf("a name without a mail: %v, %s", err, out)
	}
	for name, text := range map[string]string{
		".gitconfig": "[user]\n\tname = Ada L\n\temail = ada@example.com\n\tsigningKey = KEY\n[core]\n\tpager = touch stolen\n[credential]\n\thelper = stolen\n[init]\n\tdefaultBranch = trunk\n[core]\n\texcludesFile = ~/ignored\n",
		"ignored":    "*.log\n",
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	project := t.TempDir()
	openPath(t, project)
	for name, args := range map[string][]string{
		"temporary": nil, "private": {"--root", project, "--home", "private"}, "workspace": {"--root", project, "--home", "workspace"},
	} {
		t.Run(name, func(t *testing.T) {
			c, o := run(t, args...)
			// Without a stage the new repository is the user's own, and the result says so.
			notices := slices.DeleteFunc(o.Notices, func(n string) bool { return !staged() && strings.HasSuffix(n, ": r/.git/config") })
			if strings.TrimSpace(o.Output) != "Ada L <ada@example.com>" || len(notices) != 0 {
				t.Errorf("got %q, notices %q", o.Output, notices)
			}
			if got := c.sh("cd r && git branch --show-current; touch a.log; git status --porcelain; git config user.signingKey; git config credential.helper; git config core.pager; true"); got != "trunk\n" {
				t.Errorf("branch, status and the settings that stay out: %q", got)
			}
			if got := c.sh("git config --global user.name Other && git -C r commit -q --allow-empty -m m && git -C r log -1 --format=%an"); got != "Other\n" {
				t.Errorf("a command cannot change who it is: %q", got)
			}
			if got := c.ok("session_info", nil).text(); !strings.Contains(got, "git user: Ada L <ada@example.com>\n") {
				t.Errorf("session_info: %s", got)
			}
			c.sh("rm -rf r")
		})
	}
}
