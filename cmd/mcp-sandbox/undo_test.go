package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tree fills a workspace and returns what is in it, by path.
func tree(t *testing.T, root string, files int) map[string]string {
	t.Helper()
	openPath(t, root)
	was := map[string]string{}
	for i := range files {
		path := filepath.Join(fmt.Sprintf("d%d", i%7), fmt.Sprintf("f%d", i))
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		was[path] = fmt.Sprintf("text %d\n", i)
		put(t, filepath.Join(root, path), was[path])
	}
	giveToSandbox(t, root)
	return was
}

// giveToSandbox lets commands of a root server, which run as the owner of the
// workspace, write there.
func giveToSandbox(t *testing.T, root string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, 65534, 65534)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func expectTree(t *testing.T, root string, was map[string]string) {
	t.Helper()
	for path, text := range was {
		expect(t, filepath.Join(root, path), text)
	}
}

// TestUndoAtTheFirstCommand: whatever the first call destroys comes back, by
// every call that can destroy, and its result says how.
func TestUndoAtTheFirstCommand(t *testing.T) {
	for _, destroy := range []struct {
		name, tool string
		args       map[string]any
		says       bool
	}{
		{"shell", "exec_command", map[string]any{"cmd": "rm -rf *"}, true},
		{"rewrite", "exec_command", map[string]any{"cmd": "for f in */*; do echo gone > $f; done; sleep 1"}, false},
		{"rm", "rm", map[string]any{"path": "d0", "recursive": true}, false},
		{"mv", "mv", map[string]any{"path": "d0", "destination": "elsewhere"}, false},
		{"write", "write_file", map[string]any{"path": "d0/f0", "content": "gone"}, false},
		{"patch", "apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Delete File: d0/f0\n*** End Patch\n"}, false},
	} {
		t.Run(destroy.name, func(t *testing.T) {
			root := t.TempDir()
			was := tree(t, root, 60)
			c := startServer(t, "--root", root)
			c.initialize("2025-11-25")
			text := c.ok(destroy.tool, destroy.args).text()
			if destroy.says && (!strings.Contains(text, "60 files were removed") || !strings.Contains(text, "snapshot_restore snapshot_id=")) {
				t.Errorf("the result does not say how to undo it:\n%s", text)
			}
			c.ok("exec_command", map[string]any{"cmd": "ls"})
			if text := c.ok("snapshot_diff", map[string]any{"snapshot_id": "latest"}).text(); strings.HasPrefix(text, "0 changes") {
				t.Errorf("latest tells of no change:\n%s", text)
			}
			c.ok("snapshot_restore", map[string]any{"snapshot_id": "latest"})
			expectTree(t, root, was)
			// Restoring again changes nothing.
			c.ok("snapshot_restore", map[string]any{"snapshot_id": "latest"})
			expectTree(t, root, was)
		})
	}
}

// TestUndoLatestStep: latest is the state before the newest change, not before
// the first.
func TestUndoLatestStep(t *testing.T) {
	root := t.TempDir()
	was := tree(t, root, 3)
	c := startServer(t, "--root", root)
	c.initialize("2025-11-25")
	c.ok("exec_command", map[string]any{"cmd": "echo one > new"})
	// A call waits for the snapshot before it only shortly.
	for strings.Count(c.ok("snapshot_list", nil).text(), "\n") < 2 {
		time.Sleep(10 * time.Millisecond)
	}
	c.ok("exec_command", map[string]any{"cmd": "rm -rf *"})
	c.ok("snapshot_restore", map[string]any{"snapshot_id": "latest"})
	expectTree(t, root, was)
	expect(t, filepath.Join(root, "new"), "one\n")
}

// TestUndoOfExec: the command line keeps the promise too, and --no-baseline
// turns it off.
func TestUndoOfExec(t *testing.T) {
	h, root := newHost(t), t.TempDir()
	was := tree(t, root, 30)
	text, err := h.try("exec", "--root", root, "--", "rm -rf *")
	if err != nil || !strings.Contains(text, `mcp-sandbox snapshots restore --root `+root+` `) || strings.Contains(text, "snapshot_restore") {
		t.Errorf("how to undo it: %v %s", err, text)
	}
	h.snapshots(root, "restore", "latest")
	expectTree(t, root, was)

	off := newHost(t)
	off.run("exec", "--root", root, "--no-baseline", "--", "true")
	if list := off.snapshots(root, "list"); strings.Count(list, "\n") != 1 {
		t.Errorf("--no-baseline stored\n%s", list)
	}
}

