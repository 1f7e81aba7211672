package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// refusedWays are ways of programs to ask for the host {h}, each refused.
var refusedWays = []struct{ program, line string }{
	{"curl", "curl -sS -m 20 https://{h}/"},
	{"curl", "curl -sS -m 20 --noproxy '*' https://{h}/"},
	{"curl", "curl -sS -m 20 --proxy socks5h://127.0.0.1:3128 http://{h}/"},
	{"curl", "curl -sS -m 20 -f http://{h}/"},
	{"python3", "python3 -c 'import socket; socket.getaddrinfo(\"{h}\", 443)'"},
	{"git", "git ls-remote https://{h}/x"},
	{"sh", "sh -c 'curl -sS -m 20 https://{h}/; exit 3'"},
}

// TestNetworkRefusalsOfParallelCalls: each of several calls at once is told what the
// network refused to it and nothing of the others, by every way in; a background
// job's come with the next reply about it.
func TestNetworkRefusalsOfParallelCalls(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		return // there is no allow-list without namespaces
	}
	for _, level := range []string{"namespaces", "namespaces-noproc"} {
		t.Run(level, func(t *testing.T) {
			c := startServer(t, "--network", "allow", "--allow-host", "good.example", "--confine", level)
			c.initialize("2025-11-25")
			c.sh("true")
			var wg sync.WaitGroup
			for round := range 2 {
				for i, way := range refusedWays {
					needPrograms(t, way.program)
					wg.Go(func() {
						host := fmt.Sprintf("r%d-w%d.example", round, i)
						r := c.ok("exec_command", map[string]any{"cmd": strings.ReplaceAll(way.line, "{h}", host), "yield_time_ms": 40_000})
						if n := strings.Count(r.text(), "Note: network: "); n != 1 || !strings.Contains(r.text(), "Note: network: "+host) {
							t.Errorf("%s: %d notes: %s", way.line, n, r.text())
						}
					})
				}
				wg.Wait()
			}
			o := c.exec(map[string]any{"cmd": "(until [ -e go ]; do sleep 0.01; done; curl -sS -m 20 https://late.example/; touch done; exec sleep 60) >/dev/null 2>&1 &"})
			if o.SessionID == nil {
				t.Fatalf("%+v", o)
			}
			other := c.exec(map[string]any{"cmd": "touch go; until [ -e done ]; do sleep 0.01; done; curl -sS -m 20 https://own.example/", "yield_time_ms": 40_000})
			if len(other.Notices) != 1 || !strings.Contains(other.Notices[0], "own.example") {
				t.Errorf("another call is told %q", other.Notices)
			}
			later := outcome(t, c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "yield_time_ms": 250}))
			if len(later.Notices) != 1 || !strings.Contains(later.Notices[0], "late.example") {
				t.Errorf("the job is told %q", later.Notices)
			}
			c.ok("kill_process", map[string]any{"session_id": *o.SessionID})
		})
	}
}
