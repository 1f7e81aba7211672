package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestSomeOrder: clients of two servers on one root and the shell write to the
// same files at once, 1,000 operations (MCP_SANDBOX_TEST_OPS says how many). The end is one that some order of the
// acknowledged operations gives: every appended line is there once, every edited
// line is at its last edit, and a counter has been raised once for each write
// that went by a version.
func TestSomeOrder(t *testing.T) {
	total, workers := 1000, 8
	if n, err := strconv.Atoi(os.Getenv("MCP_SANDBOX_TEST_OPS")); err == nil {
		total = n
	}
	root := t.TempDir()
	openPath(t, root)
	shared := filepath.Join(root, "shared")
	var lines strings.Builder
	for w := range workers {
		fmt.Fprintf(&lines, "worker %d at 0.\n", w)
	}
	put(t, shared, lines.String())
	put(t, filepath.Join(root, "counter"), "0\n")
	giveToSandbox(t, root)
	servers := []*client{startServer(t, "--root", root), startServer(t, "--root", root)}
	for _, c := range servers {
		c.initialize("2025-11-25")
	}
	shellLines := total / 10
	_, shell := servers[0].sendCall("exec_command", map[string]any{"cmd": fmt.Sprintf("for i in $(seq %d); do echo shell $i. >> shared; done; echo done", shellLines), "yield_time_ms": 45000})

	var raised, refused atomic.Int64
	var appended sync.Map
	edits := make([]int, workers)
	each := (total - shellLines) / workers
	version := regexp.MustCompile(`version ([0-9a-f]+)`)
	var wg sync.WaitGroup
	for w := range workers {
		c := servers[w%2]
		call := func(tool string, args map[string]any) toolResult {
			_, ch := c.sendCall(tool, args)
			return c.result(c.await(ch))
		}
		// What a refused call has not done must not be there.
		may := func(r toolResult) bool {
			if r.IsError && !strings.HasPrefix(r.text(), "conflict: ") {
				t.Errorf("worker %d: %s", w, r.text())
			}
			if r.IsError {
				refused.Add(1)
			}
			return !r.IsError
		}
		wg.Go(func() {
			for i := range each {
				switch i % 5 {
				case 0, 1:
					line := fmt.Sprintf("append %d-%d.\n", w, i)
					appended.Store(line, may(call("write_file", map[string]any{"path": "shared", "content": line, "mode": "append"})))
				case 2, 3:
					old, next := fmt.Sprintf("worker %d at %d.\n", w, edits[w]), fmt.Sprintf("worker %d at %d.\n", w, edits[w]+1)
					tool, args := "edit_file", map[string]any{"path": "shared", "old_text": old, "new_text": next}
					if i%5 == 3 {
						tool, args = "apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Update File: shared\n@@\n-" + old + "+" + next + "*** End Patch\n"}
					}
					if may(call(tool, args)) {
						edits[w]++
					}
				case 4:
					text := call("read_file", map[string]any{"path": "counter"}).text()
					head, value, _ := strings.Cut(text, "\n")
					n, m := 0, version.FindStringSubmatch(head)
					if _, err := fmt.Sscan(value, &n); err != nil || m == nil {
						t.Errorf("worker %d read %q", w, text)
						return
					}
					if may(call("write_file", map[string]any{"path": "counter", "content": fmt.Sprintln(n + 1), "if_unchanged": m[1]})) {
						raised.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	if text := servers[0].result(servers[0].await(shell)).text(); !strings.Contains(text, "done") {
		waitFor(t, "the shell", func() bool {
			b, _ := os.ReadFile(shared)
			return strings.Contains(string(b), fmt.Sprintf("shell %d.\n", shellLines))
		})
	}

	b, err := os.ReadFile(shared)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]int{}
	for line := range strings.Lines(string(b)) {
		have[line]++
	}
	want := map[string]int{}
	appended.Range(func(line, done any) bool {
		if done.(bool) {
			want[line.(string)] = 1
		}
		return true
	})
	for w, n := range edits {
		want[fmt.Sprintf("worker %d at %d.\n", w, n)] = 1
	}
	for i := range shellLines {
		want[fmt.Sprintf("shell %d.\n", i+1)] = 1
	}
	lost, extra := 0, 0
	for line, n := range want {
		if have[line] != n {
			if lost++; lost < 10 {
				t.Errorf("%q is there %d times", line, have[line])
			}
		}
	}
	for line := range have {
		if want[line] == 0 {
			if extra++; extra < 10 {
				t.Errorf("%q comes from no acknowledged operation", line)
			}
		}
	}
	expect(t, filepath.Join(root, "counter"), fmt.Sprintln(raised.Load()))
	t.Logf("%d operations, %d refused as conflicts, the counter at %d; %d lines lost, %d of no operation", total, refused.Load(), raised.Load(), lost, extra)
}
