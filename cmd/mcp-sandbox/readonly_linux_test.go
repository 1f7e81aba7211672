package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// changesOfRoot are ways to change the workspace; each fails where it is read-only.
var changesOfRoot = []string{
	"echo x > new", "echo x >> f", "> f", "rm f", "rm -rf d", "mkdir e", "rmdir d/e", "mv f g", "mv d /tmp/d", "ln f /tmp/hard && echo x > /tmp/hard", "ln -s f l",
	"cp /etc/hostname f", "truncate -s 0 f", "touch f", "touch new", "mkfifo p", "sed -i s/a/b/ f", "dd if=/dev/zero of=f count=1 2>&1", "git init . 2>&1", "git commit --allow-empty -m x",
	`python3 -c 'import mmap; m = mmap.mmap(open("f", "r+b").fileno(), 0); m[0] = 65'`, `python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("s")'`,
	"cd /proc/self/cwd && echo x > new", "echo x > /proc/self/root$PWD/new", "exec 3< .; echo x > /proc/self/fd/3/new", "mkdir .git/hooks/x", "echo x > .git/config", "tar xf t.tar",
}

// TestReadOnlyRoot: with --read-only commands run and can write nowhere in the
// workspace, the tools that would are missing, and the result says why.
func TestReadOnlyRoot(t *testing.T) {
	root := t.TempDir()
	openPath(t, root)
	for _, args := range [][]string{{"init", "-q", root}, {"-C", root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "first"}} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	put(t, filepath.Join(root, "f"), "a text")
	if err := os.MkdirAll(filepath.Join(root, "d/e"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, "d/e/f"), "b")
	if out, err := exec.Command("tar", "-C", root, "-cf", filepath.Join(root, "t.tar"), "d").CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	giveToSandbox(t, root)
	was := listing(t, root)
	c := startServer(t, "--root", root, "--read-only")
	c.initialize("2025-11-25")
	for _, cmd := range changesOfRoot {
		// Landlock has no right for times and modes, which docs/confinement.md says.
		if cmd == "touch f" && os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
			continue
		}
		o := c.exec(map[string]any{"cmd": cmd, "yield_time_ms": 25000})
		if o.ExitCode == nil || *o.ExitCode == 0 {
			t.Errorf("%s: was not refused: %+v", cmd, o)
		}
		for _, n := range sandboxNotes(o) {
			if strings.Contains(n, root) && !strings.Contains(n, "the workspace is read-only; the operator can start the server without --read-only") && !strings.Contains(n, "protected") {
				t.Errorf("%s: %q", cmd, n)
			}
		}
	}
	for _, cmd := range []string{"git status && git log -1 --format=%s | grep first", "cp -r . $TMPDIR/copy && echo x > $TMPDIR/copy/f", "echo x > ~/f", "cat f"} {
		if o := c.exec(map[string]any{"cmd": cmd, "yield_time_ms": 25000}); o.ExitCode == nil || *o.ExitCode != 0 {
			t.Errorf("%s: %+v", cmd, o)
		}
	}
	offered := string(c.request("tools/list", map[string]any{}).Result)
	for _, tool := range []string{"write_file", "edit_file", "apply_patch", "mkdir", "mv", "rm", "extract_archive", "snapshot_restore"} {
		if strings.Contains(offered, `"`+tool+`"`) {
			t.Errorf("%s is offered", tool)
		}
	}
	if text := c.ok("read_file", map[string]any{"path": "f"}).text(); !strings.Contains(text, "a text") {
		t.Errorf("%s", text)
	}
	if now := listing(t, root); now != was {
		t.Errorf("the workspace changed:\n%s\nbefore:\n%s", now, was)
	}
}

// listing is every name, size, mode, time and content below a directory; at landlock
// without modes and times.
func listing(t *testing.T, root string) string {
	t.Helper()
	format := `%p %y %m %s %T@ %C@\n`
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		format = `%p %y %s\n`
	}
	out, err := exec.Command("sh", "-c", `cd "$0" && find . -printf "$1" | sort && find . -type f -exec cksum {} + | sort`, root, format).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestReadOnlyRefused: what --read-only cannot go with is refused at the start.
func TestReadOnlyRefused(t *testing.T) {
	root := t.TempDir()
	openPath(t, root)
	for _, args := range [][]string{nil, {"--root", root, "--home", "workspace"}, {"--root", root, "--write", filepath.Dir(root)}, {"--root", root, "--write", root}} {
		out, err := exec.Command(binary, append(append([]string{"exec", "--read-only"}, args...), "--", "true")...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "--read-only does not work here") {
			t.Errorf("%q: %v, %s", args, err, out)
		}
	}
	// A directory in it may be granted.
	if err := os.Mkdir(root+"/build", 0o755); err != nil {
		t.Fatal(err)
	}
	giveToSandbox(t, root)
	out, err := exec.Command(binary, append([]string{"exec", "--read-only", "--root", root, "--write", root + "/build"}, "--", "echo x > build/x && ! echo x > x")...).CombinedOutput()
	if err != nil {
		t.Errorf("%v, %s", err, out)
	}
}
