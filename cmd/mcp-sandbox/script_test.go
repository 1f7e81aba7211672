package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the stories in testdata/script on the real binary.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		// [landlock]: the host lends no user namespaces, as CI's third run arranges.
		Condition: func(name string) (bool, error) {
			if name != "landlock" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return os.Getenv("MCP_SANDBOX_TEST_LEVEL") == name, nil
		},
		Setup: func(e *testscript.Env) error {
			openPath(t, e.WorkDir)
			tmp := filepath.Join(e.WorkDir, "tmp")
			if err := os.MkdirAll(tmp, 0o755); err != nil {
				return err
			}
			e.Setenv("TMPDIR", tmp)
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			// The program may be built under another name, and only it belongs on PATH.
			bin := filepath.Join(e.WorkDir, "bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				return err
			}
			if err := os.Symlink(binary, filepath.Join(bin, "mcp-sandbox")); err != nil {
				return err
			}
			e.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			return os.Mkdir(filepath.Join(e.WorkDir, "home"), 0o755)
		},
	})
}
