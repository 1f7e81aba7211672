package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestClient tries this host's server, so that the guests' client keeps up with what
// the tools say. MCP_SANDBOX_TEST_BIN names a server that is built already.
func TestClient(t *testing.T) {
	binary := os.Getenv("MCP_SANDBOX_TEST_BIN")
	if binary == "" {
		binary = filepath.Join(t.TempDir(), "mcp-sandbox")
		if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/mcp-sandbox").CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	dir := t.TempDir()
	for _, args := range [][]string{{"init", "-q", "."}, {"-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "-q", "--allow-empty", "-m", "outside"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	s, err := start([]string{binary, "serve", "--root", dir})
	if err != nil {
		t.Fatal(err)
	}
	tr := &trial{server: s}
	tr.run("")
	tr.rest()
	tr.commit(dir)
	tr.measure(1)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if tr.failed {
		t.Error("a check failed, see its line above")
	}
}
