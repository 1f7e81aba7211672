package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// apart is what a result has of both streams.
type apart struct {
	Output         string
	Stderr         *string
	OutputID       string `json:"output_id"`
	StderrOutputID string `json:"stderr_output_id"`
	Truncated      bool
	SessionID      int  `json:"session_id"`
	ExitCode       *int `json:"exit_code"`
	Matched        bool `json:"wait_for_matched"`
	Awaiting       bool `json:"awaiting_input"`
}

func (c *client) apart(tool string, args map[string]any) (apart, string) {
	c.t.Helper()
	res := c.ok(tool, args)
	var a apart
	if err := json.Unmarshal(res.Structured, &a); err != nil || a.Stderr == nil {
		c.t.Fatalf("%s %v: %s %v", tool, args, res.Structured, err)
	}
	return a, res.text()
}

// TestSeparateStderr: with separate_stderr every result about the command has
// both streams apart, and what is cut of either can be read.
func TestSeparateStderr(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	const long = 45_000
	start := func(cmd string, more map[string]any) (apart, string) {
		args := map[string]any{"cmd": cmd, "separate_stderr": true, "yield_time_ms": long}
		for k, v := range more {
			args[k] = v
		}
		return c.apart("exec_command", args)
	}
	for _, tc := range []struct{ cmd, out, err string }{
		{"echo out; echo err >&2", "out\n", "err\n"},
		{"printf out; echo err >&2; exit 3", "out", "err\n"},
		{"true", "", ""},
		{"ls /nowhere 2>&1 >/dev/null | cat", "ls: cannot access '/nowhere': No such file or directory\n", ""},
		{`printf 'a\rb\n\0' >&2`, "", "b\n\\x00"},
		{"(sleep 0.1; echo late >&2) & echo out; wait", "out\n", "late\n"},
	} {
		a, text := start(tc.cmd, nil)
		if a.Output != tc.out || *a.Stderr != tc.err {
			t.Errorf("%s: %q and %q, want %q and %q", tc.cmd, a.Output, *a.Stderr, tc.out, tc.err)
		}
		whole := "Output:\n" + tc.out
		if tc.out != "" && !strings.HasSuffix(tc.out, "\n") {
			whole += "\n"
		}
		if !strings.HasSuffix(text, whole+"Stderr:\n"+tc.err) {
			t.Errorf("%s: %q", tc.cmd, text)
		}
	}
	if res := c.ok("exec_command", map[string]any{"cmd": "echo err >&2"}); strings.Contains(res.text(), "Stderr") || !strings.Contains(string(res.Structured), `"output":"err\n"`) {
		t.Errorf("together: %q", res.text())
	}

	// Every later result about the command as well.
	a, _ := start("echo up >&2; while read x; do echo o$x; echo e$x >&2; done; echo bye; echo end >&2; exit 4", map[string]any{"keep_stdin": true})
	if !a.Awaiting || *a.Stderr != "up\n" || a.Output != "" {
		t.Fatalf("%+v %q", a, *a.Stderr)
	}
	id := a.SessionID
	if a, _ = c.apart("write_stdin", map[string]any{"session_id": id, "chars": "1\n", "yield_time_ms": long}); a.Output != "o1\n" || *a.Stderr != "e1\n" {
		t.Errorf("%+v %q", a, *a.Stderr)
	}
	if a, _ = c.apart("write_stdin", map[string]any{"session_id": id, "close": true, "yield_time_ms": long}); a.Output != "bye\n" || *a.Stderr != "end\n" || a.ExitCode == nil || *a.ExitCode != 4 {
		t.Errorf("%+v %q", a, *a.Stderr)
	}
	if a, _ = c.apart("write_stdin", map[string]any{"session_id": id}); a.Output != "" || *a.Stderr != "" || *a.ExitCode != 4 {
		t.Errorf("repeated: %+v", a)
	}
	if a, _ = start("echo a; echo ready >&2; sleep 1000", map[string]any{"wait_for": "ready"}); !a.Matched || a.Output != "a\n" || *a.Stderr != "ready\n" {
		t.Errorf("%+v %q", a, *a.Stderr)
	}
	if a, _ = c.apart("kill_process", map[string]any{"session_id": a.SessionID}); a.ExitCode == nil {
		t.Errorf("%+v", a)
	}

	// Cut, each within what the other leaves.
	a, _ = start("seq 20000 >&2; echo out; seq -f o%g 5", map[string]any{"max_output_tokens": 500})
	if !a.Truncated || a.Output != "out\no1\no2\no3\no4\no5\n" || !strings.HasSuffix(*a.Stderr, "20000\n") || a.StderrOutputID == "" || a.OutputID != "" {
		t.Errorf("%+v", a)
	}
	if text := c.ok("read_output", map[string]any{"output_id": a.StderrOutputID, "pattern": "^12345$"}).text(); !strings.Contains(text, "12345:12345") {
		t.Errorf("%q", text)
	}
	a, _ = start("head -c 3000000 /dev/zero | tr '\\0' x >&2; head -c 3000000 /dev/zero | tr '\\0' y; echo E >&2; echo O", nil)
	if a.StderrOutputID == "" || a.OutputID == "" || a.OutputID == a.StderrOutputID || !strings.HasSuffix(a.Output, "yO\n") || !strings.HasSuffix(*a.Stderr, "xE\n") {
		t.Errorf("%.100q %.100q %s %s", a.Output, *a.Stderr, a.OutputID, a.StderrOutputID)
	}
	for id, want := range map[string]string{a.OutputID: "y", a.StderrOutputID: "x"} {
		if text := c.ok("read_output", map[string]any{"output_id": id, "byte_offset": 1_500_000, "byte_limit": 5}).text(); !strings.Contains(text, strings.Repeat(want, 5)) || !strings.Contains(text, "of 3000002") {
			t.Errorf("%q", text)
		}
	}
	if text := c.bad("invalid_argument", "exec_command", map[string]any{"cmd": "true", "separate_stderr": true, "tty": true}); !strings.Contains(text, "tty") {
		t.Errorf("%q", text)
	}
}
