package library

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"mcp-sandbox/confine"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// checkStaged stages the workspace once for nothing, so that a server which cannot
// does not start: whoever asked for it is not to find out by a changed project.
func (l Launcher) checkStaged(ctx context.Context, c session.Config) (err error) {
	if !c.Staged {
		return nil
	}
	dir, err := os.MkdirTemp(c.StateDir, "stage-trial-")
	if err != nil {
		return sandbox.Errorf("permission_denied", err, "the state directory cannot be written; name another with --state-dir")
	}
	defer func() {
		_ = os.Chmod(filepath.Join(dir, "work", "work"), 0o700) // the kernel's, with mode 0
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	var cold *confine.WarmInit // one ahead for the next trial would be in the first session's way
	trial, err := cold.Start(ctx, sandbox.Policy{
		Workspace: c.Root, UID: -1, GID: -1, AllowRoot: c.AllowRoot, Stage: dir, StateDirs: []string{c.StateDir},
		Network: sandbox.NetworkNone, Limits: sandbox.Limits{BestEffort: true}, Level: c.Level, MinLevel: c.MinLevel,
	})
	if err != nil {
		return err
	}
	return trial.Close()
}
