package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLongCommand: a command of any length runs as a short one does, though the
// kernel takes no argument of more than 128 KiB.
func TestLongCommand(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	for _, shell := range []string{"bash", "sh", "dash", "zsh"} {
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		for _, size := range []int{131_000, 131_071, 131_072, 140_000, large(t) / 7} {
			for _, mode := range []string{"", "tty", "login"} {
				t.Run(fmt.Sprintf("%s %d %s", shell, size, mode), func(t *testing.T) {
					head, tail := "cat > big.txt <<'EOF'\n", "\nEOF\nread x; wc -c < big.txt; echo \"$x $0\"; echo fd: $(ls /proc/self/fd 2>/dev/null | grep -c '^3$'); (exit 7)"
					body := strings.Repeat(strings.Repeat("x", 99)+"\n", size/100)
					body = body[:size-len(head)-len(tail)]
					args := map[string]any{"cmd": head + body + tail, "shell": shell, "yield_time_ms": 45_000}
					switch mode {
					case "tty":
						args["tty"] = true
					case "login":
						args["login"], args["stdin"] = true, "in\n"
					default:
						args["stdin"] = "in\n"
					}
					o := c.exec(args)
					if mode == "tty" {
						o = outcome(t, c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "chars": "in\n", "yield_time_ms": 45_000}))
						o.Output = strings.ReplaceAll(strings.TrimPrefix(o.Output, "in\r\n"), "\r\n", "\n")
					}
					// ls has the directory itself open, as descriptor 3.
					want := fmt.Sprintf("%d\nin %s\nfd: ", len(body)+1, shell)
					if !strings.HasPrefix(o.Output, want) || o.ExitCode == nil || *o.ExitCode != 7 {
						t.Errorf("%.300q, exit %v, want %q", o.Output, o.ExitCode, want)
					}
				})
			}
		}
	}
	pad := "\n# " + strings.Repeat("x", 200_000)
	for _, tc := range []struct{ name, cmd, want string }{
		{"closed descriptor", "true 2>/dev/null <&3 && echo open || echo closed", "closed\n"},
		{"lines before a wrong one run", "echo first\n)", "first\n"},
		{"exit", "echo a; exit 3; echo b", "a\n"},
		{"no cat in PATH", "echo ran", "ran\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := map[string]any{"cmd": tc.cmd + pad, "yield_time_ms": 45_000}
			if strings.HasPrefix(tc.name, "no cat") {
				args["env"], args["shell"] = map[string]any{"PATH": "/nowhere"}, "/bin/bash"
			}
			// What a shell says of its errors differs, what it writes does not.
			if o := c.exec(args); !strings.HasPrefix(o.Output, tc.want) && !strings.HasSuffix(o.Output, tc.want) {
				t.Errorf("%.300q", o.Output)
			}
		})
	}
	list := c.ok("list_processes", nil)
	if len(list.text()) > 1<<20 {
		t.Errorf("the list has %d bytes", len(list.text()))
	}
}

// TestTooLargeArguments: what the kernel does not take is named, with the limit.
func TestTooLargeArguments(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	many := map[string]any{}
	for i := range 100 {
		many[fmt.Sprintf("MANY_%d", i)] = strings.Repeat("y", 100_000)
	}
	for _, tc := range []struct {
		args map[string]any
		want []string
	}{
		{map[string]any{"cmd": "true", "env": map[string]any{"BIG": strings.Repeat("y", 200_000)}}, []string{"BIG", "200004", "131071"}},
		{map[string]any{"cmd": "true", "env": []string{"BIG=" + strings.Repeat("y", 131_072-4)}}, []string{"BIG", "131072", "131071"}},
		{map[string]any{"argv": []string{"echo", "a", strings.Repeat("y", 131_072)}}, []string{"argument 2", "131072", "131071"}},
		{map[string]any{"cmd": "true", "env": many}, []string{"together", "MANY_"}},
		{map[string]any{"cmd": strings.Repeat("#", 17<<20)}, []string{"16777216", "write_file"}},
	} {
		text := c.bad("too_large", "exec_command", tc.args)
		for _, w := range tc.want {
			if !strings.Contains(text, w) {
				t.Errorf("%.300q does not say %q", text, w)
			}
		}
		if len(text) > 1000 {
			t.Errorf("%d bytes of error", len(text))
		}
	}
	if o := c.exec(map[string]any{"cmd": "echo ${#BIG}", "env": []string{"BIG=" + strings.Repeat("y", 131_071-4)}}); o.Output != "131067\n" {
		t.Errorf("%.200q", o.Output)
	}
}

// TestLongCommandOfExec: several arguments make one line, which may be longer
// than any of them.
func TestLongCommandOfExec(t *testing.T) {
	args := []string{"exec", "--state-dir", filepath.Join(t.TempDir(), "state"), "--", "printf", "%s"}
	for range 4 {
		args = append(args, strings.Repeat("z", 100_000))
	}
	out, err := exec.Command(binary, args...).Output()
	if err != nil || len(out) != 400_000 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}
