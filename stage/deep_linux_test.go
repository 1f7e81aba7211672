package stage

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// nest makes directories in each other, and a file in the last.
func nest(t *testing.T, dir, name string, levels int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for i := 0; i < levels && err == nil; i++ {
		var in int
		if err = unix.Mkdirat(fd, name, 0o755); err == nil {
			in, err = unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		}
		unix.Close(fd)
		fd = in
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	file, err := unix.Openat(fd, "bottom", unix.O_WRONLY|unix.O_CREAT, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(file), "bottom")
	defer f.Close()
	if _, err := f.WriteString(strings.Repeat("x", 1<<20)); err != nil {
		t.Fatal(err)
	}
}

// TestStageDeep: directories that a session makes in each other without an end are in
// the way of no review, are measured, and can be discarded and deleted.
func TestStageDeep(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"x": "x"})
	t.Cleanup(func() {
		if fd, err := unix.Open(upper, unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
			_, _ = treecopy.Remove(fd, "d"), treecopy.Remove(fd, strings.Repeat("n", 200))
			unix.Close(fd)
		}
	})
	long := strings.Repeat("n", 200)
	nest(t, upper, long, 40)
	putFile(t, upper+"/x", "mine")
	if bytes, files, err := Size(upper); err != nil || bytes < 1<<20 || files != 2 {
		t.Errorf("%d bytes of %d files were measured, %v", bytes, files, err)
	}
	// What cannot be read, first in any order, and what lies deeper than a path can name.
	closed := []string{upper + "/0", upper + "/z", upper + "/" + long + "/0"}
	for _, dir := range closed {
		if err := os.Mkdir(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
	nest(t, upper, "d", maxDepth+100)
	if bytes, files, err := Size(upper); err != nil || bytes < 2<<20 || files != 3 {
		t.Errorf("%d bytes of %d files were measured, %v", bytes, files, err)
	}
	for _, dir := range closed {
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Changes()
	if err != nil {
		t.Fatal(err)
	}
	unfit := 0
	for _, c := range all {
		if c.Unfit == tooDeep {
			unfit++
		}
	}
	if unfit != 2 {
		t.Errorf("%d changes are too deep", unfit)
	}
	if res, err := s.Apply([]string{"x"}, Choice{}); err != nil || len(res.Left) > 0 {
		t.Errorf("%+v %v", res, err)
	}
	wantText(t, root+"/x", "mine")
	if res, err := s.Discard([]string{"d", long}); err != nil || len(res.Left) > 0 || len(kinds(t, s)) > 0 {
		t.Errorf("%d left, %v, %q", len(res.Left), err, kinds(t, s))
	}
	for _, name := range []string{"d", long} {
		if _, err := os.Lstat(upper + "/" + name); !os.IsNotExist(err) {
			t.Errorf("%s stays: %v", name[:1], err)
		}
	}
}
