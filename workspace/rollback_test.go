package workspace

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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

// TestReplaceKeeps: what is moved aside for an archive and cannot come back, as
// somebody made its name meanwhile, is not lost, and the error says where it is.
func TestReplaceKeeps(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"out/f": "old", "out/free": "free", "out/g/x": "old"})
	err := f.atEntered("out", walkOptions{follow: true, write: true, mayMiss: true}, func(dst *resolved) error {
		s, err := f.newStage(ctx, dst, ExtractRequest{Replace: true})
		if err != nil {
			return err
		}
		defer s.discard()
		s.old = tempName()
		if err := unix.Mkdirat(s.base, s.old, 0o700); err != nil {
			return err
		}
		aside, err := openSubdir(s.base, s.old)
		if err != nil {
			return err
		}
		defer unix.Close(aside)
		names := []string{"f", "free", "g"}
		for _, n := range names {
			if err := unix.Renameat(s.base, n, aside, n); err != nil {
				return err
			}
		}
		put(t, dir, map[string]string{"out/f": "made meanwhile", "out/g/y": "made meanwhile"})
		return s.putBack(aside, names, unix.EACCES)
	})
	wantCode(t, err, codeConflict)
	left, _ := filepath.Glob(dir + "/out/" + tempPrefix + "*")
	if len(left) != 1 || !strings.Contains(err.Error(), filepath.Base(left[0])) {
		t.Fatalf("%v, kept in %q", err, left)
	}
	if get(t, dir+"/out/f") != "old" || get(t, dir+"/out/free") != "free" || get(t, dir+"/out/g/x") != "old" ||
		get(t, left[0]+"/f") != "made meanwhile" || get(t, left[0]+"/g/y") != "made meanwhile" {
		t.Errorf("%v", snapshotTree(t, dir))
	}
	if err := os.RemoveAll(left[0]); err != nil {
		t.Fatal(err)
	}
}
