package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// host is a state folder to run the program with, without a server.
type host struct {
	t           *testing.T
	state, temp string
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, state: filepath.Join(t.TempDir(), "state"), temp: t.TempDir()}
	openPath(t, h.temp)
	return h
}

func (h *host) try(args ...string) (string, error) {
	cmd := exec.Command(binary, append([]string{args[0], "--state-dir", h.state}, args[1:]...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+h.temp)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *host) run(args ...string) string {
	h.t.Helper()
	out, err := h.try(args...)
	if err != nil {
		h.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

// snapshots runs one verb of the command on a folder.
func (h *host) snapshots(root string, args ...string) string {
	h.t.Helper()
	return h.run(append([]string{"snapshots", "--root", root}, args...)...)
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, path, text string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != text {
		t.Errorf("%s holds %q, %v; want %q", filepath.Base(path), b, err, text)
	}
}

// TestSnapshotRetention: the flags bound what is kept.
func TestSnapshotRetention(t *testing.T) {
	h, root := newHost(t), t.TempDir()
	for _, text := range []string{"one", "two", "three"} {
		put(t, filepath.Join(root, "f"), text)
		h.snapshots(root, "create", "--snapshot-keep", "2", text)
	}
	list := h.snapshots(root, "list")
	if strings.Contains(list, `"one"`) || !strings.Contains(list, `"two"`) || !strings.Contains(list, `"three"`) {
		t.Errorf("--snapshot-keep 2 kept\n%s", list)
	}
	h.snapshots(root, "create", "--snapshot-keep-age", "1ns", "four")
	if list = h.snapshots(root, "list", "--snapshot-keep-age", "0"); strings.Contains(list, `"two"`) || !strings.Contains(list, `"four"`) {
		t.Errorf("--snapshot-keep-age 1ns kept\n%s", list)
	}
	h.snapshots(root, "create", "--snapshot-keep-size", "1", "five")
	if list = h.snapshots(root, "list"); strings.Contains(list, `"four"`) || !strings.Contains(list, `"five"`) {
		t.Errorf("--snapshot-keep-size 1 kept\n%s", list)
	}
	if out, err := h.try("snapshots", "--root", root, "--snapshot-keep", "-1", "list"); err == nil || !strings.Contains(out, "negative") {
		t.Errorf("--snapshot-keep -1: %v %s", err, out)
	}
}

// TestSnapshotsLeaveEphemeral: what a manifest makes anew at each start is
// neither stored nor touched by the command either.
func TestSnapshotsLeaveEphemeral(t *testing.T) {
	h, root := newHost(t), t.TempDir()
	openPath(t, root)
	manifest := filepath.Join(t.TempDir(), "m.toml")
	put(t, manifest, "version = 1\n[entries.passing]\ntype = \"file\"\ncontent = \"made\"\nephemeral = true\n")
	h.run("exec", "--root", root, "--manifest", manifest, "--", "true")
	expect(t, filepath.Join(root, "passing"), "made")
	put(t, filepath.Join(root, "lasting"), "before")
	id := strings.TrimSpace(h.snapshots(root, "create"))
	put(t, filepath.Join(root, "passing"), "changed")
	put(t, filepath.Join(root, "lasting"), "after")
	if text := h.snapshots(root, "show", id); strings.Contains(text, "passing") || !strings.Contains(text, "lasting") {
		t.Errorf("the difference is\n%s", text)
	}
	h.snapshots(root, "restore", id)
	expect(t, filepath.Join(root, "passing"), "changed")
	expect(t, filepath.Join(root, "lasting"), "before")
}

// TestSnapshotStoreIsAFolder: an address is refused, not made a folder of.
func TestSnapshotStoreIsAFolder(t *testing.T) {
	h := newHost(t)
	for _, store := range []string{"s3://bucket/prefix", "ftp://host/p"} {
		if out, err := h.try("snapshots", "--root", t.TempDir(), "--snapshot-store", store, "list"); err == nil || !strings.Contains(out, "name a folder") {
			t.Errorf("%s: %v %s", store, err, out)
		}
	}
	store, root := filepath.Join(t.TempDir(), "store"), t.TempDir()
	put(t, filepath.Join(root, "f"), "stored")
	id := strings.TrimSpace(h.snapshots(root, "create", "--snapshot-store", store))
	put(t, filepath.Join(root, "f"), "lost")
	h.snapshots(root, "restore", "--snapshot-store", store, id)
	expect(t, filepath.Join(root, "f"), "stored")
}
