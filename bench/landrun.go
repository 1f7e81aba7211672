package main

import (
	"context"
	"os"
	"os/exec"
)

// landrun confines by Landlock alone: no namespaces, no seccomp.
type landrun struct{ bin string }

const landrunModule = "github.com/zouuup/landrun/cmd/landrun@latest"

func (*landrun) Name() string { return "landrun" }

func (l *landrun) Install(ctx context.Context, c *cache) (string, error) {
	bin, err := c.goInstall(ctx, "landrun", landrunModule)
	if err != nil {
		return "", err
	}
	l.bin = bin
	return output(ctx, exec.CommandContext(ctx, bin, "--version"))
}

func (l *landrun) Start(_ context.Context, r room) (session, error) {
	return newWrapper(func(command string) *exec.Cmd {
		cmd := exec.Command(l.bin, "--rox", "/", "--rwx", r.workspace, "--rw", "/dev", "--env", "PATH", "--", "sh", "-c", command)
		cmd.Env = environment(r, "PATH="+os.Getenv("PATH"))
		cmd.Dir = r.workspace
		return cmd
	}), nil
}
