package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
)

// srt is Anthropic's sandbox-runtime: bubblewrap behind a Node program with
// proxies for the network.
type srt struct{ node, script string }

const (
	srtPackage = "@anthropic-ai/sandbox-runtime"
	srtVersion = "0.0.83"
)

func (*srt) Name() string { return "sandbox-runtime (srt)" }

func (s *srt) Install(ctx context.Context, c *cache) (string, error) {
	var err error
	if s.node, err = c.node(ctx); err != nil {
		return "", err
	}
	for program, pkg := range map[string]string{"bwrap": "bubblewrap", "socat": "socat", "rg": "ripgrep"} {
		if _, err := c.debian(ctx, program, pkg); err != nil {
			return "", err
		}
	}
	dir, err := c.npm(ctx, srtPackage, srtVersion)
	s.script = filepath.Join(dir, "dist", "cli.js")
	return srtVersion, err
}

func (s *srt) Start(_ context.Context, r room) (session, error) {
	settings := filepath.Join(r.home, "srt.json")
	body, err := json.Marshal(map[string]any{
		"network":    map[string]any{"allowedDomains": []string{}, "deniedDomains": []string{}},
		"filesystem": map[string]any{"denyRead": []string{}, "allowWrite": []string{r.workspace}, "denyWrite": []string{}},
	})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(settings, body, 0o600); err != nil {
		return nil, err
	}
	return newWrapper(func(command string) *exec.Cmd {
		cmd := exec.Command(s.node, s.script, "--settings", settings, "-c", command)
		cmd.Env = environment(r, "PATH="+filepath.Dir(s.node)+":"+os.Getenv("PATH"))
		cmd.Dir = r.workspace
		return cmd
	}), nil
}
