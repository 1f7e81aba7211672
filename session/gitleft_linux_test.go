package session

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mcp-sandbox/gitstage"
)

// TestGitLeftDecided: what a person decided hides a thing of that session alone, while
// it runs, and a clean in between changes nothing of that.
func TestGitLeftDecided(t *testing.T) {
	now := time.Now()
	root := t.TempDir()
	l := lefts{filepath.Join(t.TempDir(), leftDir)}
	path := l.path(root, "")
	hook := []gitstage.Left{{Dir: ".git", Kind: gitstage.LeftHook, Name: "hooks/x", Text: []byte("a")}}
	keep := func(by string, left []gitstage.Left) int {
		t.Helper()
		if err := l.keep(root, "", by, left, now); err != nil {
			t.Fatal(err)
		}
		f, err := l.read(path, now)
		if err != nil {
			t.Fatal(err)
		}
		return len(f.Items)
	}
	decide := func() {
		t.Helper()
		if err := os.MkdirAll(l.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		f := leftFile{Root: root, Decided: map[string]time.Time{decidedBy("a", hook[0].ID()): now}}
		if err := l.write(path, &f); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, by string
		before   func() error
		want     int
	}{
		{"of the session", "a", nil, 0},
		{"after a clean", "a", func() error { _, _, err := l.clean(now); return err }, 0},
		{"of another session", "b", nil, 1},
		{"after its end", "a", func() error { return l.ended(root, "", "a", now) }, 1},
		{"after the end of another", "a", func() error { return l.ended(root, "", "b", now) }, 0},
	} {
		decide()
		if c.before != nil {
			if err := c.before(); err != nil {
				t.Fatal(err)
			}
		}
		if n := keep(c.by, hook); n != c.want {
			t.Errorf("%s: %d are listed, want %d", c.name, n, c.want)
		}
	}

	many := make([]gitstage.Left, 4_000)
	for i := range many {
		many[i] = gitstage.Left{Dir: ".git", Kind: gitstage.LeftSetting, Name: fmt.Sprint("alias.", i)}
	}
	keep("c", many)
	begin := time.Now()
	if n := keep("d", many); n != gitstage.MaxLeftAll || time.Since(begin) > 20*time.Second {
		t.Errorf("of many settings %d are kept after %v", n, time.Since(begin))
	}
}
