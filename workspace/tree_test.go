package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

func TestMkdir(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"f": "", "d/": "", "l": "-> d", "lf": "-> f", "dangle": "-> made"})
	for _, tc := range []struct {
		path    string
		parents bool
		created bool
		code    string
	}{
		{"a", false, true, ""}, {"a", false, false, ""}, {"a", true, false, ""}, {"x/y/z", false, false, codeNotFound}, {"x/y/z", true, true, ""},
		{"l", false, false, ""}, {"l/in", false, true, ""}, {"f", false, false, codeExists}, {"f", true, false, codeExists}, {"lf", false, false, codeExists},
		{"f/x", true, false, codeNotDirectory}, {".", false, false, ""}, {dir, true, false, ""}, {"dangle", false, true, ""},
	} {
		r, err := f.Mkdir(ctx, tc.path, tc.parents)
		wantCode(t, err, tc.code)
		if r.Created != tc.created {
			t.Errorf("%s: created %v", tc.path, r.Created)
		}
	}
	if !exists(dir+"/d/in") || !exists(dir+"/made") {
		t.Error("links were not followed")
	}
}

func TestRemove(t *testing.T) {
	f, dir, outside := newFS(t, Options{})
	put(t, dir, map[string]string{
		"f": "", "d/": "", "t/a/b/c": "", "t/l": "-> " + outside, "in": "-> t2/", "t2/keep": "k", "dangle": "-> none", "out": "-> " + outside, "t3/x": "",
	})
	for _, tc := range []struct {
		path      string
		recursive bool
		code      string
		removed   int
	}{
		{"f", false, "", 1}, {"d", false, "", 1}, {"t", false, codeIsDirectory, 0}, {"t", true, "", 5}, {"dangle", false, "", 1}, {"out", true, "", 1}, {"in", true, "", 1},
		{"none", false, codeNotFound, 0}, {"none", true, "", 0}, {"none/deeper", true, "", 0}, {"none/deeper", false, codeNotFound, 0}, {".", true, codeInvalid, 0}, {dir, true, codeInvalid, 0}, {"t3/..", true, codeInvalid, 0}, {"", true, codeInvalid, 0},
	} {
		r, err := f.Remove(ctx, tc.path, tc.recursive)
		wantCode(t, err, tc.code)
		if r.Removed != tc.removed {
			t.Errorf("%s: removed %d", tc.path, r.Removed)
		}
		if tc.code == "" && exists(filepath.Join(dir, tc.path)) {
			t.Errorf("%s is still there", tc.path)
		}
	}
	if get(t, dir+"/t2/keep") != "k" {
		t.Error("the target of a link was removed")
	}
}

// TestMkdirNamesTheParent: the directory that has to be made first is named.
func TestMkdirNamesTheParent(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"a/": "", "l": "-> a"})
	for path, parent := range map[string]string{"x/y": "x", "a/b/c/d": "a/b", "l/b/c": "a/b"} {
		_, err := f.Mkdir(ctx, path, false)
		wantCode(t, err, codeNotFound)
		if !strings.Contains(err.Error(), "parent directory "+parent+" does not exist; set recursive") {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := f.Mkdir(ctx, path, true); err != nil || !exists(filepath.Join(dir, path)) {
			t.Errorf("%s: %v", path, err)
		}
		os.RemoveAll(dir + "/a/b")
	}
}

