package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestProtocolVersions: each published revision is answered in its own terms
// (MCP "Lifecycle"); 2026-07-28 has no initialize but server/discover.
func TestProtocolVersions(t *testing.T) {
	for _, v := range []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"} {
		t.Run(v, func(t *testing.T) {
			c := startServer(t)
			var r struct {
				ProtocolVersion string `json:"protocolVersion"`
				ServerInfo      struct{ Name, Version string }
			}
			if err := json.Unmarshal(c.initialize(v).Result, &r); err != nil {
				t.Fatal(err)
			}
			if r.ProtocolVersion != v || r.ServerInfo.Name != "mcp-sandbox" {
				t.Fatalf("answered %+v", r)
			}
			if got := c.sh("echo hi"); got != "hi\n" {
				t.Fatalf("got %q", got)
			}
		})
	}
	t.Run("2026-07-28", func(t *testing.T) {
		c := startServer(t)
		meta := map[string]any{
			"io.modelcontextprotocol/protocolVersion":    "2026-07-28",
			"io.modelcontextprotocol/clientInfo":         map[string]any{"name": "test", "version": "1"},
			"io.modelcontextprotocol/clientCapabilities": map[string]any{},
		}
		if m := c.request("server/discover", map[string]any{"_meta": meta}); m.Error != nil {
			t.Fatalf("discover: %+v", m.Error)
		}
		m := c.request("tools/call", map[string]any{
			"_meta": meta, "name": "exec_command", "arguments": map[string]any{"cmd": "echo modern"},
		})
		if o := outcome(t, c.result(m)); o.Output != "modern\n" {
			t.Fatalf("got %q", o.Output)
		}
	})
}

// TestManyCommands: 400 commands, 8 at a time; each answer has its own exit
// code and all of its stdout and stderr (AC-54).
func TestManyCommands(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	c.sh("true")
	jobs := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range jobs {
				_, ch := c.sendCall("exec_command", map[string]any{
					"cmd": fmt.Sprintf("echo out %d; echo err %d >&2; seq 1 %d; exit %d", i, i, i%50, i%256), "yield_time_ms": 30000,
				})
				var r toolResult
				var o commandOutcome
				select {
				case m := <-ch:
					_ = json.Unmarshal(m.Result, &r)
					_ = json.Unmarshal(r.Structured, &o)
				case <-time.After(patience):
				}
				want := fmt.Sprintf("out %d\nerr %d\n", i, i)
				for n := 1; n <= i%50; n++ {
					want += fmt.Sprintln(n)
				}
				if o.ExitCode == nil || *o.ExitCode != i%256 || o.Output != want {
					t.Errorf("command %d: exit %v, output %q", i, o.ExitCode, o.Output)
				}
			}
		})
	}
	for i := range 400 {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
}

// TestWaitingCallsDoNotDelay: 64 calls wait (63 for commands, the most that
// leaves room for another, and one polls), and a quick one and a ping are
// answered meanwhile.
func TestWaitingCallsDoNotDelay(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	c.sh("mkfifo gate")
	var waiting []<-chan message
	for range 63 {
		_, ch := c.sendCall("exec_command", map[string]any{"cmd": "exec 3<>gate; read x <&3", "yield_time_ms": 45000})
		waiting = append(waiting, ch)
	}
	waitFor(t, "63 processes", func() bool {
		return strings.Count(c.ok("list_processes", nil).text(), " running ") == 63
	})
	first := strings.Fields(c.ok("list_processes", nil).text())[0]
	_, poll := c.sendCall("write_stdin", map[string]any{"session_id": first, "yield_time_ms": 45000})
	waiting = append(waiting, poll)
	if got := c.sh("echo quick"); got != "quick\n" {
		t.Fatalf("got %q", got)
	}
	if m := c.request("ping", nil); m.Error != nil {
		t.Fatalf("ping: %+v", m.Error)
	}
	for _, ch := range waiting {
		select {
		case m := <-ch:
			t.Fatalf("a waiting call was answered early: %s", m.Result)
		default:
		}
	}
	// A reader takes bytes one by one and ends at a newline: one newline each.
	c.sh("yes '' | head -63 > gate")
	for _, ch := range waiting {
		c.result(c.await(ch))
	}
}

