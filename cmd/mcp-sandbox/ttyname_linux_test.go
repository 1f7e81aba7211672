package main

import (
	"os"
	"strings"
	"testing"
)

// TestTerminalByName: the terminal of a command is opened by its names as on a host,
// also where init does the opening.
func TestTerminalByName(t *testing.T) {
	levels := []string{"namespaces", "namespaces-noproc"}
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		levels = []string{"landlock"}
	}
	for _, level := range levels {
		args := []string{"--confine", level}
		ws := t.TempDir()
		openPath(t, ws)
		if level == "landlock" {
			args = atLandlock()
		}
		c := startServer(t, append(args, "--root", ws)...)
		c.initialize("2025-06-18")
		cmd := `echo one > /dev/tty; exec 3<>/dev/tty; echo two >&3; echo three >> /dev/tty; echo four | tee /dev/tty >/dev/null; stty -F /dev/tty size
(setsid sh -c 'echo lost > /dev/tty') 2>/dev/null || echo none
python3 -c 'import os; d=os.open("/dev",os.O_PATH); os.write(os.open("tty",os.O_RDWR,dir_fd=d),b"five\n")'`
		want := "one two three four 30 120 none five"
		if level != "landlock" { // there /dev/pts is the host's, and closed
			cmd += `
echo six > "$(tty)"; stty -F "$(tty)" size; python3 -c 'import os; os.write(os.open(os.ttyname(0),os.O_WRONLY|os.O_NOCTTY),b"seven\n")'`
			want += " six 30 120 seven"
		}
		o := c.exec(map[string]any{"tty": true, "cmd": cmd, "yield_time_ms": 30000})
		if got := strings.Join(strings.Fields(o.Output), " "); got != want {
			t.Errorf("%s: %q, want %q", level, got, want)
		}
		if o := c.exec(map[string]any{"cmd": "echo lost > /dev/tty"}); o.ExitCode == nil || *o.ExitCode == 0 {
			t.Errorf("%s: without a terminal /dev/tty opens: %+v", level, o)
		}
		c.stop()
	}
}
