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
	t.Run("session", func(t *testing.T) { testProgress(t) })
	t.Run("stores the workspace first", func(t *testing.T) {
		root := t.TempDir()
		openPath(t, root)
		tree(t, root, 200)
		giveToSandbox(t, root)
		testProgress(t, "--root", root)
	})
}

func testProgress(t *testing.T, args ...string) {
	c := startServer(t, args...)
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
	type note struct {
		ProgressToken string      `json:"progressToken"`
		Progress      json.Number `json:"progress"`
		Message       string      `json:"message"`
	}
	all := make([]note, notes)
	for i := range all {
		_ = json.Unmarshal(c.notes[i].Params, &all[i])
	}
	c.mu.Unlock()
	if notes < 2 || all[0].ProgressToken != "tok" || all[0].Progress != "0" || !strings.Contains(all[notes-1].Message, "line ") {
		t.Fatalf("%d notes: %+v", notes, all)
	}
	for i, n := range all[1:] {
		now, _ := n.Progress.Float64()
		before, _ := all[i].Progress.Float64()
		if _, decimals, _ := strings.Cut(n.Progress.String(), "."); now <= before || len(decimals) > 3 {
			t.Errorf("progress %s after %s", n.Progress, all[i].Progress)
		}
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

// TestTimeoutSaysHow: a command that ran out of time tells how long it really
// lived and whether it had to be killed.
func TestTimeoutSaysHow(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	const timeout, grace = 300, 2000
	for _, tc := range []struct {
		name, cmd, signal string
		tty, killed       bool
	}{
		{"ends on TERM", "sleep 1000", "SIGTERM", false, false},
		{"ends itself on TERM", "trap 'exit 3' TERM; sleep 1000 & wait", "", false, false},
		{"outlives TERM", "trap '' TERM; while :; do sleep 1; done", "SIGKILL", false, true},
		{"on a terminal", "trap '' TERM HUP; while :; do sleep 1; done", "SIGKILL", true, true},
		{"its child outlives TERM", "(trap '' TERM; while :; do sleep 1; done) & sleep 1000", "SIGTERM", false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res := c.ok("exec_command", map[string]any{"cmd": tc.cmd, "tty": tc.tty, "timeout_ms": timeout, "yield_time_ms": 45_000})
			o := outcome(t, res)
			var ms int
			_, after, _ := strings.Cut(res.text(), "(exec_timeout: killed after ")
			if _, err := fmt.Sscanf(after, "%d ms", &ms); err != nil || ms < timeout || tc.killed && ms < timeout+grace || ms != o.KilledAfter {
				t.Errorf("%d ms, structured %d: %q", ms, o.KilledAfter, res.text())
			}
			if !o.TimedOut || o.Signal != tc.signal || strings.Contains(res.text(), "SIGKILL as it outlived") != tc.killed {
				t.Errorf("%q", res.text())
			}
		})
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
	o := c.exec(map[string]any{"cmd": fmt.Sprintf("yes | head -c %d", 2*large(t)), "yield_time_ms": 45000, "max_output_tokens": 100})
	if o.ExitCode == nil || !o.Truncated || len(o.Output) > 2000 {
		t.Fatalf("%+v", o)
	}
	if rss := residentKB(t, c.cmd.Process.Pid); rss > 64<<10 && !raceBuilt(t) {
		t.Errorf("the server has %d KiB resident", rss)
	}
	r := c.ok("read_output", map[string]any{"output_id": o.OutputID, "offset": -2})
	if !strings.Contains(r.text(), fmt.Sprintf("of %d", large(t))) {
		t.Errorf("the whole is not kept: %q", r.text())
	}
}

// TestOutOfMemoryIsTold: where a memory group can be had, a command that takes
// too much is killed alone, and the reply says why.
func TestOutOfMemoryIsTold(t *testing.T) {
	c := startServer(t, "--limit-memory", "200M", "--limits", "best-effort")
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

// TestCancelledIsListed: what a cancelled call's command had written stays
// readable, by the id that list_processes shows.
func TestCancelledIsListed(t *testing.T) {
	for _, arguments := range []map[string]any{
		{"cmd": "echo partial; touch started; sleep 1000"},
		{"cmd": "echo partial; touch started; sleep 1000", "tty": true, "wait_for": "never"},
		{"cmd": "trap '' TERM; echo partial; touch started; sleep 1000 & wait; sleep 1000"},
		{"cmd": "head -c 3000000 /dev/zero | tr '\\0' x; echo partial; touch started; sleep 1000"},
	} {
		c := startServer(t)
		c.initialize("2025-11-25")
		arguments["yield_time_ms"] = 45_000
		id, _ := c.sendCall("exec_command", arguments)
		waitFor(t, "the command", func() bool { return strings.Contains(c.ok("ls", nil).text(), "started") })
		c.raw(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`+"\n", id))
		var list string
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("after %v list_processes says %s", arguments, list)
			}
		})
		waitFor(t, fmt.Sprintf("the row of %v", arguments), func() bool {
			list = c.ok("list_processes", nil).text()
			return strings.Contains(list, " cancelled ")
		})
		_, rest, _ := strings.Cut(list, "output_id=")
		output, _, _ := strings.Cut(rest, " ")
		got := c.ok("read_output", map[string]any{"output_id": output, "pattern": "partial"}).text()
		if !strings.Contains(got, "partial") {
			t.Errorf("%v: kept %q", arguments, got)
		}
		o := outcome(t, c.ok("write_stdin", map[string]any{"session_id": strings.Fields(list)[0]}))
		if o.ExitCode == nil || o.OutputID != output {
			t.Errorf("%v: polled: %+v", arguments, o)
		}
	}
}

// TestFullScreen: what a full-screen program shows is told as its screen, and
// once it has left, what it drew is not told at all.
func TestFullScreen(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	draw := `printf 'before\n\033[?1049h\033[2J\033[3;5Hon the screen\033[7;1Hsecond line'`
	o := c.exec(map[string]any{"cmd": draw + `; read x; printf '\033[3;5Hchanged       '; read x; printf '\033[?1049lafter\n'`, "tty": true})
	o.Output = strings.ReplaceAll(o.Output, "\r", "")
	if o.SessionID == nil || !strings.HasPrefix(o.Output, "before\n") || !strings.Contains(o.Output, "\n    on the screen\n") || strings.Contains(o.Output, "\x1b") {
		t.Fatalf("%+v", o)
	}
	if len(o.Notices) != 1 || !strings.Contains(o.Notices[0], "full-screen program") {
		t.Errorf("%q", o.Notices)
	}
	o = outcome(t, c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "chars": "\r"}))
	if strings.Contains(o.Output, "before") || !strings.Contains(o.Output, "changed") || !strings.Contains(o.Output, "second line") {
		t.Fatalf("%+v", o)
	}
	o = outcome(t, c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "chars": "\r"}))
	if o.ExitCode == nil || !strings.Contains(o.Output, "after") || strings.Contains(o.Output, "screen") {
		t.Errorf("%+v", o)
	}
	o = c.exec(map[string]any{"cmd": draw + `; printf '\033[?1049lafter\n'`, "tty": true})
	if strings.ReplaceAll(o.Output, "\r", "") != "before\nafter\n" {
		t.Errorf("%+v", o)
	}
	raw := c.ok("read_output", map[string]any{"output_id": o.OutputID, "raw": true}).text()
	if !strings.Contains(raw, "on the screen") {
		t.Errorf("as written: %q", raw)
	}
}

// TestWallTimeIsTheCalls: a later call tells its own time, and the command's.
func TestWallTimeIsTheCalls(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	o := c.exec(map[string]any{"cmd": "read x; sleep 0.3; echo done", "tty": true})
	waitFor(t, "some time", func() bool { return outcomeAge(c, *o.SessionID) > 1 })
	r := c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "chars": "\r"})
	o = outcome(t, r)
	if o.ExitCode == nil || o.Wall < 0.25 || o.Wall > o.Command-0.5 || !strings.Contains(r.text(), "seconds (command: ") {
		t.Errorf("%+v\n%s", o, r.text())
	}
}

// outcomeAge is the command's time, as a short poll tells it.
func outcomeAge(c *client, id int) float64 {
	c.t.Helper()
	return outcome(c.t, c.ok("write_stdin", map[string]any{"session_id": id, "yield_time_ms": 250})).Command
}