// TestCancel: a cancel ends a running call at once, is not answered, and by
// default kills the command; other calls are unhurt (AC-51).
func TestCancel(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	id, ch := c.sendCall("exec_command", map[string]any{"cmd": "echo $$ > pid; exec sleep 1000", "yield_time_ms": 45000})
	_, other := c.sendCall("exec_command", map[string]any{"cmd": "mkfifo f; read x < f; echo got $x", "yield_time_ms": 45000})
	waitFor(t, "the command to start", func() bool {
		return !c.call("read_file", map[string]any{"path": "pid"}).IsError
	})
	c.raw(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`+"\n", id))
	waitFor(t, "the cancelled command to die", func() bool {
		return c.exec(map[string]any{"cmd": "kill -0 $(cat pid)"}).Output != "" || *c.exec(map[string]any{"cmd": "kill -0 $(cat pid) 2>/dev/null"}).ExitCode != 0
	})
	select {
	case m := <-ch:
		t.Fatalf("a cancelled request was answered: %s", m.Result)
	default:
	}
	waitFor(t, "the fifo", func() bool { return strings.Contains(c.ok("ls", nil).text(), " f") })
	c.sh("echo on > f")
	if o := outcome(t, c.result(c.await(other))); o.Output != "got on\n" {
		t.Fatalf("the other call: %+v", o)
	}
}

// TestCancelBeforeStart: a cancel read right behind its call reaches it, however
// the two race (mcp-go's own loop loses it while the call is queued).
func TestCancelBeforeStart(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	c.sh("true")
	for i := range 50 {
		id := fmt.Sprint(100000 + i)
		ch := make(chan message, 1)
		c.mu.Lock()
		c.waiting[id] = ch
		c.mu.Unlock()
		c.raw(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":"sleep 1000","yield_time_ms":45000}}}
{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}
`, id, id))
	}
	waitFor(t, "cancelled commands to end", func() bool {
		return strings.Count(c.ok("list_processes", nil).text(), " running ") == 0
	})
}

