// Package build makes the server that a benchmark measures.
package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Server compiles the server of a source tree into binary, as a release is.
func Server(ctx context.Context, source, binary string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-C", source, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", binary, "./cmd/mcp-sandbox")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, said)
	}
	return nil
}
