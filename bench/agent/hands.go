package main

import (
	"context"
	"encoding/json"
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

// hands are the tools of one server as the scripts use them; each method is one
// call. No call names a wait of its own unless the server demands one: a model
// that has to guess waits is what is compared.
type hands interface {
	start(ctx context.Context, cmd string, o startOptions) (turn, error)
	// enter types a line and Enter, press only the text.
	enter(ctx context.Context, id int, line string) (turn, error)
	press(ctx context.Context, id int, text string) (turn, error)
	poll(ctx context.Context, id int) (turn, error)
	screen(ctx context.Context, id int) (string, error)
	read(ctx context.Context, path string) (string, error)
	edit(ctx context.Context, path, old, new string) error
	// terminal says whether programs can have one.
	terminal() bool
	Close()
}

type startOptions struct {
	tty     bool
	waitFor string // where the server has such an argument
}

// turn is what a call has told.
type turn struct {
	text  string
	ended bool
	id    int
}

// cannot is why a server cannot do a task at all.
type cannot string

func (c cannot) Error() string { return string(c) }

const (
	noTerminal = cannot("its processes have pipes, no terminal")
	// firstWait and pollWait are what mcp-sandbox waits by default, for a server
	// that wants a number.
	firstWait = 10_000
	pollWait  = 30_000
)

// ourHands is mcp-sandbox. An older one has no wait_for.
type ourHands struct {
	*stdio.Client
	older bool
}

func startOurs(ctx context.Context, bin, workspace, home string, older bool) (hands, error) {
	args := []string{"serve", "--root", workspace}
	if !older {
		args = append(args, "--structured", "on")
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = []string{"HOME=" + home, "LANG=C.UTF-8", "PATH=" + os.Getenv("PATH")}
	cmd.Dir = workspace
	c, err := stdio.Dial(ctx, cmd)
	return &ourHands{c, older}, err
}

func (h *ourHands) command(ctx context.Context, tool string, arguments map[string]any) (turn, error) {
	r, err := h.Call(ctx, tool, arguments)
	if err != nil {
		return turn{}, err
	}
	var o struct {
		Output    string `json:"output"`
		ExitCode  *int   `json:"exit_code"`
		SessionID int    `json:"session_id"`
	}
	err = json.Unmarshal(r.Structured, &o)
	return turn{o.Output, o.ExitCode != nil, o.SessionID}, err
}

func (h *ourHands) start(ctx context.Context, cmd string, o startOptions) (turn, error) {
	arguments := map[string]any{"cmd": cmd}
	if o.tty {
		arguments["tty"] = true
	}
	if o.waitFor != "" && !h.older {
		arguments["wait_for"] = o.waitFor
	}
	return h.command(ctx, "exec_command", arguments)
}

func (*ourHands) terminal() bool { return true }

func (h *ourHands) enter(ctx context.Context, id int, line string) (turn, error) {
	return h.press(ctx, id, line+"\r")
}

func (h *ourHands) press(ctx context.Context, id int, text string) (turn, error) {
	return h.command(ctx, "write_stdin", map[string]any{"session_id": id, "chars": text})
}

func (h *ourHands) poll(ctx context.Context, id int) (turn, error) {
	return h.command(ctx, "write_stdin", map[string]any{"session_id": id})
}

func (h *ourHands) screen(ctx context.Context, id int) (string, error) {
	return h.text(ctx, "read_screen", map[string]any{"session_id": id})
}

func (h *ourHands) read(ctx context.Context, path string) (string, error) {
	return h.text(ctx, "read_file", map[string]any{"path": path})
}

func (h *ourHands) text(ctx context.Context, tool string, arguments map[string]any) (string, error) {
	r, err := h.Call(ctx, tool, arguments)
	return r.Text(), err
}

func (h *ourHands) edit(ctx context.Context, path, old, new string) error {
	_, err := h.Call(ctx, "edit_file", map[string]any{"path": path, "old_text": old, "new_text": new})
	return err
}

// commanderHands is Desktop Commander, fetched by npx.
type commanderHands struct {
	*stdio.Client
	workspace string
}

const commanderPackage = "@wonderwhy-er/desktop-commander@0.2.52"

func startCommander(ctx context.Context, workspace, home string) (hands, error) {
	npx, err := exec.LookPath("npx")
	if err != nil {
		return nil, errors.New("npx is not installed")
	}
	settings := filepath.Join(home, ".claude-server-commander")
	if err := os.MkdirAll(settings, 0o700); err != nil {
		return nil, err
	}
	body := `{"telemetryEnabled":false,"blockedCommands":[],"allowedDirectories":[],"defaultShell":"/bin/bash"}`
	if err := os.WriteFile(filepath.Join(settings, "config.json"), []byte(body), 0o600); err != nil {
		return nil, err
	}
	cache := os.Getenv("npm_config_cache")
	if user, err := os.UserHomeDir(); cache == "" && err == nil {
		cache = filepath.Join(user, ".npm")
	}
	cmd := exec.Command(npx, "--prefer-offline", commanderPackage, "--no-onboarding")
	cmd.Env = append(os.Environ(), "HOME="+home, "npm_config_cache="+cache, "PUPPETEER_SKIP_DOWNLOAD=1")
	cmd.Dir = workspace
	c, err := stdio.Dial(ctx, cmd)
	return &commanderHands{c, workspace}, err
}

var (
	commanderPID   = regexp.MustCompile(`PID (\d+)`)
	commanderLives = regexp.MustCompile(`Process is running|is waiting for input|timeout reached`)
	commanderEnd   = regexp.MustCompile(`Process completed|has finished|No active session|Process \d+ not found`)
)

func (h *commanderHands) start(ctx context.Context, cmd string, o startOptions) (turn, error) {
	if o.tty {
		return turn{}, noTerminal
	}
	r, err := h.Call(ctx, "start_process", map[string]any{"command": cmd, "timeout_ms": firstWait})
	if err != nil {
		return turn{}, err
	}
	found := commanderPID.FindStringSubmatch(r.Text())
	if found == nil {
		return turn{}, fmt.Errorf("start_process: no PID in %q", stdio.FirstLine(r.Text()))
	}
	id, err := strconv.Atoi(found[1])
	// It does not say that a command has ended, and sometimes returns before the
	// output is there.
	_, output, _ := strings.Cut(r.Text(), "Initial output:")
	ended := !commanderLives.MatchString(r.Text()) && strings.TrimSpace(output) != ""
	return turn{r.Text(), ended, id}, err
}

func (*commanderHands) terminal() bool { return false }

func (h *commanderHands) enter(ctx context.Context, id int, line string) (turn, error) {
	return h.session(ctx, "interact_with_process", map[string]any{"pid": id, "input": line})
}

func (h *commanderHands) press(context.Context, int, string) (turn, error) {
	return turn{}, noTerminal
}

func (h *commanderHands) poll(ctx context.Context, id int) (turn, error) {
	return h.session(ctx, "read_process_output", map[string]any{"pid": id, "timeout_ms": pollWait})
}

func (h *commanderHands) session(ctx context.Context, tool string, arguments map[string]any) (turn, error) {
	r, err := h.Call(ctx, tool, arguments)
	id, _ := arguments["pid"].(int)
	if err != nil && commanderEnd.MatchString(err.Error()) {
		return turn{"", true, id}, nil
	}
	return turn{r.Text(), commanderEnd.MatchString(r.Text()), id}, err
}

func (h *commanderHands) screen(context.Context, int) (string, error) { return "", noTerminal }

func (h *commanderHands) read(ctx context.Context, path string) (string, error) {
	r, err := h.Call(ctx, "read_file", map[string]any{"path": filepath.Join(h.workspace, path)})
	return r.Text(), err
}

func (h *commanderHands) edit(ctx context.Context, path, old, new string) error {
	_, err := h.Call(ctx, "edit_block", map[string]any{"file_path": filepath.Join(h.workspace, path), "old_string": old, "new_string": new})
	return err
}
