package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

	"mcp-sandbox/bench/internal/stdio"
)

// filesystem is the reference server for files.
type filesystem struct{ node, script string }

const (
	filesystemPackage = "@modelcontextprotocol/server-filesystem"
	filesystemVersion = "2026.8.31"
)

func (*filesystem) Name() string { return "server-filesystem" }

func (f *filesystem) Install(ctx context.Context, c *cache) (string, error) {
	var err error
	if f.node, err = c.node(ctx); err != nil {
		return "", err
	}
	dir, err := c.npm(ctx, filesystemPackage, filesystemVersion)
	f.script = filepath.Join(dir, "dist", "index.js")
	return filesystemVersion, err
}

func (f *filesystem) Start(ctx context.Context, r room) (session, error) {
	cmd := exec.Command(f.node, f.script, r.workspace)
	cmd.Env = environment(r, "PATH="+os.Getenv("PATH"))
	cmd.Dir = r.workspace
	c, err := stdio.Dial(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return &filesystemSession{c}, nil
}

type filesystemSession struct{ *stdio.Client }

func (*filesystemSession) Run(context.Context, string) error { return noCommands }
func (*filesystemSession) Launch(context.Context, string) (func(context.Context) error, error) {
	return nil, noCommands
}
func (*filesystemSession) Terminal(context.Context) (func(context.Context, string) error, func(), error) {
	return nil, nil, noCommands
}

func (s *filesystemSession) Read(ctx context.Context, f file) error {
	reply, err := s.Call(ctx, "read_text_file", map[string]any{"path": f.path})
	if err != nil {
		return err
	}
	return whole(len(reply.Text()), f)
}

func (*filesystemSession) SearchText(context.Context, string, string, int) error {
	return notApplicable("searches names, not what is in files")
}

func (s *filesystemSession) FindNames(ctx context.Context, dir, suffix string, want int) error {
	reply, err := s.Call(ctx, "search_files", map[string]any{"path": dir, "pattern": "**/*" + suffix})
	if err != nil {
		return err
	}
	return enough(reply.Text(), suffix, want)
}