// TestOneShot: a client that writes and closes is answered, the last line also
// without its newline.
func TestOneShot(t *testing.T) {
	c := startServer(t)
	c.sh("true") // what is judged is the end of input, not the start of a sandbox
	ch := make(chan message, 1)
	c.mu.Lock()
	c.waiting["7"] = ch
	c.mu.Unlock()
	c.raw(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":"echo last"}}}`)
	_ = c.in.Close()
	select {
	case m := <-ch:
		if o := outcome(t, c.result(m)); o.Output != "last\n" {
			t.Fatalf("got %+v", o)
		}
	case <-c.closed:
		select {
		case m := <-ch:
			if o := outcome(t, c.result(m)); o.Output != "last\n" {
				t.Fatalf("got %+v", o)
			}
		default:
			t.Fatalf("ended without an answer; stderr:\n%s", c.stderr)
		}
	}
}

// TestEndsWithLiveChildren: EOF, TERM and KILL of the server each end every
// process of its session within 2 s, also those that ignore signals, left their
// group or are stopped (AC-44, AC-46).
func TestEndsWithLiveChildren(t *testing.T) {
	for name, end := range map[string]func(c *client){
		"EOF":  func(c *client) { _ = c.in.Close() },
		"TERM": func(c *client) { c.signal(syscall.SIGTERM) },
		"KILL": func(c *client) { c.signal(syscall.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			c := startServer(t)
			c.initialize("2025-11-25")
			c.ok("exec_command", map[string]any{"cmd": "trap '' TERM HUP INT; sleep 1000", "yield_time_ms": 250})
			c.ok("exec_command", map[string]any{"cmd": "setsid sleep 1001 & nohup sleep 1002 >/dev/null 2>&1 & (setsid sh -c 'sleep 1003 & sleep 1004' &) ; sleep 1005 & kill -STOP $!; true"})
			_, inFlight := c.sendCall("exec_command", map[string]any{"cmd": "sleep 1006", "tty": true, "yield_time_ms": 45000})
			_ = inFlight
			waitFor(t, "the children to run", func() bool { return len(processesWith(c.temp)) >= 7 })
			start := time.Now()
			end(c)
			<-c.closed
			for len(processesWith(c.temp)) > 0 {
				if time.Since(start) > 2*time.Second {
					t.Fatalf("alive after 2 s: %v", processesWith(c.temp))
				}
				time.Sleep(2 * time.Millisecond)
			}
			t.Logf("all gone %v after %s", time.Since(start), name)
			if name == "KILL" {
				// What a killed server cannot remove, the next one does.
				_ = c.cmd.Wait()
				c.ended.Do(func() {})
				d := startServer(t, "--state-dir", c.state)
				d.initialize("2025-11-25")
				if left, _ := os.ReadDir(c.temp); len(left) > 0 {
					t.Errorf("the next server left %v", left)
				}
			}
		})
	}
}

// TestPTYJobControl: Ctrl-C reaches the foreground job alone, Ctrl-Z and fg
// work, the terminal has its size.
func TestPTYJobControl(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	o := c.exec(map[string]any{"cmd": "exec sh -i", "shell": "sh", "tty": true, "yield_time_ms": 500, "env": map[string]any{"PS1": "ready> "}})
	if o.SessionID == nil {
		t.Fatalf("the shell ended: %+v", o)
	}
	id := *o.SessionID
	seen := o.Output
	until := func(chars, want string) {
		t.Helper()
		if chars != "" {
			seen += outcome(t, c.ok("write_stdin", map[string]any{"session_id": id, "chars": chars, "yield_time_ms": 2000})).Output
		}
		waitFor(t, fmt.Sprintf("%q", want), func() bool {
			if strings.Contains(seen, want) {
				return true
			}
			seen += outcome(t, c.ok("write_stdin", map[string]any{"session_id": id, "yield_time_ms": 500})).Output
			return strings.Contains(seen, want)
		})
		seen = ""
	}
	until("", "ready>")
	until("tty; stty size\r", "30 120")
	until("sleep 1000 &\r", "ready>")
	until("sleep 1001\r", "sleep 1001")
	waitFor(t, "the foreground sleep", func() bool {
		return c.sh("grep -la '[s]leep.1001' /proc/[0-9]*/cmdline 2>/dev/null; true") != ""
	})
	until("\x03", "ready>")
	until("echo status $?\r", "status 130")
	until("jobs; kill -0 %1 && echo background lives\r", "background lives")
	until("cat\r", "cat")
	waitFor(t, "cat", func() bool {
		return c.sh("grep -la '^[0-9]* (cat) S' /proc/[0-9]*/stat 2>/dev/null; true") != ""
	})
	until("\x1a", "Stopped")
	until("fg\r", "cat")
	until("\x04", "ready>")
	until("kill %1; exit 7\r", "exit")
	waitFor(t, "the exit", func() bool {
		r := c.call("write_stdin", map[string]any{"session_id": id})
		if r.IsError {
			t.Fatalf("lost the exit code: %s", r.text())
		}
		o := outcome(t, r)
		if o.ExitCode == nil {
			return false
		}
		if *o.ExitCode != 7 {
			t.Fatalf("exit %d", *o.ExitCode)
		}
		return true
	})
}

// TestSecretsStayOut: the server's environment, its state and the homes are not
// to be seen by a command (AC-70).
func TestSecretsStayOut(t *testing.T) {
	t.Setenv("CANARY_TOKEN", "hunter2-canary")
	home := t.TempDir()
	openPath(t, home)
	if err := os.WriteFile(filepath.Join(home, "key"), []byte("hunter2-file"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := startServer(t)
	c.initialize("2025-11-25")
	out := c.exec(map[string]any{"cmd": "env; cat /proc/*/environ | tr '\\0' '\\n'; cat " + filepath.Join(home, "key") + "; ls -la /root " + c.state}).Output
	if strings.Contains(out, "hunter2") {
		t.Fatalf("a secret was readable:\n%s", out)
	}
}

// TestOutputIsCut: long output is cut in the middle at the token limit, exactly
// counted, with its head and tail.
func TestOutputIsCut(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	o := c.exec(map[string]any{"cmd": "seq 1 5000", "max_output_tokens": 200})
	if !o.Truncated || !strings.HasPrefix(o.Output, "1\n2\n3\n") || !strings.HasSuffix(o.Output, "4999\n5000\n") {
		t.Fatalf("cut is wrong: %+v", o)
	}
	if o.Tokens < 5000 {
		t.Fatalf("original_token_count %d", o.Tokens)
	}
	if o = c.exec(map[string]any{"cmd": "echo short", "max_output_tokens": 200}); o.Truncated || o.Output != "short\n" {
		t.Fatalf("short output was cut: %+v", o)
	}
}

// TestRootIsKeptClean: a caller's directory is kept, used in place, and nothing of
// ours is in it, during or after.
func TestRootIsKeptClean(t *testing.T) {
	root := t.TempDir()
	openPath(t, root)
	if err := os.WriteFile(filepath.Join(root, "mine"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	names := func() string {
		entries, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return strings.Join(out, " ")
	}
	c := startServer(t, "--root", root)
	c.initialize("2025-11-25")
	if got := c.sh("pwd; cat mine; echo new > made; mkdir -p ~/.cache; echo $HOME"); !strings.HasPrefix(got, root+"\nx") || strings.HasSuffix(got, root+"\n") {
		t.Fatalf("got %q", got)
	}
	if got := names(); got != "made mine" {
		t.Fatalf("during: %q", got)
	}
	c.stop()
	if got := names(); got != "made mine" {
		t.Fatalf("after: %q", got)
	}
}
