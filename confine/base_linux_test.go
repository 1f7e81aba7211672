package confine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// A base is taken for another one as soon as something of it has changed.
func TestBasePrint(t *testing.T) {
	dir := t.TempDir()
	tree, file := filepath.Join(dir, "tree"), filepath.Join(dir, "file")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	old := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	c := baseConfig{Binds: []bind{shown(tree)}}
	print := func() string { return c.print([]string{file}) }
	last := print()
	if print() != last {
		t.Fatal("the same base has two prints")
	}
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"a changed file", func() { write("two") }},
		{"a file's mode", func() { os.Chmod(file, 0o600) }},
		{"another file in its place", func() {
			os.Rename(file, file+".old")
			write("two")
		}},
		{"another directory in the place of a tree", func() {
			os.Rename(tree, tree+".old")
			os.Mkdir(tree, 0o755)
		}},
		{"a file gone", func() { os.Remove(file) }},
		{"another size of /tmp", func() { c.Tmp = 5 }},
	} {
		step.do()
		if p := print(); p == last {
			t.Errorf("%s has the same print", step.what)
		} else {
			last = p
		}
	}
}

// What uid 0 sees of /etc is what everyone may read, whether it is copied or
// hung.
func TestReadCopy(t *testing.T) {
	dir := t.TempDir()
	p := func(name string) string { return filepath.Join(dir, name) }
	for name, mode := range map[string]os.FileMode{"open": 0o644, "secret": 0o640} {
		if err := os.WriteFile(p(name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(p("open"), p("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p("long"), make([]byte, maxCopy+1), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"open": "open", "secret": "", "link": "", "long": "", "none": ""} {
		if got, ok := readCopy(p(name)); got != want || ok != (want != "") {
			t.Errorf("%s: %q %v", name, got, ok)
		}
	}
}

// Grants around, in and below what the base shows are hung where they belong.
func TestGrantsAroundTheBase(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		needNamespaces(t, p.Level)
		shm, err := os.MkdirTemp("/dev/shm", "granted")
		if err != nil {
			t.Skipf("no /dev/shm: %v", err)
		}
		defer os.RemoveAll(shm)
		if err := os.Chmod(shm, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(shm, "f"), []byte("granted\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			read   []string
			script string
			want   string
		}{
			{[]string{"/dev"}, "echo x > /dev/null && test -c /dev/zero && tty=$(ls /dev/pts) && echo $tty; echo y > /dev/shm/f && cat /dev/shm/f", "ptmx\ny\n"},
			{[]string{"/etc"}, "cat /etc/hostname; grep -c . /etc/passwd > /dev/null && echo accounts", "sandbox\naccounts\n"},
			{[]string{"/usr"}, "test -x /usr/bin/env && ! touch /usr/x 2>/dev/null && echo there", "there\n"},
			{[]string{shm}, "cat " + shm + "/f; touch " + shm + "/g 2>/dev/null || echo read-only; echo z > /dev/shm/own && cat /dev/shm/own", "granted\nread-only\nz\n"},
		} {
			p := p
			p.Read = c.read
			s := start(t, p)
			want(t, s, p.Workspace, c.script, c.want)
			s.Close()
		}
		for _, in := range []string{"/proc", "/proc/sys"} {
			p := p
			p.Read = []string{in}
			_, err := Start(t.Context(), p)
			if err == nil || !strings.Contains(err.Error(), "/proc") {
				t.Errorf("a grant of %s: %v", in, err)
			}
		}
	})
}

// The plan of a base does not depend on the session, or a waiting init would
// never fit.
func TestBaseKnowsNoSession(t *testing.T) {
	p := testPolicy(t)
	if err := normalise(&p); err != nil {
		t.Fatal(err)
	}
	id, err := identify(&p)
	if err != nil {
		t.Fatal(err)
	}
	one := planBase(&p, id)
	other := p
	other.Workspace = t.TempDir()
	other.Read = []string{t.TempDir()}
	other.Protect = []string{".git/hooks"}
	if planBase(&other, id).print != one.print {
		t.Error("another session's base has another print")
	}
	// What is above a part of the base is hung with it.
	other.Read = []string{"/dev"}
	b := planBase(&other, id)
	if b.print == one.print || !b.cfg.holds("/dev", false) || b.cfg.holds("/dev", true) {
		t.Error("the base does not hang a grant around it")
	}
	i := slices.IndexFunc(b.cfg.Binds, func(b bind) bool { return b.Path == "/dev" })
	j := slices.IndexFunc(b.cfg.Binds, func(b bind) bool { return b.Path == "/dev/null" })
	if i > j {
		t.Error("it is hung over its parts")
	}
}
