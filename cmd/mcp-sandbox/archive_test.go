package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSnapshotArchives: what is exported is a tar that any tar reads, and comes
// back by an import with all that it had; snapshots are named by id, label and
// latest at every verb.
func TestSnapshotArchives(t *testing.T) {
	h, root, out := newHost(t), t.TempDir(), t.TempDir()
	was := tree(t, root, 20)
	for _, err := range []error{
		os.Symlink("/etc/passwd", filepath.Join(root, "link")), os.Mkdir(filepath.Join(root, "empty"), 0o755),
		os.Chmod(filepath.Join(root, "d0/f0"), 0o555), os.Link(filepath.Join(root, "d1/f1"), filepath.Join(root, "hard")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	id := strings.TrimSpace(h.snapshots(root, "create", "first"))
	for _, ref := range []string{id, "first", "latest"} {
		for _, ext := range []string{".tar", ".tar.zst"} {
			file := filepath.Join(out, ref+ext)
			h.snapshots(root, "export", file, ref)
			if ext == ".tar" {
				unpacked := t.TempDir()
				if text, err := exec.Command("tar", "-C", unpacked, "-xf", file).CombinedOutput(); err != nil {
					t.Fatalf("tar: %v %s", err, text)
				}
				expectTree(t, unpacked, was)
			}
			elsewhere := t.TempDir()
			label := "from " + ref + ext
			other := strings.TrimSpace(h.snapshots(elsewhere, "import", file, label))
			if entries, _ := os.ReadDir(elsewhere); len(entries) != 0 {
				t.Errorf("an import put %v into the directory", entries)
			}
			h.snapshots(elsewhere, "restore", label)
			expectTree(t, elsewhere, was)
			if got, _ := os.Readlink(filepath.Join(elsewhere, "link")); got != "/etc/passwd" {
				t.Errorf("the link leads to %q", got)
			}
			if fi, err := os.Stat(filepath.Join(elsewhere, "d0/f0")); err != nil || fi.Mode().Perm() != 0o555 {
				t.Errorf("%v %v", fi, err)
			}
			a, _ := os.Stat(filepath.Join(elsewhere, "d1/f1"))
			if b, err := os.Stat(filepath.Join(elsewhere, "hard")); err != nil || !os.SameFile(a, b) {
				t.Errorf("hard links are apart: %v", err)
			}
			if text := h.snapshots(elsewhere, "show", other); strings.Contains(text, "d0") {
				t.Errorf("after the restore there are differences:\n%s", text)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(out, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if text, err := h.try(append([]string{"snapshots", "--root", root}, args...)...); err == nil || !strings.Contains(text, want) {
			t.Errorf("%q: %v %s, want %q", args, err, text, want)
		}
	}
	refused("exists", "export", filepath.Join(out, "first.tar"))
	refused(".tar.zst", "export", filepath.Join(out, "x.zip"))
	refused("snapshot_not_found", "export", filepath.Join(out, "none.tar"), "nothing")
	refused("cannot be read", "import", filepath.Join(out, "none.tar"))
	refused("unknown command", "exprot", filepath.Join(out, "x.tar"))
	if _, err := os.Lstat(filepath.Join(out, "none.tar")); err == nil {
		t.Error("a refused export left a file")
	}

	// A foreign archive may not lead out.
	refused("unsafe_archive", "import", "--foreign", filepath.Join(out, "first.tar"))

	if text := h.snapshots(root, "check"); !strings.Contains(text, "0 damaged") {
		t.Errorf("%s", text)
	}
	h.snapshots(root, "create", "second")
	if text := h.snapshots(root, "delete", "latest", "first"); strings.Count(text, "deleted") != 2 {
		t.Errorf("%s", text)
	}
	if list := h.snapshots(root, "list"); strings.Contains(list, "first") || strings.Contains(list, "second") {
		t.Errorf("%s", list)
	}
	refused("snapshot_not_found", "delete", "first")
}

// TestSnapshotCheck finds a byte that is not what it was.
func TestSnapshotCheck(t *testing.T) {
	h, root := newHost(t), t.TempDir()
	tree(t, root, 5)
	put(t, filepath.Join(root, "big"), strings.Repeat("0123456789abcdef", 4096)+"end")
	id := strings.TrimSpace(h.snapshots(root, "create"))
	h.snapshots(root, "check", id)
	damaged := 0
	_ = filepath.WalkDir(filepath.Join(h.state, "snapshots"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(path, "pack") {
			b, err := os.ReadFile(path)
			if err != nil || len(b) < 200 {
				return err
			}
			b[100] ^= 1
			_ = os.Chmod(path, 0o600)
			damaged++
			return os.WriteFile(path, b, 0o600)
		}
		return err
	})
	if damaged == 0 {
		t.Fatal("no pack was found to damage")
	}
	for _, args := range [][]string{{"check"}, {"check", id}, {"check", "latest"}} {
		text, err := h.try(append([]string{"snapshots", "--root", root}, args...)...)
		if err == nil || !strings.Contains(text, "damaged: ") || !strings.Contains(text, "1 of 1 snapshots") {
			t.Errorf("%q: %v\n%s", args, err, text)
		}
	}
}

// TestFrom: a new workspace starts with a tar or a snapshot, by the flag and by a
// manifest; one that holds something is left alone.
func TestFrom(t *testing.T) {
	h, source, out := newHost(t), t.TempDir(), t.TempDir()
	was := tree(t, source, 10)
	if err := os.MkdirAll(filepath.Join(source, ".git/hooks"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(source, ".git/hooks/pre-commit"), "#!/bin/sh\n")
	giveToSandbox(t, source)
	id := strings.TrimSpace(h.snapshots(source, "create", "base"))
	for _, name := range []string{"start.tar", "start.tar.zst"} {
		h.snapshots(source, "export", filepath.Join(out, name))
	}
	if text, err := exec.Command("tar", "-C", source, "-czf", filepath.Join(out, "start.tgz"), ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v %s", err, text)
	}
	for _, from := range []string{"start.tar", "start.tar.zst", "start.tgz"} {
		put(t, filepath.Join(out, from+".json"), fmt.Sprintf(`{"from": %q, "entries": {"made": {"type": "file", "content": "m"}}}`, from))
	}
	put(t, filepath.Join(out, "id.json"), fmt.Sprintf(`{"from": "%s@%s"}`, source, id))
	put(t, filepath.Join(out, "outside.json"), `{"from": "../start.tar"}`)

	const sum = `cat d0/f0 d1/f1 .git/hooks/pre-commit && echo more > d0/f0 && echo && find . -name 'f*' | wc -l`
	for _, args := range [][]string{
		{"--from", filepath.Join(out, "start.tar")}, {"--from", filepath.Join(out, "start.tar.zst")}, {"--from", filepath.Join(out, "start.tgz")},
		{"--from", source + "@" + id}, {"--from", source + "@base"}, {"--from", source + "@latest"},
		{"--manifest", filepath.Join(out, "start.tar.json")}, {"--manifest", filepath.Join(out, "start.tgz.json")}, {"--manifest", filepath.Join(out, "id.json")},
	} {
		for _, root := range []string{"", t.TempDir()} {
			call := append([]string{"exec"}, args...)
			if root != "" {
				openPath(t, root)
				giveToSandbox(t, root)
				call = append(call, "--root", root)
			}
			text := h.run(append(call, "--", sum)...)
			if !strings.Contains(text, "text 0\ntext 1\n#!/bin/sh\n") || !strings.Contains(text, "\n10\n") {
				t.Errorf("%q:\n%s", call, text)
			}
			if root == "" {
				continue
			}
			// It holds something by now.
			if text := h.run(append(call, "--", "cat d0/f0")...); !strings.Contains(text, "more\n") {
				t.Errorf("%q a second time:\n%s", call, text)
			}
		}
	}

	// A directory's own snapshot brings an empty one back.
	for _, ref := range []string{id, "base", "latest"} {
		if err := os.RemoveAll(source); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(source, 0o755); err != nil {
			t.Fatal(err)
		}
		giveToSandbox(t, source)
		h.run("exec", "--root", source, "--from", ref, "--", "true")
		expectTree(t, source, was)
	}

	// Kept sessions start from it once.
	kept := []string{"exec", "--session", "from", "--from", filepath.Join(out, "start.tar"), "--"}
	if text := h.run(append(kept, sum)...); !strings.Contains(text, "text 0\n") {
		t.Errorf("%s", text)
	}
	if text := h.run(append(kept, "cat d0/f0")...); text != "more\n" {
		t.Errorf("a resumed session holds %q", text)
	}

	for _, tc := range []struct {
		want string
		args []string
	}{
		{"not_found", []string{"--from", filepath.Join(out, "none.tar")}},
		{"is not a file", []string{"--from", out + "/"}},
		{"ROOT@ID", []string{"--from", "latest"}},
		{"snapshot_not_found", []string{"--from", source + "@nothing"}},
		{"snapshot_not_found", []string{"--root", t.TempDir(), "--from", "nothing"}},
		{"outside the manifest", []string{"--manifest", filepath.Join(out, "outside.json")}},
		{"unsafe_archive", []string{"--from", filepath.Join(out, "id.json")}},
	} {
		if text, err := h.try(append(append([]string{"exec"}, tc.args...), "--", "true")...); err == nil || !strings.Contains(text, tc.want) {
			t.Errorf("%q: %v %s", tc.args, err, text)
		}
	}
}

// TestOtherFileSystems: a file system mounted below the directory is named at
// create, diff and restore, and left alone.
func TestOtherFileSystems(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	h, root := newHost(t), t.TempDir()
	put(t, filepath.Join(root, "f"), "one")
	if err := os.Mkdir(filepath.Join(root, "m"), 0o755); err != nil {
		t.Fatal(err)
	}
	// In a mount namespace of its own, so that this machine keeps its mounts.
	script := `mount --make-rprivate / && mount -t tmpfs none "$1/m" && echo x > "$1/m/x" || exit 77
"$2" snapshots --state-dir "$3" --root "$1" create first && echo two > "$1/f" && "$2" snapshots --state-dir "$3" --root "$1" show first && "$2" snapshots --state-dir "$3" --root "$1" restore first &&
if "$2" snapshots --state-dir "$3" --root "$1" restore first --path m/x; then exit 1; fi; cat "$1/m/x"`
	out, err := exec.Command("unshare", "-m", "sh", "-c", script, "sh", root, h.binary, h.state).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && (exit.ExitCode() == 77 || exit.ExitCode() == 1 && strings.Contains(string(out), "unshare")) {
		t.Skipf("nothing can be mounted here: %s", out)
	}
	text := string(out)
	for _, want := range []string{`not stored: "m", another file system`, `not compared: "m", another file system`, `left as it is: "m", another file system`, `"m/x" is on the file system mounted at "m"`} {
		if err != nil || !strings.Contains(text, want) || !strings.HasSuffix(text, "x\n") {
			t.Errorf("%v, not %q:\n%s", err, want, text)
		}
	}
	expect(t, filepath.Join(root, "f"), "one")
}
