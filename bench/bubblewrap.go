package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
)

// bubblewrap is Debian's bwrap with the usual strict arguments.
type bubblewrap struct{ bin string }

func (*bubblewrap) Name() string { return "bubblewrap" }

func (b *bubblewrap) Install(ctx context.Context, c *cache) (string, error) {
	bin, err := c.debian(ctx, "bwrap", "bubblewrap")
	if err != nil {
		return "", err
	}
	b.bin = bin
	version, err := output(ctx, exec.CommandContext(ctx, bin, "--version"))
	return strings.TrimPrefix(version, "bubblewrap "), err
}

func (b *bubblewrap) Start(_ context.Context, r room) (session, error) {
	return newWrapper(func(command string) *exec.Cmd {
		cmd := exec.Command(b.bin, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
			"--bind", r.workspace, r.workspace, "--unshare-all", "--new-session", "--die-with-parent",
			"--chdir", r.workspace, "sh", "-c", command)
		cmd.Env = environment(r, "PATH="+os.Getenv("PATH"))
		cmd.Dir = r.workspace
		return cmd
	}), nil
}
