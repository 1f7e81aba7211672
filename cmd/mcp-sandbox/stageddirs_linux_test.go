package main

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStagedDirectories: the mode and attributes that you give a directory while the
// session changes what lies in it are yours, and no conflict; where the session changed
// them too, they are one.
func TestStagedDirectories(t *testing.T) {
	p := newStagedProject(t)
	if err := os.Chmod(p.dir+"/dir", 0o555); err != nil {
		t.Fatal(err)
	}
	p.settled()
	p.session("chmod 755 dir; echo 2 > dir/c.txt; echo new > dir/new; chmod 555 dir; echo 2 > dir/sub/d.txt; chmod 700 bin; echo x > bin/x")
	for name, mode := range map[string]os.FileMode{"/dir": 0o700, "/bin": 0o711} {
		if err := os.Chmod(p.dir+name, mode); err != nil {
			t.Fatal(err)
		}
	}
	attributes := unix.Setxattr(p.dir+"/dir/sub", "user.note", []byte("mine"), 0) == nil
	r := p.review("--apply", ".", "--executable")
	if len(r.Applied.Left) != 2 || r.Applied.Left[0].Path != "bin" || !strings.HasPrefix(r.Applied.Left[0].Why, "conflict: changed") || r.Applied.Left[1].Path != "bin/x" {
		t.Errorf("left: %+v", r.Applied.Left)
	}
	expect(t, p.dir+"/dir/c.txt", "2\n")
	expect(t, p.dir+"/dir/new", "new\n")
	expect(t, p.dir+"/dir/sub/d.txt", "2\n")
	if fi, err := os.Stat(p.dir + "/dir"); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the mode of dir: %v %v", fi, err)
	}
	var b [8]byte
	if n, err := unix.Getxattr(p.dir+"/dir/sub", "user.note", b[:]); attributes && (err != nil || string(b[:n]) != "mine") {
		t.Errorf("the attribute of dir/sub: %q %v", b[:max(n, 0)], err)
	}
	for _, c := range r.Changes {
		if c.Path != "bin" && c.Path != "bin/x" {
			t.Errorf("still waits: %+v", c)
		}
	}
	p.review("--discard", ".")
	if got := p.session("stat -c %a dir bin; cat dir/new"); got != "700\n711\nnew\n" {
		t.Errorf("the next session sees %q", got)
	}
}
