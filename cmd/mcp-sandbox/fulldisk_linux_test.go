package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T, dir, options string) {
	t.Helper()
	needRoot(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fill takes what is left of a disk.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for part := []byte(strings.Repeat("x", 64<<10)); len(part) > 0; {
		if _, err := f.Write(part); err != nil {
			part = part[:len(part)/2]
		}
	}
	return func() { _ = os.Remove(f.Name()) }
}

// TestFullWorkspace: on a full disk every call that writes is refused with
// disk_full and leaves what was there, appended lines are whole, and when there
// is room again everything goes on.
func TestFullWorkspace(t *testing.T) {
	for name, args := range map[string][]string{"default": nil, "landlock": atLandlock()} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "w")
			openPath(t, filepath.Dir(root))
			smallDisk(t, root, "size=1m,mode=755")
			put(t, filepath.Join(root, "a"), "one\n")
			giveToSandbox(t, root)
			c := startServer(t, append([]string{"--root", root}, args...)...)
			c.initialize("2025-11-25")
			c.ok("snapshot_create", map[string]any{"label": "base"})
			line, lines := strings.Repeat("x", 50_000)+"\n", 0
			for {
				r := c.call("write_file", map[string]any{"path": "log", "content": line, "mode": "append"})
				if r.IsError {
					if !strings.HasPrefix(r.text(), "disk_full: ") {
						t.Errorf("%s", r.text())
					}
					break
				}
				lines++
			}
			fill(t, root)
			big := strings.Repeat("y", 200_000)
			for _, call := range []struct {
				tool string
				args map[string]any
			}{
				{"write_file", map[string]any{"path": "a", "content": big}},
				{"write_file", map[string]any{"path": "log", "content": big, "mode": "append"}},
				{"write_file", map[string]any{"path": "new/deep/b", "content": big}},
				{"write_file", map[string]any{"path": "b", "content": big, "mode": "create"}},
				{"edit_file", map[string]any{"path": "a", "old_text": "one", "new_text": big}},
				{"apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Update File: a\n@@\n-one\n+two\n*** Add File: n/b\n+" + big + "\n*** End Patch\n"}},
			} {
				if text := c.bad("disk_full", call.tool, call.args); strings.Contains(text, root) {
					t.Errorf("%s", text)
				}
			}
			expect(t, filepath.Join(root, "a"), "one\n")
			expect(t, filepath.Join(root, "log"), strings.Repeat(line, lines))
			entries, _ := os.ReadDir(root)
			if len(entries) != 3 {
				t.Errorf("left: %v", entries)
			}
			c.ok("snapshot_restore", map[string]any{"snapshot_id": "base"})
			entries, _ = os.ReadDir(root)
			if len(entries) != 1 {
				t.Errorf("after a restore: %v", entries)
			}
			c.ok("write_file", map[string]any{"path": "log", "content": "goes on\n", "mode": "append"})
			// A restore that the disk cannot hold changes nothing.
			c.ok("exec_command", map[string]any{"cmd": "head -c 600000 /dev/zero | tr '\\0' z > z"})
			c.ok("snapshot_create", map[string]any{"label": "large"})
			c.ok("exec_command", map[string]any{"cmd": "rm z"})
			free := fill(t, root)
			c.bad("disk_full", "snapshot_restore", map[string]any{"snapshot_id": "large"})
			expect(t, filepath.Join(root, "log"), "goes on\n")
			free()
			c.ok("snapshot_restore", map[string]any{"snapshot_id": "large"})
			if fi, err := os.Stat(filepath.Join(root, "z")); err != nil || fi.Size() != 600000 {
				t.Errorf("%v %v", fi, err)
			}
		})
	}
}

// TestFullState: where the state directory is full, calls go on, the loss of undo
// is said once, what is stored stays whole, and there is neither half a snapshot
// nor half an archive.
func TestFullState(t *testing.T) {
	h, base := newHost(t), t.TempDir()
	openPath(t, base)
	root, out := filepath.Join(base, "w"), filepath.Join(base, "out")
	smallDisk(t, h.state, "size=4m,mode=700")
	smallDisk(t, out, "size=256k,mode=755")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	was := tree(t, root, 20)
	put(t, filepath.Join(root, "large"), string(anyBytes(500_000)))
	giveToSandbox(t, root)
	was["large"] = string(anyBytes(500_000))
	first := strings.TrimSpace(h.snapshots(root, "create", "first"))
	whole := filepath.Join(base, "whole.tar")
	h.snapshots(root, "export", whole, first)

	c := startServer(t, "--root", root, "--state-dir", h.state)
	c.initialize("2025-11-25")
	c.ok("ls", nil)
	c.ok("write_file", map[string]any{"path": "n", "content": "n"})
	free := fill(t, h.state)
	told := ""
	for i := range 3 {
		told += c.ok("write_file", map[string]any{"path": "incompressible", "content": fmt.Sprintf("%x", anyBytes(100_000+i))}).text()
		told += c.ok("exec_command", map[string]any{"cmd": "echo still; sleep 0.3"}).text()
	}
	if n := strings.Count(told, "undo: from here on changes are not stored"); n != 1 {
		t.Errorf("said %d times:\n%.2000s", n, told)
	}
	c.bad("disk_full", "snapshot_create", nil)
	c.bad("disk_full", "snapshot_restore", map[string]any{"snapshot_id": "first"})
	free()
	c.ok("snapshot_restore", map[string]any{"snapshot_id": "first"})
	expectTree(t, root, was)
	// With room again changes are stored again, which is said once.
	waitFor(t, "changes to be stored again", func() bool {
		return strings.Contains(c.ok("exec_command", map[string]any{"cmd": "date +%N > n; sleep 0.2"}).text(), "changes are stored again")
	})
	c.ok("exec_command", map[string]any{"cmd": "rm -rf *"})
	c.ok("snapshot_restore", map[string]any{"snapshot_id": "latest"})
	expectTree(t, root, was)
	c.stop()

	free = fill(t, h.state)
	put(t, filepath.Join(root, "other"), string(anyBytes(300_000)))
	for _, args := range [][]string{{"create"}, {"import", whole}, {"restore", first}} {
		if text, err := h.try(append([]string{"snapshots", "--root", root}, args...)...); err == nil && args[0] != "import" || err != nil && !strings.Contains(text, "disk_full") {
			t.Errorf("%v: %v %s", args, err, text)
		}
	}
	free()
	if text, err := h.try("snapshots", "--root", root, "export", filepath.Join(out, "half.tar"), first); err == nil || !strings.Contains(text, "disk_full") {
		t.Errorf("export: %v %s", err, text)
	}
	if left, _ := os.ReadDir(out); len(left) > 0 {
		t.Errorf("half an archive is left: %v", left)
	}
	h.snapshots(root, "check")
	h.snapshots(root, "import", whole, "again")
	h.snapshots(root, "restore", "again")
	expectTree(t, root, was)
}

