package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binary is the real program under test. MCP_SANDBOX_TEST_BIN names one that is
// built already (CI builds it with the race detector and hands it to users who
// have no compiler); otherwise it is built here.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		defer func() { _ = os.RemoveAll(s3Dir) }() // "" is nothing
		if binary = os.Getenv("MCP_SANDBOX_TEST_BIN"); binary == "" {
			dir, err := os.MkdirTemp("", "mcp-sandbox-test-bin-")
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer os.RemoveAll(dir)
			// An ordinary user's sandbox must be able to start it again by descriptor.
			if err := os.Chmod(dir, 0o755); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			binary = filepath.Join(dir, "mcp-sandbox")
			if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
				return 1
			}
		}
		// The server under test must not see the settings of whoever runs the tests.
		for _, kv := range os.Environ() {
			name, _, _ := strings.Cut(kv, "=")
			if strings.HasPrefix(name, envPrefix) && !strings.HasPrefix(name, envPrefix+"TEST_") {
				os.Unsetenv(name)
			}
		}
		return m.Run()
	}())
}

// long says that the whole of tables is to be tried whose parts the ordinary run
// tries: make test-long.
func long() bool { return os.Getenv("MCP_SANDBOX_TEST_LONG") == "1" }

// unconfinable fails or skips a test on a machine where no session can start.
func unconfinable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("MCP_SANDBOX_TEST_NOSKIP") == "1" {
		t.Fatalf("no session can start here: %s", why)
	}
	t.Skipf("no session can start here: %s", why)
}
