package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"mcp-sandbox/bench/internal/build"
	"mcp-sandbox/bench/internal/stdio"
)

// cache holds what the benchmark installs, outside the repository. Only fetch
// lets it ask a registry; without it a peer that is not there is a row that
// says so.
type cache struct {
	dir   string
	fetch bool
}

const nodeVersion = "22" // the newest any of the peers asks for

// missing says why a peer is not there: the reason of the last try to install
// it, so that later runs need not ask a registry again to know it.
func (c *cache) missing(what string) error {
	if reason, err := os.ReadFile(c.refusal(what)); err == nil {
		return errors.New(string(reason))
	}
	return fmt.Errorf("%s is not installed; run with -install", what)
}

// refused keeps the reason for missing.
func (c *cache) refused(what string, err error) error {
	if os.MkdirAll(filepath.Join(c.dir, "refused"), 0o755) == nil {
		_ = os.WriteFile(c.refusal(what), []byte(err.Error()), 0o644)
	}
	return err
}

func (c *cache) refusal(what string) string {
	return filepath.Join(c.dir, "refused", dirName(what))
}

func dirName(s string) string {
	return strings.NewReplacer("@", "-", "/", "-").Replace(strings.TrimPrefix(s, "@"))
}

// build compiles this repository's server as a release is.
func (c *cache) build(ctx context.Context) (string, error) {
	bin := filepath.Join(c.dir, "bin", "mcp-sandbox")
	return bin, build.Server(ctx, "..", bin)
}

// npm installs one version of a package into a directory of its own, so that no
// peer's failure is another's, and gives the package's directory.
func (c *cache) npm(ctx context.Context, name, version string) (string, error) {
	project := filepath.Join(c.dir, "npm", dirName(name+"@"+version))
	dir := filepath.Join(project, "node_modules", filepath.FromSlash(name))
	done := filepath.Join(project, ".installed")
	if _, err := os.Stat(done); err == nil {
		return dir, nil
	}
	if !c.fetch {
		return "", c.missing(name + "@" + version)
	}
	if err := os.MkdirAll(project, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(project, "package.json"), []byte(`{"private":true}`), 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error", name+"@"+version)
	cmd.Dir = project
	// Desktop Commander's PDF tools bring a browser that nothing here uses.
	cmd.Env = append(os.Environ(), "PUPPETEER_SKIP_DOWNLOAD=1")
	if _, err := output(ctx, cmd); err != nil {
		return "", c.refused(name+"@"+version, fmt.Errorf("npm install %s@%s: %w", name, version, err))
	}
	return dir, os.WriteFile(done, nil, 0o644)
}

// node gives one Node for all peers that need it, so that none has an older
// runtime than another.
func (c *cache) node(ctx context.Context) (string, error) {
	dir, err := c.npm(ctx, "node", nodeVersion)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "bin", "node")
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("npm's node@%s brought no binary for this platform", nodeVersion)
	}
	return bin, nil
}

// debian finds a program on PATH, or installs its Debian package when it may
// and can.
func (c *cache) debian(ctx context.Context, program, pkg string) (string, error) {
	if bin, err := exec.LookPath(program); err == nil {
		return bin, nil
	}
	if !c.fetch {
		return "", c.missing(program)
	}
	if os.Getuid() != 0 {
		return "", fmt.Errorf("%s is not installed; apt-get install %s needs root", program, pkg)
	}
	for _, args := range [][]string{{"update", "-qq"}, {"install", "-y", "-qq", "--no-install-recommends", pkg}} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if _, err := output(ctx, cmd); err != nil {
			return "", fmt.Errorf("apt-get %s %s: %w", args[0], pkg, err)
		}
	}
	return exec.LookPath(program)
}

// goInstall builds a Go program from the module proxy.
func (c *cache) goInstall(ctx context.Context, program, module string) (string, error) {
	bin := filepath.Join(c.dir, "bin", program)
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	if !c.fetch {
		return "", c.missing(program)
	}
	cmd := exec.CommandContext(ctx, "go", "install", module)
	cmd.Env = append(os.Environ(), "GOBIN="+filepath.Join(c.dir, "bin"))
	// Outside this module, whose go.mod is not the program's.
	cmd.Dir = c.dir
	if _, err := output(ctx, cmd); err != nil {
		return "", c.refused(program, fmt.Errorf("go install %s: %w", module, err))
	}
	return bin, nil
}

// output runs a command and gives its trimmed output, or an error with the
// line of its output that says most.
func output(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var said stdio.Tail
	if cmd.Stderr == nil {
		cmd.Stderr = &said
	}
	out, err := cmd.Output()
	if err == nil {
		return strings.TrimSpace(string(out)), nil
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	return "", fmt.Errorf("%w: %s", err, tellingLine(said.String()))
}

// tellingLine picks from a program's complaint the last line that names a
// failure, for npm and go end with hints that do not.
func tellingLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		low := strings.ToLower(lines[i])
		for _, word := range []string{"forbidden", "not found", "enotfound", "error:", "unable", "failed"} {
			if strings.Contains(low, word) {
				return stdio.FirstLine(lines[i])
			}
		}
	}
	return stdio.FirstLine(lines[len(lines)-1])
}

// environment is the same small environment for every peer.
func environment(r room, more ...string) []string {
	return append([]string{"HOME=" + r.home, "LANG=C.UTF-8", "TERM=xterm", "USER=bench", "TMPDIR=" + os.TempDir()}, more...)
}
