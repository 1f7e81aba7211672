package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLeastLimits: a number whose unit was forgotten gets a sentence of its own,
// not a session that dies.
func TestLeastLimits(t *testing.T) {
	for _, c := range []struct{ flag, value, says string }{
		{"--limit-memory", "100", "limit-memory is 100 bytes, and a session needs at least 16M"},
		{"--limit-cpu", "0.001", "limit-cpu is 0.001, and a session needs at least 0.01"},
		{"--limit-procs", "1", "limit-procs is 1, and"},
		{"--limit-open-files", "3", "limit-open-files is 3, and"},
		{"--limit-file-size", "100", "limit-file-size is 100 bytes"},
		{"--limit-tmp", "100", "limit-tmp is 100 bytes"},
		{"--limit-workspace", "100", "limit-workspace is 100 bytes"},
		{"--limits", "none", "use strict or best-effort"},
	} {
		out, err := exec.Command(binary, "exec", "--state-dir", t.TempDir(), c.flag, c.value, "--", "true").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "invalid_argument: ") || !strings.Contains(string(out), c.says) {
			t.Errorf("%s %s: %v %s", c.flag, c.value, err, out)
		}
	}
}

// TestLimitOfARoot: a directory of the user's is not measured, and a limit of it is refused
// where it is set.
func TestLimitOfARoot(t *testing.T) {
	root, tokens := t.TempDir(), filepath.Join(t.TempDir(), "tokens")
	put(t, tokens, "ann:0123456789abcdef0123 limit-workspace=1M\n")
	if err := os.Chmod(tokens, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"exec", "--root", root, "--limit-workspace", "1M", "--", "true"},
		{"serve", "--root", root, "--limit-workspace", "1M"},
		{"serve", "--root", root, "--transport", "http", "--listen", "127.0.0.1:0", "--token-file", tokens},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cmd := exec.CommandContext(ctx, binary, append(args[:1:1], append([]string{"--state-dir", t.TempDir()}, args[1:]...)...)...)
		out, err := cmd.CombinedOutput()
		cancel()
		if err == nil || !strings.Contains(string(out), unlimitedRoot) {
			t.Errorf("%v: %v %s", args, err, out)
		}
	}
}

// TestLimitIsKeptOrRefused: a limit that was set holds, or nothing starts.
func TestLimitIsKeptOrRefused(t *testing.T) {
	run := func(args ...string) (string, error) {
		out, err := exec.Command(binary, append([]string{"exec", "--state-dir", t.TempDir(), "--limit-memory", "100M"}, args...)...).CombinedOutput()
		return string(out), err
	}
	out, err := run("--confine", "none", "--", "echo ran")
	if err == nil || strings.Contains(out, "ran\n") || !strings.Contains(out, "this host cannot enforce the memory limit") {
		t.Errorf("without confinement: %v %s", err, out)
	}
	if out, err = run("--confine", "none", "--limits", "best-effort", "--", "echo ran"); err != nil || !strings.Contains(out, "ran\n") {
		t.Errorf("best effort: %v %s", err, out)
	}
	doctor, _ := exec.Command(binary, "doctor", "--state-dir", t.TempDir()).Output()
	kept := strings.Contains(string(doctor), "a memory limit can be set")
	out, err = run("--", "echo ran")
	if kept != (err == nil) || kept != strings.Contains(out, "ran\n") || !kept && !strings.Contains(out, "--limits best-effort") {
		t.Errorf("doctor says that a memory limit can be set: %v; %v %s", kept, err, out)
	}
	if kept {
		return
	}
	// A server says so at its start, not at its first call.
	cmd := exec.Command(binary, "serve", "--state-dir", t.TempDir(), "--limit-memory", "100M")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "cannot enforce the memory limit") {
		t.Errorf("serve: %v %s", err, out)
	}
}

// TestSIGHUPNeverEndsANetworkServer: it reloads the tokens, at once, or there is
// nothing to reload and the server says so.
func TestSIGHUPNeverEndsANetworkServer(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
	}{
		{"http", nil}, {"sse", []string{"--transport", "sse"}},
		{"rules without a file", []string{"--network", "allow", "--allow-host", "example.com"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := startNetwork(t, nil, append(c.args, "--log-level", "info")...)
			n.cmd.Process.Signal(syscall.SIGHUP)
			waitFor(t, "the reload", func() bool { return strings.Contains(n.stderr.String(), "tokens reloaded") })
			select {
			case <-n.ended:
				t.Errorf("the server has ended: %s", n.stderr)
			default:
			}
		})
	}
	t.Run("nothing to reload", func(t *testing.T) {
		base := t.TempDir()
		cmd := exec.Command(binary, "serve", "--transport", "http", "--listen", "127.0.0.1:0", "--no-auth", "--state-dir", filepath.Join(base, "state"))
		cmd.Env = append(os.Environ(), "TMPDIR="+base)
		openPath(t, base)
		stderr, ended := launchServer(t, cmd, "the server", func(log string) bool { return strings.Contains(log, " serves http on ") })
		cmd.Process.Signal(syscall.SIGHUP)
		waitFor(t, "the warning", func() bool { return strings.Contains(stderr.String(), "SIGHUP ignored") })
		select {
		case <-ended:
			t.Errorf("the server has ended: %s", stderr)
		default:
		}
	})
}
