package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// processorTicks is the processor time a process has used, in clock ticks
// (proc(5), utime and stime).
func processorTicks(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}

// hostileTree has names and ignore rules that multiply, and lines that are read
// again and again.
func hostileTree(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	openPath(t, dir)
	if err := os.Mkdir(dir+"/names", 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 20000 {
		put(t, fmt.Sprintf("%s/names/%s-%d", dir, strings.Repeat("a", 60), i), "")
	}
	var rules strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&rules, "**/*a*b*c*d*e*%d*/**/*z\n", i)
	}
	put(t, dir+"/names/.gitignore", rules.String())
	put(t, dir+"/lines", strings.Repeat(strings.Repeat("a", 3000)+"\n", 20000))
	return dir
}

// TestTermEndsHostileWork: a server in the middle of work that a hostile workspace
// or call makes long ends with SIGTERM, and leaves the work.
func TestTermEndsHostileWork(t *testing.T) {
	dir := hostileTree(t)
	for _, w := range []struct {
		tool string
		args map[string]any
	}{
		{"find_files", map[string]any{"pattern": "*-7"}},
		{"find_files", map[string]any{"pattern": "**/*-7", "path": "names"}},
		{"search_text", map[string]any{"pattern": "x", "path": "names"}},
		{"search_text", map[string]any{"pattern": "(a?){900}a{900}b", "path": "lines"}},
	} {
		t.Run(fmt.Sprint(w.tool, " ", w.args["pattern"]), func(t *testing.T) {
			args := []string{"--root", dir}
			if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
				args = append(args, atLandlock()...)
			}
			c := startServer(t, args...)
			c.initialize("2025-06-18")
			c.ok("ls", map[string]any{}) // the session stands
			before := processorTicks(c.cmd.Process.Pid)
			_, answer := c.sendCall(w.tool, w.args)
			waitFor(t, "the work to begin", func() bool {
				return len(answer) > 0 || processorTicks(c.cmd.Process.Pid) > before+20
			})
			if len(answer) > 0 {
				t.Fatalf("answered before it was ended, so nothing is shown: %.300s", c.result(<-answer).text())
			}
			start := time.Now()
			c.signal(syscall.SIGTERM)
			select {
			case <-c.closed:
			case <-time.After(patience):
				t.Fatalf("still there %s after SIGTERM", patience)
			}
			if err := c.cmd.Wait(); err != nil && !strings.Contains(c.stderr.String(), "told to end") {
				t.Errorf("ended with %v: %s", err, c.stderr)
			}
			c.ended.Do(func() {})
			t.Logf("ended %v after SIGTERM", time.Since(start))
		})
	}
}
