package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// codex is the sandbox of OpenAI's Codex CLI, by its command for trying it.
type codex struct{ bin string }

const (
	codexPackage = "@openai/codex"
	codexVersion = "0.171.0"
)

func (*codex) Name() string { return "codex sandbox" }

func (x *codex) Install(ctx context.Context, c *cache) (string, error) {
	dir, err := c.npm(ctx, codexPackage, codexVersion)
	if err != nil {
		return "", err
	}
	// The launcher is a Node script; the binary it starts comes as an optional
	// dependency for each platform. Started directly it costs no Node start.
	found, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "codex-*", "vendor", "*", "bin", "codex"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("%s brought no binary for this platform", codexPackage)
	}
	x.bin = found[0]
	return codexVersion, nil
}

func (x *codex) Start(_ context.Context, r room) (session, error) {
	return newWrapper(func(command string) *exec.Cmd {
		cmd := exec.Command(x.bin, "sandbox", "-c", `sandbox_mode="workspace-write"`, "--", "sh", "-c", command)
		cmd.Env = environment(r, "PATH="+os.Getenv("PATH"), "CODEX_HOME="+r.home)
		cmd.Dir = r.workspace
		return cmd
	}), nil
}