// TestReadOnlyDisk: on a file system that has become read-only every call that
// writes says so and changes nothing; snapshots of a read-only store can still be
// read.
func TestReadOnlyDisk(t *testing.T) {
	h, base := newHost(t), t.TempDir()
	openPath(t, base)
	root := filepath.Join(base, "w")
	smallDisk(t, root, "size=4m,mode=755")
	smallDisk(t, h.state, "size=4m,mode=700")
	put(t, filepath.Join(root, "a"), "one\n")
	giveToSandbox(t, root)
	remount := func(dir string, flags uintptr) {
		t.Helper()
		if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	first := strings.TrimSpace(h.snapshots(root, "create", "first"))
	put(t, filepath.Join(root, "a"), "two\n")
	c := startServer(t, "--root", root, "--state-dir", h.state)
	c.initialize("2025-11-25")
	c.ok("exec_command", map[string]any{"cmd": "true"})
	remount(root, unix.MS_RDONLY)
	for _, call := range []struct {
		tool string
		args map[string]any
	}{
		{"write_file", map[string]any{"path": "a", "content": "x"}},
		{"write_file", map[string]any{"path": "a", "content": "x", "mode": "append"}},
		{"write_file", map[string]any{"path": "d/n", "content": "x"}},
		{"edit_file", map[string]any{"path": "a", "old_text": "two", "new_text": "x"}},
		{"apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Update File: a\n@@\n-two\n+x\n*** End Patch\n"}},
		{"mkdir", map[string]any{"path": "d"}},
		{"rm", map[string]any{"path": "a"}},
		{"mv", map[string]any{"path": "a", "destination": "b"}},
	} {
		if text := c.bad("permission_denied", call.tool, call.args); !strings.Contains(text, "read-only file system") {
			t.Errorf("%s: %s", call.tool, text)
		}
	}
	if text := c.bad("snapshot_failed", "snapshot_restore", map[string]any{"snapshot_id": "first"}); !strings.Contains(text, "read-only file system") {
		t.Errorf("%s", text)
	}
	expect(t, filepath.Join(root, "a"), "two\n")
	remount(root, 0)
	c.ok("snapshot_restore", map[string]any{"snapshot_id": "first"})
	expect(t, filepath.Join(root, "a"), "one\n")
	c.stop()

	put(t, filepath.Join(root, "a"), "three\n")
	remount(h.state, unix.MS_RDONLY)
	defer remount(h.state, 0)
	if text := h.snapshots(root, "show", first); !strings.Contains(text, "+three") {
		t.Errorf("show: %s", text)
	}
	h.snapshots(root, "check")
	archive := filepath.Join(base, "a.tar")
	h.snapshots(root, "export", archive, first)
	if b, err := os.ReadFile(archive); err != nil || !bytes.Contains(b, []byte("one\n")) {
		t.Errorf("the archive: %v", err)
	}
	for _, args := range [][]string{{"create"}, {"restore", first}, {"delete", first}, {"import", archive}} {
		if text, err := h.try(append([]string{"snapshots", "--root", root}, args...)...); err == nil || !strings.Contains(text, "read-only file system") {
			t.Errorf("%v: %v %s", args, err, text)
		}
	}
	if text, err := h.try("exec", "--root", root, "--", "true"); err == nil || !strings.Contains(text, "check --state-dir") {
		t.Errorf("exec: %v %s", err, text)
	}
	expect(t, filepath.Join(root, "a"), "three\n")
}

// TestSessionOnFullState: a session that cannot begin says that the disk is full, and
// begins when it is not.
func TestSessionOnFullState(t *testing.T) {
	before := &network{state: filepath.Join(t.TempDir(), "state"), temp: t.TempDir()}
	openPath(t, before.temp)
	smallDisk(t, before.state, "size=2m,mode=700")
	n := startNetwork(t, before)
	c := n.client(annsToken)
	c.open(nil)
	free := fill(t, n.state)
	c.bad("disk_full", "session_open", nil)
	free()
	c.open(nil)
	n.stop()
}
