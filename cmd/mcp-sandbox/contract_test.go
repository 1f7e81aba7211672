package main

import (
	"os"
	"testing"

	"mcp-sandbox/library"
	"mcp-sandbox/ptyproc"
	"mcp-sandbox/ptyproc/ptyproctest"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// TestProcessContract runs the contract of processes, over pipes and terminals,
// on the real confinement at each level this machine has.
func TestProcessContract(t *testing.T) {
	lower := os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock"
	for _, level := range []string{"namespaces", "landlock"} {
		t.Run(level, func(t *testing.T) {
			switch {
			case level == "namespaces" && lower:
				t.Skip("this run is about hosts without user namespaces")
			case level == "landlock" && !lower && !long():
				t.Skip("make test-long has both levels")
			}
			ptyproctest.Run(t, func(t *testing.T) ptyproc.Spawner {
				root := t.TempDir()
				openPath(t, root)
				if level == "landlock" && os.Geteuid() == 0 {
					// Root's own is refused there: nothing can show it as another user's.
					if err := os.Chown(root, 12345, 12345); err != nil {
						t.Fatal(err)
					}
				}
				sb, err := library.Launcher{}.Start(t.Context(), sandbox.Policy{
					Workspace: root, UID: -1, GID: -1, Path: os.Getenv("PATH"), Network: "loopback", Level: sandbox.Level(level),
				}, session.Callbacks{})
				if err != nil {
					unconfinable(t, err.Error())
				}
				t.Cleanup(func() {
					if err := sb.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
				})
				return sb
			})
		})
	}
}
