package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"mcp-sandbox/bench/internal/stdio"
)

// desktopCommander is the most used server with commands and files; it does
// not confine them.
type desktopCommander struct{ node, script string }

const (
	desktopCommanderPackage = "@wonderwhy-er/desktop-commander"
	desktopCommanderVersion = "0.2.52"
)

func (*desktopCommander) Name() string { return "Desktop Commander" }

func (d *desktopCommander) Install(ctx context.Context, c *cache) (string, error) {
	var err error
	if d.node, err = c.node(ctx); err != nil {
		return "", err
	}
	dir, err := c.npm(ctx, desktopCommanderPackage, desktopCommanderVersion)
	d.script = filepath.Join(dir, "dist", "index.js")
	return desktopCommanderVersion, err
}

func (d *desktopCommander) Start(ctx context.Context, r room) (session, error) {
	// No telemetry, and no line limit below the files read here.
	settings := filepath.Join(r.home, ".claude-server-commander")
	if err := os.MkdirAll(settings, 0o700); err != nil {
		return nil, err
	}
	body := `{"telemetryEnabled":false,"fileReadLineLimit":1000000,"blockedCommands":[],"allowedDirectories":[],"defaultShell":"/bin/sh"}`
	if err := os.WriteFile(filepath.Join(settings, "config.json"), []byte(body), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(d.node, d.script, "--no-onboarding")
	cmd.Env = environment(r, "PATH="+os.Getenv("PATH"))
	cmd.Dir = r.workspace
	c, err := stdio.Dial(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return &desktopCommanderSession{c}, nil
}

type desktopCommanderSession struct{ *stdio.Client }

const stillRunning = "Process is running"

func (s *desktopCommanderSession) Run(ctx context.Context, command string) error {
	reply, err := s.Call(ctx, "start_process", map[string]any{"command": command, "timeout_ms": 45000})
	if err != nil {
		return err
	}
	if strings.Contains(reply.Text(), stillRunning) {
		return errors.New("start_process: the command did not end")
	}
	return nil
}

func (s *desktopCommanderSession) Launch(ctx context.Context, command string) (func(context.Context) error, error) {
	reply, err := s.Call(ctx, "start_process", map[string]any{"command": command, "timeout_ms": 250})
	if err != nil {
		return nil, err
	}
	found := regexp.MustCompile(`PID (\d+)`).FindStringSubmatch(reply.Text())
	if found == nil {
		return nil, fmt.Errorf("start_process: no PID in %q", stdio.FirstLine(reply.Text()))
	}
	pid, err := strconv.Atoi(found[1])
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		_, err := s.Call(ctx, "force_terminate", map[string]any{"pid": pid})
		return err
	}, nil
}

func (*desktopCommanderSession) Terminal(context.Context) (func(context.Context, string) error, func(), error) {
	return nil, nil, noTerminals
}

func (s *desktopCommanderSession) Read(ctx context.Context, f file) error {
	reply, err := s.Call(ctx, "read_file", map[string]any{"path": f.path, "length": f.lines + 1})
	if err != nil {
		return err
	}
	return whole(len(reply.Text()), f)
}

func (s *desktopCommanderSession) SearchText(ctx context.Context, dir, text string, want int) error {
	return s.search(ctx, map[string]any{"path": dir, "pattern": text, "searchType": "content",
		"literalSearch": true, "ignoreCase": false, "contextLines": 0}, text, want)
}

func (s *desktopCommanderSession) FindNames(ctx context.Context, dir, suffix string, want int) error {
	return s.search(ctx, map[string]any{"path": dir, "pattern": "*" + suffix, "searchType": "files"}, suffix, want)
}

// search starts a search and asks for its results until it is complete, as the
// server's own description tells a model to.
func (s *desktopCommanderSession) search(ctx context.Context, arguments map[string]any, needle string, want int) error {
	reply, err := s.Call(ctx, "start_search", arguments)
	if err != nil {
		return err
	}
	text := reply.Text()
	found := regexp.MustCompile(`session: (\S+)`).FindStringSubmatch(text)
	if found == nil {
		return fmt.Errorf("start_search: no session in %q", stdio.FirstLine(text))
	}
	for {
		reply, err := s.Call(ctx, "get_more_search_results", map[string]any{"sessionId": found[1], "length": 100000})
		if err != nil {
			return err
		}
		text = reply.Text()
		if !strings.Contains(text, "IN PROGRESS") && !strings.Contains(text, "RUNNING") {
			return enough(text, needle, want)
		}
	}
}