// Trees deeper than any descriptor table, and read-only ones, can be removed.
func TestRemoveDifficult(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 1500 {
		if err := unix.Mkdirat(fd, "deep", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "deep", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	r, err := f.Remove(ctx, "deep", true)
	wantCode(t, err, "")
	if r.Removed != 1500 || exists(dir+"/deep") {
		t.Errorf("removed %d", r.Removed)
	}
	put(t, dir, map[string]string{"mod/pkg/file": "x"})
	os.Chmod(dir+"/mod/pkg/file", 0o444)
	os.Chmod(dir+"/mod/pkg", 0o555)
	os.Chmod(dir+"/mod", 0o555)
	_, err = f.Remove(ctx, "mod", true)
	wantCode(t, err, "")
	if exists(dir + "/mod") {
		t.Error("read-only tree is still there")
	}
}

func TestMove(t *testing.T) {
	f, dir, outside := newFS(t, Options{})
	put(t, dir, map[string]string{"a": "A", "b": "B", "d/x": "x", "dir/": "", "out": "-> " + outside, "ld": "-> dir", "e/f/": ""})
	for _, tc := range []struct{ src, dst, code, to string }{
		{"a", "a2", "", "a2"}, {"a2", "dir", "", "dir/a2"}, {"dir/a2", "ld/a3", "", "dir/a3"}, {"dir/a3", "b", codeExists, ""}, {"dir/a3", "./a", "", "a"},
		{"d", "d2", "", "d2"}, {"d2", "d2/in", codeInvalid, ""}, {"d2", "ld", "", "dir/d2"}, {"none", "x", codeNotFound, ""}, {"a", "no/dir/x", codeNotFound, ""},
		{".", "x", codeInvalid, ""}, {"a", "b/x", codeNotDirectory, ""}, {"out", "ld/out2", "", "dir/out2"}, {"dir/out2", "out", "", "out"}, {"e", "e", codeInvalid, ""},
		{"b", "b", codeExists, ""},
	} {
		r, err := f.Move(ctx, tc.src, tc.dst)
		wantCode(t, err, tc.code)
		if err == nil && (r.To != tc.to || exists(filepath.Join(dir, tc.src)) || !exists(filepath.Join(dir, tc.to))) {
			t.Errorf("%s to %s: %+v", tc.src, tc.dst, r)
		}
	}
	if get(t, dir+"/a") != "A" || get(t, dir+"/b") != "B" || get(t, dir+"/dir/d2/x") != "x" {
		t.Error("content changed")
	}
	if l, _ := os.Readlink(dir + "/out"); l != outside {
		t.Errorf("link became %q", l)
	}
}

// Between file systems a move is a copy that leaves nothing half done.
func TestMoveAcross(t *testing.T) {
	other := "/dev/shm"
	var a, b syscall.Stat_t
	if syscall.Stat(other, &a) != nil || syscall.Stat(os.TempDir(), &b) != nil || a.Dev == b.Dev {
		t.Skip("no second file system")
	}
	grant, err := os.MkdirTemp(other, "grant")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(grant)
	f, dir, _ := newFS(t, Options{Grants: []Grant{{Path: grant}}})
	put(t, dir, map[string]string{"t/a": "A", "t/l": "-> a", "t/d/x": "X", "f": "F", "bad/ok": "1"})
	os.Chmod(dir+"/t/a", 0o751)
	syscall.Mkfifo(dir+"/bad/p", 0o600)
	before := snapshotTree(t, dir+"/t")
	r, err := f.Move(ctx, "t", grant+"/t")
	wantCode(t, err, "")
	after := snapshotTree(t, grant+"/t")
	if !r.Copied || exists(dir+"/t") || len(after) != len(before) {
		t.Errorf("%+v %v", r, after)
	}
	for p, s := range before {
		if after[p] != s {
			t.Errorf("%s is %q, was %q", p, after[p], s)
		}
	}
	_, err = f.Move(ctx, "f", grant)
	wantCode(t, err, "")
	if get(t, grant+"/f") != "F" || exists(dir+"/f") {
		t.Error("file was not moved")
	}
	_, err = f.Move(ctx, "bad", grant+"/bad")
	wantCode(t, err, codeUnsupported)
	entries, _ := os.ReadDir(grant)
	if len(entries) != 2 || !exists(dir+"/bad/ok") {
		t.Errorf("left %v", entries)
	}
	_, err = f.Move(ctx, grant+"/f", "bad/ok")
	wantCode(t, err, codeExists)
	// Grants themselves stay.
	for _, op := range []func() error{
		func() error { _, err := f.Remove(ctx, grant, true); return err },
		func() error { _, err := f.Move(ctx, grant, "g"); return err },
	} {
		wantCode(t, op(), codeInvalid)
	}
}

// A grant nested in the workspace is not moved or removed with its parent.
func TestNestedGrantStays(t *testing.T) {
	base, _ := filepath.EvalSymlinks(t.TempDir())
	put(t, base, map[string]string{"v/ro/f": "x", "v/w": "w", "a.tar": string(tarOf(t, reg("ro/f", "pwn"), reg("w", "new")))})
	f, err := Open(base, Options{Grants: []Grant{{Path: base + "/v/ro", ReadOnly: true}}})
	wantCode(t, err, "")
	defer f.Close()
	for name, op := range map[string]func() error{
		"rm":      func() error { _, err := f.Remove(ctx, "v", true); return err },
		"mv":      func() error { _, err := f.Move(ctx, "v", "v2"); return err },
		"extract": func() error { _, err := f.Extract(ctx, ExtractRequest{Path: "a.tar", Destination: "v"}); return err },
		"write":   func() error { _, err := f.WriteFile(ctx, WriteRequest{Path: "v/ro/f"}); return err },
	} {
		if err := op(); sandbox.CodeOf(err) != codePermission {
			t.Errorf("%s: %v", name, err)
		}
	}
	if get(t, base+"/v/ro/f") != "x" || get(t, base+"/v/w") != "w" {
		t.Error("something changed")
	}
}

// Messages never name a path outside.
func TestMessagesKeepQuiet(t *testing.T) {
	f, dir, outside := newFS(t, Options{})
	put(t, dir, map[string]string{"out": "-> " + outside, "f": "x", "a.tar": "x"})
	all := looks(f)
	for n, op := range changes(f) {
		all[n] = op
	}
	for name, op := range all {
		for _, p := range []string{"out", "out/canary", "none/x", "f/x", "../outside/x"} {
			if err := op(p); err != nil && (strings.Contains(err.Error(), outside) || strings.Contains(err.Error(), dir)) {
				t.Errorf("%s %s: %v", name, p, err)
			}
		}
	}
}
