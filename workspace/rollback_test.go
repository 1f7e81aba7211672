package workspace

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// plainUser opens a workspace in which permissions mean something also when the
// test is run by root: the file system then acts for another user.
func plainUser(t *testing.T, files map[string]string) (*FS, string) {
	t.Helper()
	o := Options{}
	if os.Geteuid() == 0 {
		o = Options{OwnerUID: 1234, OwnerGID: 1234, ActAsOwner: true}
	}
	f, dir, _ := newFS(t, o)
	put(t, dir, files)
	if os.Geteuid() == 0 {
		err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(p, 1234, 1234)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return f, dir
}

// TestPatchRollback: a change that is refused when all others are made already
// takes every one of them back: new files with their directories, changed, moved
// and removed ones.
func TestPatchRollback(t *testing.T) {
	f, dir := plainUser(t, map[string]string{"a": "one\n", "b": "gone\n", "m": "moved\n", "ro/x": "stays\n"})
	if err := os.Chmod(dir+"/ro", 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir+"/ro", 0o755) })
	before := snapshotTree(t, dir)
	_, err := f.ApplyPatch(ctx, envelope("*** Update File: a\n@@\n-one\n+ONE\n"+
		"*** Add File: new/deep/f\n+x\n"+
		"*** Add File: fresh\n+x\n"+
		"*** Update File: m\n*** Move to: n\n@@\n-moved\n+MOVED\n"+
		"*** Delete File: b\n"+
		"*** Delete File: ro/x\n"))
	wantCode(t, err, codePermission)
	if after := snapshotTree(t, dir); !reflect.DeepEqual(after, before) {
		t.Errorf("after a patch that failed:\n%v\nbefore:\n%v", after, before)
	}
	// The same patch without what is refused does all of it.
	_, err = f.ApplyPatch(ctx, envelope("*** Update File: a\n@@\n-one\n+ONE\n*** Add File: new/deep/f\n+x\n*** Update File: m\n*** Move to: n\n@@\n-moved\n+MOVED\n*** Delete File: b\n"))
	wantCode(t, err, "")
	if get(t, dir+"/a") != "ONE\n" || get(t, dir+"/new/deep/f") != "x\n" || get(t, dir+"/n") != "MOVED\n" || exists(dir+"/b") || exists(dir+"/m") {
		t.Errorf("%v", snapshotTree(t, dir))
	}
}

// TestExtractRollback: a merge that is stopped in a directory that cannot be
// written puts back what it replaced and takes away what it added (AC-14).
func TestExtractRollback(t *testing.T) {
	archive := string(tarOf(t, reg("a", "new"), reg("b", "added"), reg("d/old", "new"), reg("d/fresh", "f"), reg("ro/y", "y")))
	f, dir := plainUser(t, map[string]string{"x.tar": archive, "out/a": "old", "out/d/old": "old", "out/ro/x": "stays"})
	if err := os.Chmod(dir+"/out/ro", 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir+"/out/ro", 0o755) })
	before := snapshotTree(t, dir)
	_, err := f.Extract(ctx, ExtractRequest{Path: "x.tar", Destination: "out"})
	wantCode(t, err, codePermission)
	if after := snapshotTree(t, dir); !reflect.DeepEqual(after, before) {
		t.Errorf("after an extraction that failed:\n%v\nbefore:\n%v", after, before)
	}
	if err := os.Chmod(dir+"/out/ro", 0o755); err != nil {
		t.Fatal(err)
	}
	res, err := f.Extract(ctx, ExtractRequest{Path: "x.tar", Destination: "out"})
	wantCode(t, err, "")
	if res.Replaced != 2 || get(t, dir+"/out/a") != "new" || get(t, dir+"/out/d/old") != "new" || get(t, dir+"/out/ro/y") != "y" {
		t.Errorf("%+v %v", res, snapshotTree(t, dir))
	}
}
