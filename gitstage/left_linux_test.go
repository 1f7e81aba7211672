package gitstage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/gitconfig"
)

// leftTree is a directory with the files.
func leftTree(t *testing.T, files map[string]string) tree {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return tree{fd}
}

// What a Publisher holds for a review is bounded over all git directories, and what is
// beyond that is still named or counted.
func TestLeftIsBounded(t *testing.T) {
	p := &Publisher{repos: map[string]*repo{}}
	ways := []struct {
		name  string
		files func() map[string]string
		large int64
	}{
		{"large hooks", func() map[string]string {
			m := map[string]string{}
			for i := range 20 {
				m[fmt.Sprintf("hooks/%d", i)] = ""
			}
			return m
		}, maxLeft},
		{"settings", func() map[string]string {
			var b strings.Builder
			b.WriteString("[alias]\n")
			for i := 0; b.Len() < gitconfig.MaxSize/8; i++ {
				fmt.Fprintf(&b, "a%d\n", i)
			}
			return map[string]string{"config": b.String()}
		}, 0},
		{"a name", func() map[string]string {
			return map[string]string{"config": "[alias \"" + strings.Repeat("x", 2*maxLeftName) + "\"]\n\tx = y\n"}
		}, 0},
		{"hooks", func() map[string]string {
			m := map[string]string{}
			for i := range 20 {
				m[fmt.Sprintf("hooks/%d", i)] = "x"
			}
			return m
		}, 0},
	}
	for _, w := range ways {
		files := w.files()
		side := leftTree(t, files)
		for name := range files {
			if w.large > 0 {
				if err := os.Truncate(fmt.Sprintf("/proc/self/fd/%d/%s", side.fd, name), w.large); err != nil {
					t.Fatal(err)
				}
			}
		}
		// No configuration is known, as of a bare repository that could not be published.
		r := &repo{p: p, rel: w.name, real: leftTree(t, nil)}
		p.repos[w.name] = r
		r.keepLeft(side, true)
		if len(r.left)+r.leftMore == 0 {
			t.Errorf("%s: nothing stays", w.name)
		}
	}
	size, ids := 0, map[string]bool{}
	all := p.Left()
	for i := range all {
		size += all[i].Size()
		ids[all[i].ID()] = true
	}
	if len(all) > MaxLeftAll+len(ways) || size > MaxLeftBytes+1<<20 || len(ids) != len(all) {
		t.Errorf("%d things with %d IDs and %d bytes are held", len(all), len(ids), size)
	}
	if l := p.repos["large hooks"]; len(l.left) != 20 || l.left["git hook hooks/9"].Unfit == "" || l.left["git hook hooks/0"].Unfit != "" {
		t.Errorf("of 20 large hooks %d are named", len(l.left))
	}
	if l := p.repos["settings"]; l.leftMore < 10_000 {
		t.Errorf("%d more settings are counted", l.leftMore)
	}
}
