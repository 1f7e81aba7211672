package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestProgress: a call that carries a token hears of its command while it runs,
// and never after its result.
func TestProgress(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	_, ch := c.send("tools/call", map[string]any{
		"name": "exec_command", "_meta": map[string]any{"progressToken": "tok"},
		"arguments": map[string]any{"cmd": "for i in 1 2 3 4; do echo line $i; sleep 0.4; done", "yield_time_ms": 20000},
	})
	o := outcome(t, c.result(c.await(ch)))
	if o.ExitCode == nil || *o.ExitCode != 0 {
		t.Fatalf("%+v", o)
	}
	c.mu.Lock()
	notes := len(c.notes)
	var first struct {
		ProgressToken string  `json:"progressToken"`
		Progress      float64 `json:"progress"`
		Message       string  `json:"message"`
	}
	if notes > 0 {
		_ = json.Unmarshal(c.notes[0].Params, &first)
	}
	c.mu.Unlock()
	if notes == 0 || first.ProgressToken != "tok" || first.Progress <= 0 || !strings.Contains(first.Message, "line ") {
		t.Fatalf("%d notes, the first %+v", notes, first)
	}
	c.sh("true")
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.notes) != notes {
		t.Errorf("%d notes came after the result", len(c.notes)-notes)
	}
}

// TestCancelLeaves: with on-cancel leave, a cancelled call's command lives on
// and can be found and ended.
func TestCancelLeaves(t *testing.T) {
	c := startServer(t, "--on-cancel", "leave")
	c.initialize("2025-11-25")
	id, _ := c.sendCall("exec_command", map[string]any{"cmd": "touch started; sleep 1000", "yield_time_ms": 45000})
	waitFor(t, "the command", func() bool { return strings.Contains(c.ok("ls", nil).text(), "started") })
	c.raw(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`+"\n", id))
	list := c.ok("list_processes", nil).text()
	if !strings.Contains(list, " running ") {
		t.Fatalf("it does not live on: %q", list)
	}
	o := outcome(t, c.ok("kill_process", map[string]any{"session_id": strings.Fields(list)[0]}))
	if o.ExitCode == nil || *o.ExitCode != 143 || o.Signal != "SIGTERM" {
		t.Fatalf("%+v", o)
	}
}

// TestTimeoutEndsTheTree: timeout_ms ends what the command started too, also
// what left its session, and keeps the output (AC-44).
func TestTimeoutEndsTheTree(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	c.ok("exec_command", map[string]any{"cmd": "sleep 2000 & echo other job"})
	o := c.exec(map[string]any{"cmd": "echo before; setsid sleep 2001 & (setsid nohup sh -c 'trap \"\" TERM; sleep 2002; sleep 2003' >/dev/null 2>&1 &); sleep 2004", "timeout_ms": 700, "yield_time_ms": 20000})
	if !o.TimedOut || !strings.HasPrefix(o.Output, "before\n") {
		t.Fatalf("%+v", o)
	}
	waitFor(t, "the tree to end", func() bool {
		return c.sh("grep -la '[s]leep.200[1-4]' /proc/[0-9]*/cmdline 2>/dev/null; true") == ""
	})
	if c.sh("grep -la '[s]leep.2000' /proc/[0-9]*/cmdline 2>/dev/null; true") == "" {
		t.Error("the job of another command was ended too")
	}
}

// TestBackgroundChildNeverHolds: a job in the background does not keep its call,
// and what it writes later can be read (AC-45).
func TestBackgroundChildNeverHolds(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	c.sh("mkfifo gate")
	start := time.Now()
	o := c.exec(map[string]any{"cmd": "(read x < gate; echo late $x; sleep 1000) & echo early", "yield_time_ms": 40000})
	if o.ExitCode == nil || *o.ExitCode != 0 || o.Output != "early\n" || o.SessionID == nil || time.Since(start) > 20*time.Second {
		t.Fatalf("%+v after %v", o, time.Since(start))
	}
	c.sh("echo word > gate")
	seen := ""
	waitFor(t, "the late output", func() bool {
		seen += outcome(t, c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "yield_time_ms": 300})).Output
		return seen == "late word\n"
	})
	c.ok("kill_process", map[string]any{"session_id": *o.SessionID})
	waitFor(t, "the job to end", func() bool {
		return c.sh("grep -la '[s]leep.1000' /proc/[0-9]*/cmdline 2>/dev/null; true") == ""
	})
}

// TestFloodStaysBounded: a command that never stops writing does not fill the
// server's memory, and what is missing is counted (AC-53).
func TestFloodStaysBounded(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	o := c.exec(map[string]any{"cmd": "yes | head -c 40000000", "yield_time_ms": 45000, "max_output_tokens": 100})
	if o.ExitCode == nil || !o.Truncated || len(o.Output) > 2000 {
		t.Fatalf("%+v", o)
	}
	if rss := residentKB(t, c.cmd.Process.Pid); rss > 64<<10 && !raceBuilt(t) {
		t.Errorf("the server has %d KiB resident", rss)
	}
	r := c.ok("read_output", map[string]any{"output_id": o.OutputID, "offset": -2})
	if !strings.Contains(r.text(), "of 20000000") {
		t.Errorf("the whole is not kept: %q", r.text())
	}
}

// TestOutOfMemoryIsTold: where a memory group can be had, a command that takes
// too much is killed alone, and the reply says why.
func TestOutOfMemoryIsTold(t *testing.T) {
	c := startServer(t, "--limit-memory", "200M")
	c.initialize("2025-11-25")
	if !strings.Contains(c.ok("session_info", nil).text(), "cgroup-memory: on") {
		t.Skip("no memory group can be made here")
	}
	c.ok("exec_command", map[string]any{"cmd": "sleep 1000", "yield_time_ms": 250})
	r := c.ok("exec_command", map[string]any{"cmd": `python3 -c 'x = bytearray(600 << 20)'`, "yield_time_ms": 30000})
	if o := outcome(t, r); o.ExitCode == nil || *o.ExitCode != 137 || !strings.Contains(r.text(), "out of memory") {
		t.Errorf("%s", r.text())
	}
	if list := c.ok("list_processes", nil).text(); !strings.Contains(list, " running ") {
		t.Errorf("the other command did not live on: %q", list)
	}
}
