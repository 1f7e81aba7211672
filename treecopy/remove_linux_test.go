package treecopy

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRemoveDeep: a directory goes however deep it is and whatever modes those in it
// have, nothing else appears next to it, and one call does not go on without an end.
func TestRemoveDeep(t *testing.T) {
	parent := t.TempDir()
	dir, err := unix.Open(parent, openDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	t.Cleanup(func() { _ = Remove(dir, "x") }) // before the one of TempDir, which needs it gone
	at := dir
	for i := range 2*movedDepth + 10 {
		name := "d"
		if i == 0 {
			name = "x"
		}
		if err := unix.Mkdirat(at, name, 0o700); err != nil {
			t.Fatal(err)
		}
		in, err := unix.Openat(at, name, openDir, 0)
		if err != nil {
			t.Fatal(err)
		}
		if at != dir {
			unix.Fchmod(at, 0o500)
			unix.Close(at)
		}
		at = in
	}
	unix.Fchmod(at, 0o000)
	unix.Close(at)
	r := remover{top: -1, moved: maxMoved - 1}
	if err := r.remove(dir, "x", 0); err != errDeep {
		t.Errorf("%v", err)
	}
	if entries, _ := os.ReadDir(parent); len(entries) != 1 || entries[0].Name() != "x" {
		t.Errorf("%v", entries)
	}
	if err := Remove(dir, "x"); err != nil {
		t.Errorf("%v", err)
	}
	if entries, _ := os.ReadDir(parent); len(entries) != 0 {
		t.Errorf("%v", entries)
	}
}
