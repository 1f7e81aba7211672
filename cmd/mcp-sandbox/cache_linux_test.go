package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestCacheStays: what a session leaves in its cache the next one in the same
// directory has, and no other; file tools and outside paths do not lead there.
func TestCacheStays(t *testing.T) {
	state, root, other := t.TempDir(), t.TempDir(), t.TempDir()
	for _, d := range []string{state, root, other} {
		openPath(t, d)
	}
	session := func(root, line string, flags ...string) string {
		t.Helper()
		args := append([]string{"exec", "--state-dir", state, "--root", root}, flags...)
		out, err := exec.Command(binary, append(args, "--", line)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		return string(out)
	}
	const look = `cat "$XDG_CACHE_HOME/mark" 2>/dev/null || echo none`
	session(root, `echo here > "$XDG_CACHE_HOME/mark"; for v in $GOCACHE $GOMODCACHE $CARGO_HOME $PIP_CACHE_DIR $npm_config_cache $GRADLE_USER_HOME; do mkdir "$v" && touch "$v/x" || exit 1; done`)
	// npm warns of each variable of its own that it does not know.
	if out := session(root, `test "$(cat ~/.config/pnpm/rc)" = "store-dir=$XDG_CACHE_HOME/pnpm" && ! env | grep -i '^npm_.*store' && echo quiet`); !strings.Contains(out, "quiet") {
		t.Errorf("pnpm's store: %s", out)
	}
	if out := session(root, `if test -s ~/.config/pnpm/rc; then echo stray; fi; echo end`, "--no-cache"); strings.Contains(out, "stray") {
		t.Errorf("pnpm's settings without a cache: %s", out)
	}
	for _, tc := range []struct {
		root, want string
		flags      []string
	}{
		{root, "here", nil},
		{other, "none", nil},
		{root, "none", []string{"--no-cache"}},
		{root, "here", nil},
	} {
		if out := session(tc.root, look, tc.flags...); !strings.Contains(out, tc.want) {
			t.Errorf("%s %v: %s", tc.root, tc.flags, out)
		}
	}
	out, err := exec.Command(binary, "clean", "--state-dir", state, "--caches").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "2 removed, 0 in use") {
		t.Errorf("%v: %s", err, out)
	}
	if out := session(root, look); !strings.Contains(out, "none") {
		t.Error(out)
	}
	if out, err := exec.Command(binary, "clean", "--state-dir", state).CombinedOutput(); err != nil || !strings.Contains(string(out), "--caches") {
		t.Errorf("%v: %s", err, out)
	}
}
