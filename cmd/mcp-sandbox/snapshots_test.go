package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"mcp-sandbox/snapshot/storetest"
)

// host is one machine's state directory and what its server is started with.
type host struct {
	t      *testing.T
	binary string
	state  string
	temp   string
	env    []string
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, binary: binary, state: filepath.Join(t.TempDir(), "state"), temp: t.TempDir()}
	openPath(t, h.temp)
	return h
}

func (h *host) command(args ...string) *exec.Cmd {
	cmd := exec.Command(h.binary, append([]string{args[0], "--state-dir", h.state}, args[1:]...)...)
	cmd.Env = append(append(os.Environ(), "TMPDIR="+h.temp), h.env...)
	return cmd
}

// try gives both outputs of a command.
func (h *host) try(args ...string) (string, error) {
	out, err := h.command(args...).CombinedOutput()
	return string(out), err
}

// run gives the standard output of a command that must succeed.
func (h *host) run(args ...string) string {
	h.t.Helper()
	cmd := h.command(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("%q: %v\n%s%s", args, err, out, &stderr)
	}
	return string(out)
}

// snapshots runs one verb of the command on a directory.
func (h *host) snapshots(root string, args ...string) string {
	h.t.Helper()
	return h.run(append([]string{"snapshots", "--root", root}, args...)...)
}

func put(t testing.TB, path, text string) {
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

// TestNoS3: a build without object storage says which one has it.
func TestNoS3(t *testing.T) {
	h := newHost(t)
	if out, err := h.try("snapshots", "--root", t.TempDir(), "--snapshot-store", "s3://b/p", "list"); err == nil || !strings.Contains(out, "-tags s3") {
		t.Errorf("%v %s", err, out)
	}
	if out, err := h.try("snapshots", "--root", t.TempDir(), "--snapshot-store", "ftp://b/p", "list"); err == nil || !strings.Contains(out, `scheme "ftp"`) {
		t.Errorf("%v %s", err, out)
	}
}

// bucket starts an S3 server on loopback and returns its address as a store.
func bucket(t *testing.T) string {
	t.Helper()
	return bucketBehind(t, func(h http.Handler) http.Handler { return h })
}

// bucketBehind is bucket with something in front of it.
func bucketBehind(t *testing.T, front func(http.Handler) http.Handler) string {
	t.Helper()
	inner := storetest.Engine()
	if inner == nil {
		backend := s3mem.New()
		if err := backend.CreateBucket(storetest.Bucket); err != nil {
			t.Fatal(err)
		}
		inner = gofakes3.New(backend).Server()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: front(inner)}
	done := make(chan struct{})
	go func() { _ = srv.Serve(l); close(done) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	// An engine is the same for all tests, and the port another for each.
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "s3://" + storetest.Bucket + "/team-" + port + "?path=1&insecure=1&region=us-east-1&endpoint=" + l.Addr().String()
}

// withS3 is the program built with object storage. MCP_SANDBOX_TEST_BIN_S3
// names one that is built already, as MCP_SANDBOX_TEST_BIN does.
func withS3(t *testing.T) string {
	t.Helper()
	if b := os.Getenv("MCP_SANDBOX_TEST_BIN_S3"); b != "" {
		return b
	}
	b, err := buildS3()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// s3Dir holds what buildS3 has made, for TestMain to remove.
var s3Dir string

var buildS3 = sync.OnceValues(func() (string, error) {
	var err error
	if s3Dir, err = os.MkdirTemp("", "mcp-sandbox-test-bin-"); err != nil {
		return "", err
	}
	b := filepath.Join(s3Dir, "mcp-sandbox")
	if out, err := exec.Command("go", "build", "-tags", "s3", "-o", b, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build -tags s3: %v\n%s", err, out)
	}
	return b, os.Chmod(s3Dir, 0o755)
})

// TestS3: another server process brings back what one has stored, a directory's
// snapshot and a named session, and commands never see the keys.
func TestS3(t *testing.T) {
	store, program := bucket(t), withS3(t)
	machine := func() *host {
		h := newHost(t)
		h.binary = program
		h.env = []string{"AWS_ACCESS_KEY_ID=the-key-id", "AWS_SECRET_ACCESS_KEY=the-secret-key"}
		return h
	}
	a, b := machine(), machine()

	root := t.TempDir()
	put(t, filepath.Join(root, "f"), "stored")
	id := strings.TrimSpace(a.snapshots(root, "create", "--snapshot-store", store, "first"))
	put(t, filepath.Join(root, "f"), "lost")
	if list := b.snapshots(root, "list", "--snapshot-store", store); !strings.Contains(list, id) {
		t.Fatalf("the other server lists\n%s", list)
	}
	b.snapshots(root, "restore", "--snapshot-store", store, id)
	expect(t, filepath.Join(root, "f"), "stored")
	if _, err := os.Stat(filepath.Join(a.state, "snapshots")); !os.IsNotExist(err) {
		t.Errorf("there is a local store too: %v", err)
	}

	out := a.run("exec", "--session", "work", "--snapshot-store", store, "--", "echo kept > f; env; pwd")
	if strings.Contains(out, "the-secret-key") || strings.Contains(out, "the-key-id") {
		t.Errorf("a command sees the keys:\n%s", out)
	}
	// The other machine has the state directory and not the workspace.
	if err := os.CopyFS(b.state, os.DirFS(a.state)); err != nil {
		t.Fatal(err)
	}
	closeToOthers(t, b.state)
	left, _ := filepath.Glob(filepath.Join(a.temp, "*"))
	if len(left) == 0 {
		t.Fatal("the session left no workspace to lose")
	}
	for _, l := range left {
		if err := os.RemoveAll(l); err != nil {
			t.Fatal(err)
		}
	}
	if out := b.run("exec", "--session", "work", "--snapshot-store", store, "--", "cat f"); !strings.Contains(out, "kept") {
		t.Errorf("the resumed session has %q", out)
	}
}

// closeToOthers gives a copied state directory the modes of a made one.
func closeToOthers(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return os.Chmod(p, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCheckpointEvery: snapshots come by themselves after so many calls that can
// change something; reading counts for nothing.
func TestCheckpointEvery(t *testing.T) {
	c := startServer(t, "--checkpoint-every", "3")
	c.initialize("2025-11-25")
	list := func() int { return strings.Count(c.ok("snapshot_list", nil).text(), "checkpoint") }
	for range 5 {
		c.ok("ls", nil)
	}
	c.sh("echo 1 > f")
	c.sh("echo 2 > f")
	if n := list(); n != 0 {
		t.Errorf("%d checkpoints after two calls", n)
	}
	c.ok("write_file", map[string]any{"path": "f", "content": "3"})
	waitFor(t, "the checkpoint", func() bool { return list() == 1 })
	c.sh("rm f")
	c.sh("true")
	c.sh("true")
	waitFor(t, "the second", func() bool { return list() == 2 })
}