// TestBaselineLimit: without ignored files first, then none at all, and the
// result says so once.
func TestBaselineLimit(t *testing.T) {
	root := t.TempDir()
	was := tree(t, root, 5)
	put(t, filepath.Join(root, ".gitignore"), "big\n")
	put(t, filepath.Join(root, "big"), strings.Repeat("x", 1<<20))
	giveToSandbox(t, root)

	c := startServer(t, "--root", root, "--baseline-limit", "512K")
	c.initialize("2025-11-25")
	if text := c.ok("exec_command", map[string]any{"cmd": "rm -rf d*"}).text(); strings.Count(text, "version control ignores") != 1 {
		t.Errorf("the result says\n%s", text)
	}
	if text := c.ok("exec_command", map[string]any{"cmd": "true"}).text(); strings.Contains(text, "version control") {
		t.Errorf("said twice:\n%s", text)
	}
	c.ok("snapshot_restore", map[string]any{"snapshot_id": "latest"})
	expectTree(t, root, was)
	expect(t, filepath.Join(root, "big"), strings.Repeat("x", 1<<20))

	c = startServer(t, "--root", root, "--baseline-limit", "1")
	c.initialize("2025-11-25")
	text := c.ok("write_file", map[string]any{"path": "x", "content": "y"}).text()
	if strings.Count(text, "does not reach back to here") != 1 {
		t.Errorf("the result says\n%s", text)
	}
}

// TestUndoUnderPolicy: what is hidden is not stored, what is protected is not
// restored, and a read-only session stores nothing.
func TestUndoUnderPolicy(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("nothing in the workspace can be hidden at this level")
	}
	root := t.TempDir()
	was := tree(t, root, 5)
	put(t, filepath.Join(root, "secret"), "hidden")
	giveToSandbox(t, root)
	c := startServer(t, "--root", root, "--deny-read", "secret")
	c.initialize("2025-11-25")
	c.ok("exec_command", map[string]any{"cmd": "rm -rf d*"})
	c.ok("snapshot_restore", map[string]any{"snapshot_id": "latest"})
	expectTree(t, root, was)
	expect(t, filepath.Join(root, "secret"), "hidden")

	c = startServer(t, "--root", root, "--read-only-tools")
	c.initialize("2025-11-25")
	c.ok("ls", nil)
	if text := c.ok("snapshot_list", nil).text(); !strings.Contains(text, "no snapshots") {
		t.Errorf("a read-only session stored\n%s", text)
	}
}

// TestUndoOfTwoServers: servers on one root each have their baseline, and
// retention keeps both.
func TestUndoOfTwoServers(t *testing.T) {
	root, state := t.TempDir(), filepath.Join(t.TempDir(), "store")
	was := tree(t, root, 10)
	a := startServer(t, "--root", root, "--snapshot-store", state, "--snapshot-keep", "2")
	a.initialize("2025-11-25")
	a.ok("exec_command", map[string]any{"cmd": "rm d0/*"})
	b := startServer(t, "--root", root, "--snapshot-store", state, "--snapshot-keep", "2")
	b.initialize("2025-11-25")
	for i := range 5 {
		b.ok("exec_command", map[string]any{"cmd": fmt.Sprintf("echo %d > n", i)})
		b.ok("snapshot_create", nil)
	}
	text := a.ok("snapshot_list", nil).text()
	first := strings.Fields(text)[0]
	if !strings.Contains(strings.SplitN(text, "\n", 2)[0], "baseline") {
		t.Fatalf("the first baseline is gone:\n%s", text)
	}
	a.ok("snapshot_restore", map[string]any{"snapshot_id": first})
	expectTree(t, root, was)
}

// TestUndoOfChmod: what a command made unreadable is readable again after a
// restore, on every level, and one path of it alone can be restored by its
// absolute name.
func TestUndoOfChmod(t *testing.T) {
	root := t.TempDir()
	was := tree(t, root, 30)
	modes := func() (text string) {
		_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				t.Error(err)
				return nil
			}
			fi, err := d.Info()
			if err != nil {
				t.Error(err)
				return nil
			}
			text += fmt.Sprintln(path, fi.Mode())
			return nil
		})
		return text
	}
	before := modes()
	c := startServer(t, "--root", root)
	c.initialize("2025-11-25")
	c.ok("snapshot_create", map[string]any{"label": "base"})
	for _, cmd := range []string{"chmod -R 0 d*; true", "find d* -depth -exec chmod 0 {} +", "chmod 0 d0/*", "chmod 0 d1; rm -rf d2"} {
		c.ok("exec_command", map[string]any{"cmd": cmd})
		path := ""
		if strings.HasPrefix(cmd, "chmod 0 d0") {
			path = filepath.Join(root, "d0")
		}
		text := c.ok("snapshot_restore", map[string]any{"snapshot_id": "base", "path": path}).text()
		if now := modes(); now != before || strings.Contains(text, "left as it is") {
			t.Fatalf("after %s and %s:\n%s\nnot\n%s", cmd, text, now, before)
		}
		expectTree(t, root, was)
	}
}
