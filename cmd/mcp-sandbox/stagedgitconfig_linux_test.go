package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestStagedGitConfig: what an apply itself writes into a git configuration is no conflict
// of the settings that wait there; what somebody else writes is one.
func TestStagedGitConfig(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git")
	}
	for _, tc := range []struct {
		name        string
		before, now bool // somebody writes before the apply, after it
	}{{"nobody writes", false, false}, {"before", true, false}, {"after", false, true}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newStagedProject(t)
			git := func(args ...string) string {
				out, err := exec.Command("git", append([]string{"-C", p.dir, "-c", "safe.directory=*"}, args...)...).CombinedOutput()
				if err != nil {
					t.Fatalf("git %q: %v\n%s", args, err, out)
				}
				return string(out)
			}
			git("init", "-q")
			openPath(t, p.dir)
			p.settled()
			p.session("git config core.editor vi; git remote add origin https://example.com/x")
			mine := func() {
				b, err := os.ReadFile(p.dir + "/.git/config")
				if err == nil {
					err = os.WriteFile(p.dir+"/.git/config", append(b, "[mine]\n\tset = 1\n"...), 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if tc.before {
				mine()
			}
			if r := p.review("--apply", ".git"); len(r.Applied.Done) != 1 {
				t.Fatalf("%+v", r.Applied)
			}
			if tc.now {
				mine()
			}
			p.session("git config core.pager less; git remote add other https://example.com/y")
			r := p.review("--apply", ".", "--protected")
			foreign := tc.before || tc.now
			if foreign != (len(r.Applied.Left) == 1 && strings.HasPrefix(r.Applied.Left[0].Why, "conflict: changed")) || !foreign && len(r.Applied.Left) > 0 {
				t.Errorf("left: %+v", r.Applied.Left)
			}
			got := git("config", "--list", "--local")
			for name, want := range map[string]bool{
				"remote.origin.url=https://example.com/x\n": true, "remote.other.url=https://example.com/y\n": true,
				"core.editor=vi\n": !foreign, "core.pager=less\n": !foreign, "mine.set=1\n": foreign,
			} {
				if strings.Contains(got, name) != want {
					t.Errorf("%q is there: %v\n%s", name, !want, got)
				}
			}
		})
	}
}
