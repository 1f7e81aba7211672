package stage

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// ownMounts gives the test a mount namespace, so that what it mounts is nobody else's.
// Its thread ends with it.
func ownMounts(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		t.Skipf("no mount namespace here: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("mounts cannot be private here: %v", err)
	}
}

func onlyRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
}

func mount(t *testing.T, what, at, kind string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(what, at, kind, flags, ""); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
}

// TestReplayGoesOn: what a killed apply left and cannot be ended is named, nothing of
// the project is lost, other paths are applied, and it is ended once it can be.
func TestReplayGoesOn(t *testing.T) {
	swapped := func(t *testing.T, dir, temp string) (e journalEntry) { // killed after the exchange
		putFile(t, dir+"/"+temp, "mine")
		if err := unix.Renameat2(unix.AT_FDCWD, dir+"/"+temp, unix.AT_FDCWD, dir+"/x", unix.RENAME_EXCHANGE); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(dir+"/x", &st); err != nil {
			t.Fatal(err)
		}
		e.made(&st)
		return e
	}
	taken := func(t *testing.T, dir, temp string) (e journalEntry) { // killed after the removal
		if err := os.Rename(dir+"/x", dir+"/"+temp); err != nil {
			t.Fatal(err)
		}
		return e
	}
	built := func(t *testing.T, dir, temp string) (e journalEntry) { // killed while building
		putFile(t, dir+"/"+temp, "half")
		return e
	}
	do := func(f func(dir, temp string) error) func(t *testing.T, dir, temp string) {
		return func(t *testing.T, dir, temp string) {
			if err := f(dir, temp); err != nil {
				t.Fatal(err)
			}
		}
	}
	replaced := do(func(dir, _ string) error {
		return os.WriteFile(dir+"/x", []byte("newer"), 0o644)
	})
	gone := do(func(dir, _ string) error { return os.Remove(dir + "/x") })
	isDir := do(func(dir, _ string) error {
		_ = os.Remove(dir + "/x")
		return os.MkdirAll(dir+"/x/in", 0o755)
	})
	notDir := do(func(dir, _ string) error { return os.RemoveAll(dir + "/x") })
	away := do(func(dir, _ string) error { return os.Rename(dir, dir+"-moved") })
	back := do(func(dir, _ string) error { return os.Rename(dir+"-moved", dir) })
	isLink := do(func(dir, _ string) error {
		if err := os.Rename(dir, dir+"-moved"); err != nil {
			return err
		}
		return os.Symlink(dir+"-moved", dir)
	})
	noLink := do(func(dir, _ string) error {
		if err := os.Remove(dir); err != nil {
			return err
		}
		return os.Rename(dir+"-moved", dir)
	})
	readOnly := func(t *testing.T, dir, _ string) {
		if os.Geteuid() == 0 {
			mount(t, dir, dir, "", unix.MS_BIND)
			mount(t, "", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY)
			return
		}
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	writable := func(t *testing.T, dir, _ string) {
		if os.Geteuid() == 0 {
			_ = unix.Unmount(dir, unix.MNT_DETACH)
			return
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	over := func(t *testing.T, dir, _ string) {
		onlyRoot(t)
		mount(t, "none", dir, "tmpfs", 0)
	}
	overName := func(t *testing.T, dir, _ string) {
		onlyRoot(t)
		mount(t, "/dev/null", dir+"/x", "", unix.MS_BIND)
	}
	overTemp := func(t *testing.T, dir, temp string) {
		onlyRoot(t)
		mount(t, "/dev/null", dir+"/"+temp, "", unix.MS_BIND)
	}
	unmount := func(at string) func(t *testing.T, dir, temp string) {
		return func(t *testing.T, dir, temp string) {
			_ = unix.Unmount(strings.NewReplacer("DIR", dir, "TEMP", temp).Replace(at), unix.MNT_DETACH)
		}
	}
	type act = func(t *testing.T, dir, temp string)
	for _, c := range []struct {
		name   string
		step   string
		until  func(t *testing.T, dir, temp string) journalEntry
		then   act
		said   string // of the first apply, "" for nothing
		mend   act
		want   string // x, when it is mended
		mounts bool
	}{
		{"exchanged", stepSwap, swapped, nil, "", nil, "old", false},
		{"exchanged, replaced by a directory", stepSwap, swapped, isDir, "another one has its name", notDir, "old", false},
		{"exchanged, removed", stepSwap, swapped, gone, "", nil, "old", false},
		{"exchanged, directory moved", stepSwap, swapped, away, "its directory is gone", back, "", false},
		{"exchanged, directory a link", stepSwap, swapped, isLink, "its directory is gone", noLink, "", false},
		{"exchanged, read-only", stepSwap, swapped, readOnly, "could not be taken back", writable, "old", true},
		{"exchanged, mounted over the directory", stepSwap, swapped, over, "another file system is mounted", unmount("DIR"), "old", true},
		{"exchanged, mounted over the name", stepSwap, swapped, overName, "could not be put back", unmount("DIR/x"), "old", true},
		{"exchanged, mounted over what was taken", stepSwap, swapped, overTemp, "could not be", unmount("DIR/TEMP"), "old", true},
		{"taken", stepTake, taken, nil, "", nil, "old", false},
		{"taken, replaced", stepTake, taken, replaced, "another one has its name", gone, "old", false},
		{"taken, replaced by a directory", stepTake, taken, isDir, "another one has its name", notDir, "old", false},
		{"taken, directory moved", stepTake, taken, away, "its directory is gone", back, "", false},
		{"taken, read-only", stepTake, taken, readOnly, "could not be put back", writable, "old", true},
		{"taken, mounted over the directory", stepTake, taken, over, "another file system is mounted", unmount("DIR"), "old", true},
		{"built", stepBuild, built, nil, "", nil, "old", false},
		{"built, directory moved", stepBuild, built, away, "", back, "old", false},
		{"built, read-only", stepBuild, built, readOnly, "could not be removed", writable, "old", true},
		{"built, mounted over", stepBuild, built, overTemp, "could not be removed", unmount("DIR/TEMP"), "old", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.mounts && os.Geteuid() == 0 {
				ownMounts(t)
			}
			const in = "d\xff" // no text, which JSON cannot tell
			s, root, upper := newTestStage(t, map[string]string{in + "/x": "old", "y": "y"})
			putFile(t, upper+"/y", "mine")
			dir, temp := root+"/"+in, treecopy.TempName()
			e := c.until(t, dir, temp)
			e.Step, e.Dir, e.Temp, e.Name = c.step, in, temp, "x"
			line, err := e.line()
			if err == nil {
				err = os.WriteFile(s.journalPath(), line, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.then != nil {
				c.then(t, dir, e.Temp)
			}
			res, err := s.Apply([]string{"y"}, Choice{})
			if err != nil || len(res.Done) != 1 {
				t.Fatalf("the other path was not applied: %+v %v", res, err)
			}
			wantText(t, root+"/y", "mine")
			switch {
			case c.said == "" && len(res.Left) > 0, c.said != "" && len(res.Left) != 1:
				t.Fatalf("said: %+v", res.Left)
			case c.said != "" && (res.Left[0].Path != in+"/"+e.Temp || !strings.Contains(res.Left[0].Why, c.said)):
				t.Errorf("said: %+v", res.Left)
			}
			if c.mend != nil {
				c.mend(t, dir, e.Temp)
			}
			if c.want == "" { // told once, as there is nothing to try again
				if left := s.Unfinished(); len(left) > 0 {
					t.Errorf("still said: %+v", left)
				}
				wantText(t, dir+"/"+e.Temp, "old")
				return
			}
			res, err = s.Apply([]string{"y"}, Choice{})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range res.Left {
				if l.Path != "y" {
					t.Errorf("still said: %+v", l)
				}
			}
			wantText(t, dir+"/x", c.want)
			if left, _ := filepath.Glob(dir + "/" + treecopy.TempPrefix + "*"); len(left) > 0 && c.name != "built, directory moved" {
				t.Errorf("left: %q", left)
			}
			if all, err := s.Changes(); err != nil || len(all) > 0 {
				t.Errorf("changes: %+v %v", all, err)
			}
		})
	}
}
