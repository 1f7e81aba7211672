package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestStopAnswersRunningCalls: a call that the end of the server cuts short is
// answered, in every protocol, with what its command had written, and the next
// server goes on with the same session id.
func TestStopAnswersRunningCalls(t *testing.T) {
	const cmd = `echo early; touch started; sleep 1000`
	for _, c := range []struct {
		name             string
		modern, progress bool
		tool             func(r *remote) (string, map[string]any)
	}{
		{name: "with a session"},
		{name: "with a session and progress", progress: true},
		{name: "2026-07-28", modern: true},
		{name: "2026-07-28 and progress", modern: true, progress: true},
		{name: "a poll", progress: true, tool: func(r *remote) (string, map[string]any) {
			o := r.exec(map[string]any{"cmd": "sleep 1; " + cmd, "yield_time_ms": 250})
			return "write_stdin", map[string]any{"session_id": *o.SessionID, "yield_time_ms": 40000}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := startNetwork(t, nil, "--default-sandbox", "on")
			r := n.client(annsToken)
			if !c.modern {
				r = n.session(annsToken)
			}
			tool, args := "exec_command", map[string]any{"cmd": cmd, "yield_time_ms": 40000}
			if c.tool != nil {
				tool, args = c.tool(r)
			}
			_, body, headers := r.message(tool, args)
			if c.progress {
				var m map[string]any
				if err := json.Unmarshal([]byte(body), &m); err != nil {
					t.Fatal(err)
				}
				params := m["params"].(map[string]any)
				meta, _ := params["_meta"].(map[string]any)
				if meta == nil {
					meta = map[string]any{}
				}
				meta["progressToken"] = "tok"
				params["_meta"] = meta
				b, _ := json.Marshal(m)
				body = string(b)
			}
			type answer struct {
				text string
				err  error
			}
			got := make(chan answer, 1)
			var progressed atomic.Bool
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				resp, err := http.DefaultClient.Do(r.request(ctx, http.MethodPost, body, headers...))
				if err != nil {
					got <- answer{err: err}
					return
				}
				defer resp.Body.Close()
				var b strings.Builder
				lines := bufio.NewScanner(resp.Body)
				lines.Buffer(nil, 1<<20)
				for lines.Scan() {
					b.WriteString(lines.Text() + "\n")
					if strings.Contains(lines.Text(), "notifications/progress") {
						progressed.Store(true)
					}
				}
				got <- answer{b.String(), lines.Err()}
			}()
			waitFor(t, "the command", func() bool { return strings.Contains(r.sh("ls"), "started") })
			if c.progress {
				waitFor(t, "progress", func() bool { return progressed.Load() })
			}
			n.cmd.Process.Signal(syscall.SIGTERM)
			a := <-got
			last := a.text
			if i := strings.LastIndex(last, "data: "); i >= 0 {
				last = last[i+len("data: "):]
			} else if c.progress {
				t.Errorf("no stream: %q", a.text)
			}
			var m message
			var res toolResult
			if a.err != nil || json.Unmarshal([]byte(strings.TrimSpace(last)), &m) != nil || json.Unmarshal(m.Result, &res) != nil {
				t.Fatalf("%v %q", a.err, a.text)
			}
			if text := res.text(); !res.IsError || !strings.HasPrefix(text, "cancelled: the server stopped") || !strings.Contains(text, "the session id keeps its files") || !strings.Contains(text, "early\n") {
				t.Errorf("%v %q", res.IsError, text)
			}
			<-n.ended
			next := startNetwork(t, n, "--default-sandbox", "on")
			r.n = next
			if out := r.sh("ls"); !strings.Contains(out, "started") {
				t.Errorf("the session did not go on: %q", out)
			}
		})
	}
}

// TestStopAnswersOverSSE: there the answer is an event of the client's stream.
func TestStopAnswersOverSSE(t *testing.T) {
	n := startNetwork(t, nil, "--transport", "sse", "--default-sandbox", "on")
	s := n.stream(annsToken, "/sse")
	s.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":70,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":%q,"yield_time_ms":40000}}}`, "echo early; touch started; sleep 1000"))
	waitFor(t, "the command", func() bool { return strings.Contains(s.exec("ls"), "started") })
	n.cmd.Process.Signal(syscall.SIGTERM)
	var m message
	var res toolResult
	if err := json.Unmarshal([]byte(s.event()), &m); err != nil || string(m.ID) != "70" || json.Unmarshal(m.Result, &res) != nil {
		t.Fatalf("%v %+v", err, m)
	}
	if !res.IsError || !strings.Contains(res.text(), "the server stopped") || !strings.Contains(res.text(), "early\n") {
		t.Errorf("%q", res.text())
	}
	<-n.ended
}
